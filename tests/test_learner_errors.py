"""Errors of a learner, in its users' words."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import ConfigError, DataError
from maml_tf.learner.learner import Learner
from maml_tf.models import conv_net
from maml_tf.tasks.sources import tasks_from_function

X, Y = np.ones((4, 2)), np.zeros((4, 1))
LABELS = np.array([0, 1, 2, 0])


def net(units=1, activation=None, layers=()):
    return keras.Sequential(
        [
            keras.Input((2,)),
            *layers,
            keras.layers.Dense(units, activation=activation),
        ]
    )


def frozen():
    model = net()
    model.trainable = False
    return model


class Unbuilt(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: "resnet", "model must be a keras.Model. Received: str"),
        (Unbuilt, "has no weights yet. Start it with a keras.Input"),
        (frozen, "has no trainable variables.*trainable=True"),
    ],
)
def test_models_that_cannot_learn(model, message):
    with pytest.raises(ConfigError, match=message):
        Learner(model(), "mse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "sme"}, "Keras has no loss 'sme'"),
        ({"loss": 3}, "loss must be the name of a Keras loss"),
        ({"alpha": 0}, "alpha must be a positive number. Received: alpha=0"),
        ({"alpha": "0.1"}, "alpha must be a positive number"),
        ({"num_steps": 0}, "num_steps must be a whole number, at least 1"),
        ({"adapts": lambda v: False}, "No variable adapts.* some of: .*kernel"),
        ({"metrics": ["accuracy"]}, "accuracy is a metric of classification"),
        ({"metrics": [keras.metrics.Mean()]}, "not a metric of targets"),
        ({"metrics": [3]}, "must be a name or a function"),
        ({"metrics": ["mae", "mae"]}, "need different names"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Learner(net(), **({"loss": "mse"} | arguments))


@pytest.mark.parametrize(
    ("model", "loss", "y", "message"),
    [
        (
            net(2),
            "mse",
            Y,
            r"shape \(4, 2\), so targets must have shape \(4, 2",
        ),
        (
            net(3),
            "sparse_categorical_crossentropy",
            np.eye(4, 3, dtype=int),
            "For one-hot targets use 'categorical_crossentropy'",
        ),
        (
            net(3),
            "categorical_crossentropy",
            LABELS,
            "For integer labels use 'sparse_categorical_crossentropy'",
        ),
        (
            net(3),
            "categorical_crossentropy",
            np.eye(4),
            "last layer as many units as the one-hot targets have classes",
        ),
        (
            net(3),
            keras.losses.SparseCategoricalCrossentropy(),
            LABELS,
            "takes probabilities, but .* outputs are not. .*from_logits=True",
        ),
        (
            net(3, "softmax"),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            LABELS,
            "outputs are probabilities, but .* takes logits",
        ),
        (
            net(3),
            lambda y, outputs: tf.matmul(outputs, outputs),
            LABELS,
            "The loss cannot be computed .* targets of shapes",
        ),
        (
            net(3),
            lambda y, outputs: tf.constant(0.0),
            LABELS,
            "does not depend on any of the network's weights",
        ),
    ],
)
def test_losses_that_do_not_fit_the_outputs(model, loss, y, message):
    if isinstance(loss, keras.losses.Loss) and model.layers[-1].activation:
        model.layers[-1].kernel.assign([[2.0, -1, 3], [1, 0, 2]])
    with pytest.raises(ConfigError, match=message):
        Learner(model, loss).adapt(X, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (LABELS + 0.5, r"integer labels .* float32. Pass y.astype"),
        (LABELS + 1, "must be 0, ..., 2, .* labels from 1 to 3"),
        (LABELS - 1, "labels from -1 to 1"),
        (LABELS * 0 + 1, "support set has examples of one class only"),
        (LABELS[:3], "must have the same number of examples"),
        (list("abcd"), "must be 0, ..., 2, .* labels from 0 to 3"),
        (np.array(1), "need a first axis of examples"),
    ],
)
def test_labels_that_make_no_sense(y, message):
    learner = Learner(net(3), "sparse_categorical_crossentropy")
    with pytest.raises(DataError, match=message):
        learner.adapt(X, y)
    learner.adapt(X, LABELS)  # nor later
    with pytest.raises(DataError, match=r"(?s)" + message + "|must be like"):
        learner.adapt(X, y)


def test_labels_of_tasks_are_looked_at_too():
    learner = Learner(net(3), "sparse_categorical_crossentropy")

    def tasks(bad):
        def task(seed):
            return (X, LABELS), (X, LABELS + (bad and seed == 6))

        return tasks_from_function(task)

    learner.evaluate(tasks(False), 4, 0)
    with pytest.raises(DataError, match="labels from 0 to 3"):
        learner.evaluate(tasks(True), 4, 0)
    one_class = tasks_from_function(lambda seed: ((X, LABELS * 0), (X, LABELS)))
    with pytest.raises(DataError, match="task 0 .* one class only"):
        learner.evaluate(one_class, 4, 0)


def test_a_loss_that_ignores_variables_says_so_once(caplog):
    inputs = keras.Input((2,))
    used = keras.layers.Dense(1, name="used")(inputs)
    unused = keras.layers.Dense(1, name="unused")(inputs)
    learner = Learner(
        keras.Model(inputs, [used, unused]),
        lambda y, outputs: tf.square(outputs[0] - y),
        0.1,
    )
    adapted = learner.adapt(X, Y)
    learner.adapt(X, Y)
    (record,) = [r for r in caplog.records if "ignores" in r.getMessage()]
    assert "unused/kernel, unused/bias" in record.getMessage()
    assert "used/kernel, used" not in record.getMessage().replace("unused", "")
    np.testing.assert_array_equal(adapted.theta[2], learner.theta[2])


def test_a_bias_that_normalization_cancels_is_no_mistake(caplog):
    learner = Learner(conv_net((8, 8, 1), 2), "sparse_categorical_crossentropy")
    images = np.random.default_rng(0).random((4, 8, 8, 1))
    learner.adapt(images, np.array([0, 1, 0, 1]))
    assert "ignores" not in caplog.text


def test_examples_must_be_like_those_before():
    learner = Learner(net(), "mse")
    with pytest.raises(DataError, match=r"cannot take .* takes \(None, 2\)"):
        learner.adapt(np.ones((4, 3)), Y)
    adapted = learner.adapt(X, Y)
    for x in (np.ones(2), np.ones((1, 3)), {"a": X}):
        with pytest.raises(DataError, match=r"inputs must be like .* x\[None"):
            adapted.predict(x)
    with pytest.raises(DataError, match="targets must be like"):
        adapted.evaluate(X, np.zeros((4, 2)))
    with pytest.raises(DataError, match="hold values that are not finite: inf"):
        learner.adapt(X * np.inf, Y)


def test_tasks_must_be_tasks():
    learner = Learner(net(), "mse")
    with pytest.raises(ConfigError, match="must be a stream of tasks.*ndarray"):
        learner.fit(X, 1)
    with pytest.raises(ConfigError, match="iterations must be a whole number"):
        learner.fit(tasks_from_function(lambda seed: None), 0)

    class Wrong:
        def tasks(self, first, count):
            return X

    with pytest.raises(DataError, match=r"must give \(support, query\)"):
        learner.fit(Wrong(), 1)
    grows = tasks_from_function(
        lambda seed: (
            ((np.ones((1 + seed // 9, 2)),) + (np.ones(1 + seed // 9),),) * 2
        )
    )
    with pytest.raises(DataError, match="different numbers of examples: 1, 2"):
        learner.evaluate(grows, 4, 0)


def test_optimizers_that_cannot_be_used():
    learner = Learner(net(), "mse")
    tasks = tasks_from_function(lambda seed: ((X, Y), (X, Y)))
    with pytest.raises(ConfigError, match="must be a Keras optimizer"):
        learner.fit(tasks, 1, optimizer="sdg")
    used = keras.optimizers.SGD()
    used.build(net().trainable_variables)
    with pytest.raises(ConfigError, match="used with other variables"):
        learner.fit(tasks, 1, optimizer=used)


def test_an_operation_without_a_second_derivative():
    tasks = tasks_from_function(lambda seed: ((X, Y), (X, Y)))
    with pytest.raises(ConfigError, match="use first_order=True"):
        Learner(net(activation="softsign"), "mse").fit(tasks, 1)
    first = Learner(net(activation="softsign"), "mse", first_order=True)
    first.fit(tasks, 1, progress=False)
    assert np.isfinite(first.theta[0]).all()


def test_statistics_that_a_model_cannot_use():
    class Mine(keras.layers.BatchNormalization):
        pass

    learner = Learner(net(layers=[Mine(name="mine")]), "mse")
    adapted = learner.adapt(X, Y)
    with pytest.raises(ConfigError, match="mine, a Mine, always normalizes"):
        adapted.predict(X)
    adapted.predict(X, "transductive")
    with pytest.raises(ConfigError, match="statistics must be one of"):
        adapted.predict(X, "moving")


class TestFiles:
    def test_functions_have_to_be_given_again(self, tmp_path):
        def mine(y, outputs):
            return tf.abs(y - outputs)

        learner = Learner(net(), mine, metrics=[mine])
        learner.save(tmp_path / "mine")
        with pytest.raises(ConfigError, match=r"mine among its metrics.*again"):
            Learner.load(tmp_path / "mine", loss=mine)
        with pytest.raises(ConfigError, match=r"load\(path, loss=...\)"):
            Learner.load(tmp_path / "mine", metrics=[mine])
        Learner.load(tmp_path / "mine", loss=mine, metrics=[mine])
        # Keras' own configuration lacks the delta.
        Learner(net(), keras.losses.Huber(0.25)).save(tmp_path / "huber")
        with pytest.raises(ConfigError, match="huber.* among its loss"):
            Learner.load(tmp_path / "huber")

    def test_layers_of_ones_own_have_to_be_given_again(self, tmp_path):
        class Own(keras.layers.Layer):
            def call(self, x):
                return x + 1

        learner = Learner(net(layers=[Own()]), "mse")
        learner.save(tmp_path / "own")
        with pytest.raises(ConfigError, match="custom_objects="):
            Learner.load(tmp_path / "own")
        loaded = Learner.load(tmp_path / "own", custom_objects={"Own": Own})
        np.testing.assert_array_equal(
            loaded.adapt(X, Y).predict(X), learner.adapt(X, Y).predict(X)
        )

    def test_what_is_no_saved_learner(self, tmp_path):
        with pytest.raises(ConfigError, match="is not a saved learner"):
            Learner.load(tmp_path)
        with pytest.raises(ConfigError, match="exists and is not a saved"):
            Learner(net(), "mse").save(tmp_path)
        Learner(net(), "mse").save(tmp_path / "saved")
        settings = tmp_path / "saved" / "learner.json"
        settings.write_text(
            json.dumps(json.loads(settings.read_text()) | {"format": 0})
        )
        with pytest.raises(ConfigError, match="saved in format 0"):
            Learner.load(tmp_path / "saved")
        settings.write_text("{")
        with pytest.raises(ConfigError, match="damaged"):
            Learner.load(tmp_path / "saved")

    def test_an_adapted_model_is_a_keras_file(self, tmp_path):
        adapted = Learner(net(), "mse").adapt(X, Y)
        with pytest.raises(ConfigError, match="as a .keras file"):
            adapted.save(tmp_path / "model.h5")

    def test_models_that_cannot_be_copied(self):
        class Own(keras.layers.Layer):
            def __init__(self, function):
                super().__init__()
                self.function = function

            def call(self, x):
                return self.function(x)

        model = net(layers=[Own(tf.abs)])
        adapted = Learner(model, "mse").adapt(X, Y)
        with pytest.raises(ConfigError, match="cannot be copied .* get_config"):
            adapted.to_keras()
