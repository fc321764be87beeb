"""Options of MAML: golden values, closed forms, finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import error_of, parse
from test_methods import blobs

from maml_tf.cli.settings import config_from_flags
from maml_tf.core.batch import Batch
from maml_tf.core.losses import squared_error
from maml_tf.core.maml import Task
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError
from maml_tf.layers.normalization import BatchNormalization
from maml_tf.learner.learner import Learner
from maml_tf.methods.by_step import scaled
from maml_tf.methods.maml import MAML
from maml_tf.methods.outer_loss import step_weights


def small(normalized=False):
    """Two inputs, three hidden units, one output."""
    keras.utils.set_random_seed(0)
    norm = [BatchNormalization()] if normalized else []
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(3, "tanh"),
            *norm,
            keras.layers.Dense(1),
        ]
    )
    return Network(model, squared_error)


def one_task(num_queries=4):
    """Its inputs are float64 that Keras can cast to float32 exactly."""
    rng = np.random.default_rng(0)
    return Task(
        *(
            Batch(
                tf.constant(rng.normal(size=(count, 2)).astype("f"), "float64"),
                tf.constant(rng.standard_normal((count, 1))),
            )
            for count in (4, num_queries)
        )
    )


def params_of(network, method, spread=0.0):
    """Theta and what the method adds, away from where it starts."""
    rng = np.random.default_rng(1)
    more = [
        v.numpy() + spread * rng.standard_normal(v.shape)
        for v in method.variables(network)
    ]
    return [*network.theta, *map(tf.constant, more)]


def by_differences(method, network, params, task, loss, iteration=None):
    """Compares the meta-gradient with the slope of `loss` of params."""
    rng = np.random.default_rng(2)
    direction = [rng.standard_normal(t.shape) for t in params]
    more = () if iteration is None else (iteration,)
    found = method.task_gradient(network, params, task, *more).gradient
    assert len(found) == len(params)
    slope = sum(
        float(tf.reduce_sum(g * d))
        for g, d in zip(found, direction, strict=True)
    )

    def at(step):
        moved = [t + step * d for t, d in zip(params, direction, strict=True)]
        return float(loss(moved))

    expected = (at(1e-6) - at(-1e-6)) / 2e-6
    assert slope == pytest.approx(expected, rel=1e-6, abs=1e-9)


def adapted(method, network, params, task, num_steps):
    """The weights after some updates, as evaluation computes them."""
    state = method.begin(network, params, task.support)
    for _ in range(num_steps):
        state, _ = method.update(network, state, task.support, method.alpha)
    return method.weights(state)


def query_losses(method, network, params, task):
    return [
        network.loss(adapted(method, network, params, task, n), task.query)
        for n in range(1, method.num_steps + 1)
    ]


class TestRates:
    def test_by_hand(self, float64):
        """(theta - 1)^2 at 3, rates 0.1 and 0.2: 3, 2.6, 1.96."""
        model = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
        )
        network = Network(model, squared_error)
        method = MAML(0.1, 2, learn_rates=True).bind(network)
        batch = Batch(tf.ones((1, 1), "float64"), tf.ones((1, 1), "float64"))
        task = Task(batch, batch)
        theta, v = tf.constant([[3.0]], "float64"), tf.constant([1.0, 1.1])
        params = [theta, tf.cast(v, "float64")]
        found = [
            float(adapted(method, network, params, task, n)[0][0, 0])
            for n in range(4)
        ]
        # Updates after the last of training take its rate.
        assert found == pytest.approx([3, 2.6, 1.96, 1.576], rel=1e-6)
        gradient = method.task_gradient(network, params, task).gradient
        # theta' - 1 = 2 (1 - 0.2 (1 + 10 (v1 - 1))) (1 - 0.2 (1 + ...v2))
        assert float(gradient[0][0, 0]) == pytest.approx(
            2 * 0.96 * 0.48, rel=1e-6
        )
        np.testing.assert_allclose(
            gradient[1],
            [2 * 0.96 * 2 * -2 * 0.6, 2 * 0.96 * 2 * -2 * 0.8],
            rtol=1e-6,
        )

    def test_the_parameterization(self):
        rates = scaled(0.1, tf.constant([0.9, 1.0, 1.05]))
        np.testing.assert_allclose(rates, [0.0, 0.1, 0.15], atol=1e-7)

    def test_finite_differences(self, float64):
        network, task = small(), one_task()
        method = MAML(0.1, 3, learn_rates=True).bind(network)
        params = params_of(network, method, 0.05)
        by_differences(
            method,
            network,
            params,
            task,
            lambda p: query_losses(method, network, p, task)[-1],
        )

    def test_step_sizes_of_the_user_are_scaled(self, float64):
        network, task = small(), one_task()
        method = MAML(0.1, 2, learn_rates=True).bind(network)
        params = params_of(network, method, 0.05)
        halves = []
        for alpha in (0.05, [0.05] * 4):
            state = method.begin(network, params, task.support)
            state, _ = method.update(network, state, task.support, alpha)
            halves.append(state.theta)
        whole = adapted(method, network, params, task, 1)
        for half, same, all_of_it, start in zip(
            *halves, whole, params, strict=False
        ):
            np.testing.assert_array_equal(half, same)
            np.testing.assert_allclose(
                2 * (half - start), all_of_it - start, atol=1e-12
            )


class TestNormByStep:
    def test_finite_differences(self, float64):
        network, task = small(normalized=True), one_task()
        method = MAML(0.1, 3, norm_by_step=True, learn_rates=True)
        method = method.bind(network)
        params = params_of(network, method, 0.05)
        assert len(params) == len(network.theta) + 4 + 2
        by_differences(
            method,
            network,
            params,
            task,
            lambda p: query_losses(method, network, p, task)[-1],
        )

    def test_a_query_after_an_update_takes_that_updates_values(self, float64):
        network, task = small(normalized=True), one_task()
        method = MAML(0.1, 2, norm_by_step=True).bind(network)
        theta = network.theta
        later = [x * tf.ones((1, 3), "float64") for x in (2, 1)]
        for num_steps, value in ((0, 0), (1, 0), (2, 1), (3, 1)):
            found = adapted(method, network, [*theta, *later], task, num_steps)
            np.testing.assert_array_equal(found[3], [value] * 3)
            np.testing.assert_array_equal(found[2], [1 + value] * 3)


@pytest.mark.parametrize(
    "options", [{"learn_rates": True}, {"norm_by_step": True}]
)
def test_equal_rates_and_norms_are_plain_maml(options, float64):
    network, task = small(normalized=True), one_task()
    plain = MAML(0.1, 2).bind(network)
    method = MAML(0.1, 2, **options).bind(network)
    expected = plain.task_gradient(network, network.theta, task)
    found = method.task_gradient(network, params_of(network, method), task)
    for name, loss in expected.losses.items():
        assert float(found.losses[name]) == pytest.approx(float(loss))
    gradient = [g.numpy() for g in found.gradient[:6]]
    if "norm_by_step" in options:
        # The shared ones have the gradients of both updates.
        for place, later in zip((2, 3), found.gradient[6:], strict=True):
            gradient[place] += tf.reduce_sum(later, axis=0)
    for a, b in zip(gradient, expected.gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


class TestOuterLoss:
    @pytest.mark.parametrize(
        ("progress", "expected"),
        [
            (0.0, [0.2, 0.2, 0.2, 0.2, 0.2]),
            (0.5, [0.1, 0.1, 0.1, 0.1, 0.6]),
            (1.0, [0.006, 0.006, 0.006, 0.006, 0.976]),
        ],
    )
    def test_weights_of_the_authors_code(self, progress, expected):
        weights = step_weights(5, tf.constant(progress))
        np.testing.assert_allclose(weights, expected, rtol=1e-5)

    @pytest.mark.parametrize("iteration", [0, 5, 10])
    def test_multi_step_loss(self, iteration, float64):
        network, task = small(), one_task()
        method = MAML(0.1, 3, multi_step_iterations=10).bind(network)
        assert method.anneals
        weights = step_weights(3, tf.constant(iteration / 10, "float64"))
        if iteration == 10:
            weights = tf.constant([0.0, 0.0, 1.0], "float64")
        by_differences(
            method,
            network,
            network.theta,
            task,
            lambda p: tf.tensordot(
                weights, query_losses(method, network, p, task), 1
            ),
            tf.constant(iteration),
        )

    def test_first_order_until(self, float64):
        network, task = small(), one_task()
        method = MAML(0.1, 2, first_order_iterations=7).bind(network)
        for iteration, first_order in ((6, True), (7, False)):
            found = method.task_gradient(
                network, network.theta, task, tf.constant(iteration)
            )
            plain = MAML(0.1, 2, first_order=first_order).bind(network)
            expected = plain.task_gradient(network, network.theta, task)
            for a, b in zip(found.gradient, expected.gradient, strict=True):
                np.testing.assert_array_equal(a, b)

    def test_query_sets_are_normalized_each_by_itself(self, float64):
        network, task = small(normalized=True), one_task(num_queries=6)
        three = MAML(0.1, 1, train_query_sets=3).bind(network)
        found = three.task_gradient(network, network.theta, task)
        plain = MAML(0.1, 1).bind(network)
        apart = []
        for first in (0, 2, 4):
            query = Batch(*(x[first : first + 2] for x in task.query))
            apart.append(
                plain.task_gradient(
                    network, network.theta, task._replace(query=query)
                )
            )
        for name in found.losses:
            expected = np.mean([x.losses[name] for x in apart])
            assert float(found.losses[name]) == pytest.approx(expected)
        for i, gradient in enumerate(found.gradient):
            np.testing.assert_allclose(
                gradient, np.mean([x.gradient[i] for x in apart], axis=0)
            )


class TestZeroHead:
    def test_it_is_zero_and_stays_so(self):
        model = small().model
        learner = Learner(model, "mse", method=MAML(0.1, 1, zero_head=True))
        head = model.layers[-1]
        np.testing.assert_array_equal(head.kernel, np.zeros((3, 1)))
        task = one_task()
        batch = [x.numpy().astype("f") for x in task.support]
        adapted = learner.adapt(*batch, num_steps=0)
        assert not np.any(adapted.predict(batch[0]))
        assert np.any(learner.adapt(*batch).theta[2])

    def test_its_meta_gradient(self, float64):
        network, task = small(), one_task()
        method = MAML(0.1, 2, zero_head=True).bind(network)
        params = [t + 1.0 for t in network.theta]
        by_differences(
            method,
            network,
            params,
            task,
            lambda p: query_losses(method, network, p, task)[-1],
        )
        found = method.task_gradient(network, params, task).gradient
        for gradient in found[2:]:
            np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))
        assert np.any(found[0])


def test_only_the_head_adapts(float64):
    network, task = small(), one_task()
    method = MAML(0.1, 2, head_only=True, learn_rates=True).bind(network)
    params = params_of(network, method, 0.05)
    assert len(params) == 4 + 2
    found = adapted(method, network, params, task, 2)
    for moves, before, after in zip(
        (False, False, True, True), params, found, strict=False
    ):
        assert np.any(before != after) == moves
    by_differences(
        method,
        network,
        params,
        task,
        lambda p: query_losses(method, network, p, task)[-1],
    )
    features = tf.tanh(task.support.inputs @ params[0] + params[1]).numpy()
    residuals = features @ params[2] + params[3] - task.support.targets
    one = adapted(method, network, params[:4] + [np.ones(2)] * 2, task, 1)
    np.testing.assert_allclose(
        one[2], params[2] - 0.1 * 2 / 4 * features.T @ residuals, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_only": True, "adapts": lambda v: True}, "head_only says what"),
        ({"first_order": True, "first_order_iterations": 5}, "leave it out"),
        ({"multi_step_iterations": 5}, "num_steps=1 has one only"),
        ({"norm_by_step": True}, "num_steps=1 has one only"),
        ({"multi_step_iterations": -1}, "multi_step_iterations must be"),
        ({"train_query_sets": 0}, "train_query_sets must be"),
    ],
)
def test_options_without_meaning_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        MAML(0.1, **options)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (MAML(0.1, 2, norm_by_step=True), "norm_by_step is for offsets"),
        (
            MAML(zero_head=True, adapts=lambda v: v.shape == (2, 3)),
            "zero_head is for a head that adapts",
        ),
    ],
)
def test_options_that_do_not_fit_the_network_are_refused(method, message):
    with pytest.raises(ConfigError, match=message):
        method.bind(small())


def test_query_sets_of_unequal_sizes_are_refused(float64):
    network = small()
    method = MAML(train_query_sets=3).bind(network)
    with pytest.raises(ConfigError, match="train_query_sets=3 of equal sizes"):
        method.task_gradient(network, network.theta, one_task(4))


ALL = {
    "learn_rates": True,
    "norm_by_step": True,
    "zero_head": True,
    "train_query_sets": 3,
    "multi_step_iterations": 4,
}


def classifier():
    """With a convolution, so that XLA need not compile it."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Reshape((1, 1, 2)),
            keras.layers.Conv2D(8, 1),
            BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def learner():
    return Learner(
        classifier(),
        "sparse_categorical_crossentropy",
        method=MAML(0.1, 2, **ALL),
        metrics=["accuracy"],
    )


