"""Whose statistics batch normalization uses: four modes, one network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_methods import blobs

from maml_tf.core.population import take_statistics
from maml_tf.core.prediction import STATISTICS, Appended, Jointly, predict
from maml_tf.errors import ConfigError, ExportError
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.settings import EvaluationSettings
from maml_tf.layers.normalization import BatchNormalization
from maml_tf.learner.learner import Learner
from maml_tf.methods.maml import MAML
from maml_tf.methods.prototypical import PrototypicalNetworks

SPARSE = "sparse_categorical_crossentropy"


def normalized(outputs=3):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(6),
            BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(outputs),
        ]
    )


def set_of(task, name):
    batch = getattr(task, name)
    return batch.inputs[0], batch.targets[0]


@pytest.fixture(scope="module")
def stream():
    return blobs(3)


@pytest.fixture(scope="module")
def learner(stream):
    learner = Learner(normalized(), SPARSE, method=PrototypicalNetworks())
    learner.measure_population(stream, 60)
    return learner


def test_jointly_both_sets_are_one_batch():
    model = normalized()
    theta = [v.value for v in model.trainable_variables]
    x, y = np.random.default_rng(0).standard_normal((2, 4, 2)).astype("f")
    found = predict(model, theta, x, reference=Jointly(y))
    expected = predict(model, theta, np.concatenate([x, y]))[:4]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_appended_each_is_a_batch_with_the_others():
    model = normalized()
    theta = [v.value for v in model.trainable_variables]
    x, y = np.random.default_rng(0).standard_normal((2, 4, 2)).astype("f")
    found = predict(model, theta, x, reference=Appended(y))
    for one, output in zip(x, found, strict=True):
        both = predict(model, theta, np.concatenate([y, one[None]]))
        np.testing.assert_allclose(output, both[-1], rtol=1e-4, atol=1e-6)


def test_the_population_is_the_mean_of_batches():
    model = normalized()
    x = np.random.default_rng(0).standard_normal((3, 5, 2)).astype("f")
    take_statistics(model, x)
    hidden = np.array([model.layers[0](batch) for batch in x])
    norm = model.layers[1]
    assert norm.momentum == 0.99
    np.testing.assert_allclose(
        norm.moving_mean, hidden.mean((0, 1)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        norm.moving_variance, hidden.var(1).mean(0), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("statistics", "alone"),
    [
        ("transductive", False),
        ("joint", False),
        ("support", True),
        ("appended", True),
        ("population", True),
    ],
)
def test_evaluation_and_adapted_models_agree(
    learner, stream, statistics, alone
):
    task = stream.tasks(0, 1)
    adapted = learner.adapt(*set_of(task, "support"))
    x, y = set_of(task, "query")
    found = adapted.evaluate(x, y, statistics)
    scores = learner.evaluate(stream, 1, statistics=statistics)
    assert scores.statistics == statistics
    assert found["loss"] == pytest.approx(scores.values["loss"][0, 0], rel=1e-4)
    together = adapted.predict(x, statistics)[:2]
    two = adapted.predict(x[:2], statistics)
    assert np.allclose(together, two, rtol=1e-4, atol=1e-5) == alone


def test_the_population_normalizes_the_support_set_too(learner, stream):
    x, y = set_of(stream.tasks(0, 1), "support")
    embedded = learner.model(x, training=False).numpy()
    prototypes = [embedded[y == n].mean(0) for n in range(3)]
    query = np.ones((1, 2), "f")
    distances = learner.model(query, training=False).numpy() - prototypes
    np.testing.assert_allclose(
        learner.adapt(x, y).predict(query, "population")[0],
        -(distances**2).sum(-1),
        rtol=1e-4,
    )


def test_a_population_of_other_weights_is_refused(stream):
    learner = Learner(normalized(), SPARSE, method=MAML())
    with pytest.raises(ConfigError, match="Call learner.measure_population"):
        learner.evaluate(stream, 1, statistics="population")
    adapted = learner.adapt(*set_of(stream.tasks(0, 1), "support"))
    with pytest.raises(ConfigError, match="and adapt then"):
        adapted.predict(np.ones((1, 2), "f"), "population")
    learner.measure_population(stream, 10)
    learner.evaluate(stream, 1, statistics="population")
    learner.fit(stream, 1, meta_batch_size=1, progress=False)
    with pytest.raises(ConfigError, match="Call learner.measure_population"):
        learner.evaluate(stream, 1, statistics="population")


def test_a_saved_learner_keeps_the_population(learner, stream, tmp_path):
    learner.save(tmp_path / "saved")
    loaded = Learner.load(tmp_path / "saved")
    np.testing.assert_array_equal(
        loaded.evaluate(stream, 2, statistics="population").values["loss"],
        learner.evaluate(stream, 2, statistics="population").values["loss"],
    )


@pytest.mark.parametrize("statistics", ["population", "appended"])
def test_an_export_uses_them(learner, stream, tmp_path, statistics):
    task = stream.tasks(0, 1)
    adapted = learner.adapt(*set_of(task, "support"))
    with pytest.raises(ExportError, match="joint"):
        learner.export(tmp_path / "exported", statistics="joint")
    learner.export(tmp_path / "exported", statistics=statistics)
    loaded = tf.saved_model.load(tmp_path / "exported")
    x, _ = set_of(task, "query")
    support_x, support_y = set_of(task, "support")
    found = loaded.signatures["adapt_and_predict"](
        support_inputs=tf.constant(support_x),
        support_targets=tf.constant(support_y),
        query_inputs=tf.constant(x),
    )
    np.testing.assert_allclose(
        found["logits"], adapted.predict(x, statistics), rtol=1e-4, atol=1e-5
    )


def test_the_table_names_the_statistics():
    source = find_source("glyphs")
    config = source.configure(method="protonet", num_filters=2)
    experiment = source.build(config, None)
    shown = STATISTICS
    settings = EvaluationSettings(shots=(1,), statistics=shown, num_tasks=2)
    found = experiment.evaluate(settings, trained=True)
    assert [e.statistics for e in found] == list(shown)
