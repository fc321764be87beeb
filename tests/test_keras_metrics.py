"""Metrics by name and by object, and the precision of what is measured."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses, metrics

from maml_tf.core.batch import Batch
from maml_tf.core.comparison import compared
from maml_tf.core.losses import supervised
from maml_tf.errors import ConfigError, ExperimentError
from maml_tf.learner.learner import Learner
from maml_tf.tasks.sources import tasks_from_function

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 4)).astype("float32")
LABELS = np.arange(8) % 3
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
BITS = (np.arange(8) % 2).astype("float32")
NUMBERS = RNG.normal(size=(8, 3)).astype("float32")


def net(units=3, activation=None, dtype=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, "tanh", dtype=dtype),
            layers.Dense(units, activation, dtype=dtype),
        ]
    )


def measured(model, loss, metric, y):
    """A metric of the network as it is, by `evaluate` of an adapted model."""
    adapted = Learner(model, loss, 0.1, metrics=[metric]).adapt(X, y, 0)
    *_, value = adapted.evaluate(X, y).values()
    return value


def by_keras(metric, y, outputs):
    metric.update_state(y, outputs)
    return float(np.mean(metric.result()))


SPARSE, BINARY = "sparse_categorical_crossentropy", "binary_crossentropy"


@pytest.mark.parametrize(
    ("units", "loss", "y", "metric", "expected", "of"),
    [
        (3, SPARSE, LABELS, "acc", metrics.SparseCategoricalAccuracy, None),
        (
            3,
            SPARSE,
            LABELS,
            "sparse_categorical_accuracy",
            metrics.SparseCategoricalAccuracy,
            None,
        ),
        (3, SPARSE, LABELS, SPARSE, losses.SparseCategoricalCrossentropy, "p"),
        (
            3,
            SPARSE,
            LABELS,
            metrics.SparseTopKCategoricalAccuracy(2),
            lambda: metrics.SparseTopKCategoricalAccuracy(2),
            None,
        ),
        (
            3,
            SPARSE,
            LABELS,
            metrics.MeanIoU(3, sparse_y_pred=False),
            lambda: metrics.MeanIoU(3, sparse_y_pred=False),
            None,
        ),
        (
            3,
            "categorical_crossentropy",
            ONE_HOT,
            "f1_score",
            metrics.F1Score,
            "p",
        ),
        (1, BINARY, BITS, "auc", metrics.AUC, "s"),
        (1, BINARY, BITS, "Precision", metrics.Precision, "s"),
        (1, BINARY, BITS, "binary_accuracy", metrics.BinaryAccuracy, "s"),
        (
            1,
            BINARY,
            BITS,
            metrics.BinaryAccuracy(threshold=0.0),
            metrics.BinaryAccuracy,
            "s",
        ),
        (1, BINARY, BITS, metrics.AUC(from_logits=True), metrics.AUC, "s"),
        (3, "hinge", np.sign(NUMBERS), "accuracy", None, None),
        (3, "mse", NUMBERS, "r2_score", metrics.R2Score, None),
        (
            3,
            "mse",
            NUMBERS,
            metrics.MeanAbsoluteError,
            losses.MeanAbsoluteError,
            None,
        ),
        (3, "mse", NUMBERS, losses.Huber(0.3), lambda: losses.Huber(0.3), None),
        (
            3,
            "mse",
            NUMBERS,
            "RootMeanSquaredError",
            metrics.RootMeanSquaredError,
            None,
        ),
    ],
)
def test_a_metric_is_that_of_keras(units, loss, y, metric, expected, of):
    model = net(units)
    value = measured(model, loss, metric, y)
    outputs = model(X)
    of = {"p": tf.nn.softmax, "s": tf.sigmoid}.get(of, tf.identity)
    outputs = of(outputs)
    if y.ndim == 1 and units == 1:
        y = y[:, None]
    if expected is None:
        right = np.mean((outputs > 0) == (y > 0))
    elif isinstance(expected(), losses.Loss):
        right = float(expected()(y, outputs))
    else:
        right = by_keras(expected(), y, outputs)
    assert value == pytest.approx(right, rel=1e-5)


def test_metrics_of_many_tasks_start_anew_for_each():
    learner = Learner(net(1), BINARY, 0.1, metrics=["auc", metrics.Recall])

    def task(seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(2, 8, 4))
        return (x[0], BITS), (x[1], BITS)

    scores = learner.evaluate(tasks_from_function(task), 3)
    for seed in range(3):
        (x, y), (new_x, new_y) = task_of(tasks_from_function(task), seed)
        adapted = learner.adapt(x, y)
        for name, value in adapted.evaluate(new_x, new_y).items():
            found = scores.values[name][seed, -1]
            assert found == pytest.approx(value, rel=1e-4), name


def task_of(stream, number):
    support, query = stream.tasks(number, 1)
    return tuple(tuple(x[0] for x in part) for part in (support, query))


@pytest.mark.parametrize(
    ("loss", "y", "metric", "message"),
    [
        ("mse", NUMBERS, "accuracy", "is a metric of classification"),
        ("circle", LABELS, "accuracy", "is a metric of classification"),
        (SPARSE, LABELS, "binary_accuracy", "does not fit .* Use 'accuracy'"),
        (SPARSE, LABELS, "acuracy", "Keras has no"),
        (SPARSE, LABELS, metrics.Mean(), "not a metric of targets"),
        (SPARSE, LABELS, metrics.Accuracy, "networks give scores"),
        (SPARSE, LABELS, metrics.MeanIoU(3), "sparse_y_pred=False"),
        (SPARSE, LABELS, "mean_io_u", "needs arguments"),
        (SPARSE, LABELS, metrics.F1Score(), "F1Score|f1_score"),
        (
            BINARY,
            BITS,
            metrics.AUC(),
            "takes probabilities, but .* by its name",
        ),
        (SPARSE, LABELS, "f1_score", "metric f1_score cannot be computed"),
        ("mse", NUMBERS, "auc", "takes probabilities, but .* of mse are not"),
        ("mse", NUMBERS, 3, "must be a name or a function"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(loss, y, metric, message):
    model = net(1 if loss == BINARY else 3)
    with pytest.raises(ConfigError, match=message):
        Learner(model, loss, metrics=[metric]).adapt(X, y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:In loss categorical_crossentropy")
def test_any_metric_gives_a_value_or_one_line():
    kinds = [
        kind
        for kind in vars(metrics).values()
        if inspect.isclass(kind) and issubclass(kind, metrics.Metric)
    ]
    refused = []
    for loss, y in ((SPARSE, LABELS), ("mse", NUMBERS), (BINARY, BITS)):
        model = net(1 if loss == BINARY else 3)
        for kind in kinds:
            for metric in (kind, kind.__name__, kind.__name__.lower()):
                try:
                    value = measured(model, loss, metric, y)
                except ExperimentError as e:
                    refused.append(str(e))
                else:
                    assert isinstance(value, float)
    assert not any("\n" in message for message in refused)


class TestVoid:
    """What has no class is neither right nor wrong."""

    IMAGES = RNG.normal(size=(2, 3, 3, 2)).astype("float32")
    Y = (IMAGES[..., 0] > 0).astype("int32")
    VOID = IMAGES[..., 1] > 0

    def share(self, loss, y):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3, 3, 2)), layers.Conv2D(2, 1)])
        learner = Learner(model, loss, metrics=["accuracy"])
        adapted = learner.adapt(self.IMAGES, y, 0)
        hits = np.argmax(model(self.IMAGES), -1) == self.Y
        stream = tasks_from_function(lambda _: ((self.IMAGES, y),) * 2)
        scores = learner.evaluate(stream, 2, 0).values["accuracy"]
        value = adapted.evaluate(self.IMAGES, y)["accuracy"]
        np.testing.assert_allclose(scores, value, rtol=1e-6)
        return value, hits[~self.VOID].mean()

    @pytest.mark.parametrize("void", [255, -1])
    def test_of_labels(self, void):
        loss = losses.SparseCategoricalCrossentropy(True, ignore_class=void)
        found, expected = self.share(loss, np.where(self.VOID, void, self.Y))
        assert found == pytest.approx(expected)

    def test_of_one_hot(self):
        y = np.eye(3, 2)[np.where(self.VOID, 2, self.Y)]
        found, expected = self.share("categorical_crossentropy", y)
        assert found == pytest.approx(expected)


class TestMasks:
    """Steps that a layer masks do not count, as in Keras' `fit`."""

    @pytest.mark.parametrize("statistics", ["support", "transductive"])
    @pytest.mark.parametrize("loss", ["mse", losses.MeanSquaredError()])
    def test_masked_steps_do_not_count(self, loss, statistics):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((5, 2)), layers.Masking(), layers.Dense(1)]
        )
        x = RNG.normal(size=(3, 5, 2)).astype("float32")
        x[:, 3:] = 0
        y = RNG.normal(size=(3, 5, 1)).astype("float32")
        adapted = Learner(model, loss, 0.1, metrics=["mae"]).adapt(x, y, 0)
        errors = (np.array(model(x)) - y)[:, :3]
        found = adapted.evaluate(x, y, statistics)
        assert found["loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)
        assert found["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)


class TestPrecision:
    """Losses and metrics are computed in float32 at least."""

    @pytest.mark.parametrize(
        ("policy", "error"),
        [
            ("mixed_float16", 1e-6),
            ("mixed_bfloat16", 1e-6),
            ("float16", 1e-6),
            ("float64", 1e-12),
        ],
    )
    def test_by_name_and_by_object_alike(self, policy, error):
        model = net(dtype=policy)
        kind = losses.SparseCategoricalCrossentropy
        reference = kind(from_logits=True, dtype="float64")
        expected = float(reference(LABELS, tf.cast(model(X), "float64")))
        for loss in (SPARSE, kind(from_logits=True)):
            learner = Learner(model, loss, 0.1, metrics=[SPARSE, "accuracy"])
            found = learner.adapt(X, LABELS, 1)
            assert found.losses[0] == pytest.approx(expected, rel=error)
            values = learner.adapt(X, LABELS, 0).evaluate(X, LABELS)
            assert values["loss"] == pytest.approx(expected, rel=error)
            assert values[SPARSE] == pytest.approx(expected, rel=error)

    def test_what_is_measured_of_float16(self):
        learner = Learner(net(dtype="float16"), SPARSE, 0.1)
        stream = tasks_from_function(lambda _: ((X, LABELS),) * 2)
        values = learner.evaluate(stream, 1, 1).values["loss"]
        assert values.dtype == np.float32
        assert values[0, 1] < values[0, 0]

    def test_mixed_float16_is_trained(self):
        learner = Learner(net(dtype="mixed_float16"), SPARSE, 0.1)
        stream = tasks_from_function(lambda _: ((X, LABELS),) * 2)
        adam = keras.optimizers.Adam(0.05)
        learner.fit(
            stream, 20, meta_batch_size=1, optimizer=adam, progress=False
        )
        assert learner.evaluate(stream, 1, 1).mean() < 0.5

    def test_probabilities_of_low_precision_are_probabilities(self):
        for policy in ("mixed_float16", "mixed_bfloat16"):
            model = net(activation="softmax", dtype=policy)
            Learner(model, SPARSE).adapt(X, LABELS)

    def test_huber_keeps_its_delta_in_float64(self):
        loss = losses.Huber(0.25)
        found = compared(loss, np.float64([[3.0]]), tf.zeros([1, 1], "float64"))
        assert found.dtype == tf.float64
        assert float(found) == 0.25 * (3.0 - 0.125)
        assert loss.dtype == "float32"

    def test_what_layers_add_has_another_precision(self):
        model = keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(1, kernel_regularizer="l2", dtype="mixed_float16"),
                layers.ActivityRegularization(0.1, dtype="mixed_float16"),
            ]
        )
        theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
        loss = supervised(model, losses.MeanSquaredError())
        assert loss(theta, Batch(X, BITS[:, None])).dtype == tf.float32