@pytest.fixture(scope="module")
def trained():
    found = learner()
    found.fit(
        blobs(3),
        60,
        meta_batch_size=2,
        optimizer=keras.optimizers.Adam(0.01),
        progress=False,
    )
    return found


def test_with_all_options_it_learns(trained):
    scores = trained.evaluate(blobs(3), 20, 4, statistics="transductive")
    assert scores.mean("accuracy") > 0.8
    rates, *_, norms = trained.method_variables
    assert not np.allclose(rates, 1)
    assert not np.allclose(norms, trained.theta[3])
    assert not np.any(trained.model.layers[-1].kernel)


def test_it_goes_on_exactly_where_it_stopped(tmp_path):
    """After iteration 3; annealing ends at 4."""
    whole = learner()
    whole.fit(
        blobs(3), 6, meta_batch_size=2, directory=tmp_path / "a", progress=False
    )
    for iterations in (3, 6):
        resumed = learner()
        resumed.fit(
            blobs(3),
            iterations,
            meta_batch_size=2,
            directory=tmp_path / "b",
            progress=False,
        )
    for a, b in zip(whole.params, resumed.params, strict=True):
        np.testing.assert_array_equal(a, b)


def test_saved_loaded_and_exported_it_predicts_the_same(trained, tmp_path):
    trained.save(tmp_path / "saved")
    loaded = Learner.load(tmp_path / "saved")
    assert loaded.method == trained.method
    task = tf.nest.map_structure(lambda x: x[0], blobs(3).tasks(0, 1))
    trained.export(tmp_path / "exported")
    served = tf.saved_model.load(tmp_path / "exported").signatures
    support = {
        "support_inputs": tf.constant(task.support.inputs),
        "support_targets": tf.constant(task.support.targets, tf.int32),
    }
    query = {
        "query_inputs": tf.constant(task.query.inputs),
        "support_inputs": support["support_inputs"],
    }
    for num_steps in (0, 1, 3):
        expected = trained.adapt(*task.support, num_steps=num_steps).predict(
            task.query.inputs
        )
        np.testing.assert_array_equal(
            loaded.adapt(*task.support, num_steps=num_steps).predict(
                task.query.inputs
            ),
            expected,
        )
        state = served["adapt"](**support, num_updates=tf.constant(num_steps))
        found = served["predict_adapted"](**state, **query)
        np.testing.assert_allclose(
            found["logits"], expected, rtol=1e-3, atol=1e-4
        )
        if num_steps == 0:
            np.testing.assert_allclose(
                served["predict"](**query)["logits"], expected, atol=1e-5
            )


