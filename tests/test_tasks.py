"""Tasks are values: a function of (seed, index) alone."""

import numpy as np
import pytest

from maml_tf.tasks.sinusoids import AMPLITUDES, INPUTS, PHASES, Sinusoids
from maml_tf.uniforms import uniforms


def arrays(task):
    return [*task.support, *task.query]


def test_rows_do_not_depend_on_how_they_are_asked_for():
    whole = uniforms(7, 3, 0, 50, 6)
    np.testing.assert_array_equal(whole[20:30], uniforms(7, 3, 20, 10, 6))
    np.testing.assert_array_equal(whole[49:50], uniforms(7, 3, 49, 1, 6))
    np.testing.assert_array_equal(whole[:, :5], uniforms(7, 3, 0, 50, 5))


@pytest.mark.parametrize("other", [(8, 3, 0), (7, 4, 0), (7, 3, 50)])
def test_seeds_streams_and_rows_differ(other):
    assert not np.isin(uniforms(7, 3, 0, 50, 4), uniforms(*other, 50, 4)).any()


def test_rows_are_uniform():
    sample = uniforms(0, 0, 0, 20_000, 4)
    assert ((sample >= 0) & (sample < 1)).all()
    counts, _ = np.histogram(sample, bins=20, range=(0, 1))
    expected = sample.size / 20
    assert (((counts - expected) ** 2) / expected).sum() < 50  # chi2, 19 dof


@pytest.mark.parametrize("oracle", [False, True])
def test_sinusoids_do_not_depend_on_how_they_are_asked_for(oracle):
    stream = Sinusoids(5, seed=1, oracle=oracle)
    one_by_one = [stream.tasks(i, 1) for i in range(3, 7)]
    together = stream.tasks(3, 4)
    for k, array in enumerate(arrays(together)):
        np.testing.assert_array_equal(
            array, np.concatenate([arrays(t)[k] for t in one_by_one])
        )


def test_support_and_query_lie_on_the_tasks_sinusoid():
    stream = Sinusoids(10, seed=2)
    amplitudes, phases = stream.curves(0, 100)
    task = stream.tasks(0, 100)
    for batch in task:
        assert batch.inputs.shape == batch.targets.shape == (100, 10, 1)
        assert batch.inputs.dtype == batch.targets.dtype == np.float32
        expected = amplitudes * np.sin(batch.inputs[..., 0] - phases)
        np.testing.assert_allclose(batch.targets[..., 0], expected, atol=1e-5)
    assert not np.isin(task.query.inputs, task.support.inputs).any()


def test_ranges_are_the_papers():
    stream = Sinusoids(10)
    amplitudes, phases = stream.curves(0, 5000)
    inputs = stream.tasks(0, 5000).support.inputs
    for values, (low, high) in (
        (amplitudes, AMPLITUDES),
        (phases, PHASES),
        (inputs, INPUTS),
    ):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.05)
    assert (AMPLITUDES, INPUTS) == ((0.1, 5.0), (-5.0, 5.0))
    assert (0.0, np.pi) == PHASES


def test_predicting_zero_costs_what_the_ranges_imply():
    targets = Sinusoids(10).tasks(0, 20_000).query.targets
    assert np.mean(targets**2) == pytest.approx(4.26, abs=0.1)


def test_the_oracle_sees_amplitude_and_phase():
    stream = Sinusoids(5, oracle=True)
    amplitudes, phases = stream.curves(0, 3)
    inputs = stream.tasks(0, 3).query.inputs
    assert inputs.shape == (3, 5, 3)
    np.testing.assert_allclose(
        inputs[:, :, 1], amplitudes.repeat(5, 1), rtol=1e-6
    )
    np.testing.assert_allclose(inputs[:, :, 2], phases.repeat(5, 1), rtol=1e-6)


def test_a_task_is_the_same_sinusoid_for_any_number_of_points():
    np.testing.assert_array_equal(
        Sinusoids(5).curves(0, 9), Sinusoids(20).curves(0, 9)
    )


def test_splits_share_no_task():
    curves = [
        Sinusoids(5, split=s).curves(0, 1000)[0]
        for s in ("train", "validation", "test")
    ]
    assert np.unique(np.concatenate(curves)).size == 3000