def test_presets():
    def asked_for(*flags):
        parse(*flags)
        return config_from_flags()

    twenty = asked_for("--preset=omniglot_20way")
    assert (twenty.datasource, twenty.num_ways) == ("omniglot", 20)
    assert (twenty.alpha, twenty.num_steps) == (0.1, 5)
    assert twenty.first_order
    assert not twenty.max_pool
    own = twenty.method_settings
    assert own["zero_head"]
    assert own["learn_rates"]
    assert own["train_query_sets"] == 5
    other = asked_for(
        "--preset=omniglot_20way",
        "--datasource=glyphs",
        "--nostop_grad",
        "--train_query_sets=2",
    )
    assert other.datasource == "glyphs"
    assert not other.first_order
    assert other.method_settings == own | {"train_query_sets": 2}
    plus = asked_for("--preset=maml_plus_plus", "--num_classes=20")
    assert plus.alpha == pytest.approx(0.005)
    assert plus.method_settings["multi_step_iterations"] == 5000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--preset=none", "--preset must be one of omniglot_20way"),
        (
            "--preset=maml_plus_plus --datasource=sinusoid",
            "--preset=maml_plus_plus is for images",
        ),
        (
            "--preset=omniglot_20way --method=reptile",
            "--stop_grad does not go with --method=reptile",
        ),
        (
            "--preset=omniglot_20way --head_init=0.1",
            "--zero_head sets the head to zero; leave out --head_init",
        ),
        (
            "--datasource=point --meta_lr_schedule=cosine",
            "--meta_lr_schedule is for",
        ),
        (
            "--datasource=glyphs --method=protonet --head_init=0.1",
            "--head_init is of the last layer",
        ),
    ],
)
def test_flags_that_do_not_go_together_end_in_one_line(flags, message):
    assert message in error_of(*flags.split())
