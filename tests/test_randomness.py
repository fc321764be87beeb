"""Random layers: fresh for each task and call, reproducible, held, or off."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_tf
from maml_tf.core.prediction import predict
from maml_tf.errors import ConfigError
from maml_tf.layers.randomness import drawing_for, generators_of

LAYERS = keras.layers
IMAGES = np.random.default_rng(0).random((4, 8, 8, 3), dtype="float32")
# All of Keras' that take images and return images.
RANDOM = [
    LAYERS.Dropout(0.5),
    LAYERS.AlphaDropout(0.5),
    LAYERS.SpatialDropout2D(0.5),
    LAYERS.GaussianDropout(0.5),
    LAYERS.GaussianNoise(1.0),
    LAYERS.RandomFlip(),
    LAYERS.RandomRotation(0.5),
    LAYERS.RandomTranslation(0.5, 0.5),
    LAYERS.RandomZoom(0.5),
    LAYERS.RandomShear(0.5, 0.5),
    LAYERS.RandomBrightness(0.5, value_range=(0, 1)),
    LAYERS.RandomContrast(0.5, value_range=(0, 1)),
    LAYERS.RandomErasing(1.0, value_range=(0, 1)),
    LAYERS.RandomHue(0.5, value_range=(0, 1)),
    LAYERS.RandomSaturation(0.9, value_range=(0, 1)),
    LAYERS.RandomColorJitter((0, 1), brightness_factor=0.5),
    LAYERS.RandomGaussianBlur(sigma=1.0, value_range=(0, 1)),
]


def alone(layer):
    return keras.Sequential([keras.Input(IMAGES.shape[1:]), layer])


def drawn(model, task, calls=1):
    with drawing_for(task):
        results = [predict(model, [], IMAGES).numpy() for _ in range(calls)]
    return results[-1]


@pytest.mark.parametrize("layer", RANDOM, ids=lambda x: x.name)
def test_draws_differ_by_task_and_call_and_come_again(layer):
    model = alone(layer)
    assert generators_of(model)
    first = drawn(model, 0)
    np.testing.assert_array_equal(drawn(model, 0), first)
    others = [drawn(model, 1), drawn(model, 2), drawn(model, 0, calls=2)]
    assert sum(np.abs(x - first).max() > 1e-3 for x in others) >= 2
    np.testing.assert_array_equal(predict(model, [], IMAGES), IMAGES)


def test_layers_of_equal_seeds_draw_different_numbers():
    inputs = keras.Input(IMAGES.shape[1:])
    noise = [LAYERS.GaussianNoise(1.0, seed=1)(inputs) for _ in range(2)]
    model = keras.Model(inputs, noise)
    with drawing_for(0):
        first, second = predict(model, [], IMAGES)
    assert np.abs(first - second).max() > 0.1


def test_masks_differ_by_example_and_have_their_rate():
    model = keras.Sequential([keras.Input((1000,)), LAYERS.Dropout(0.3)])
    with drawing_for(5):
        outputs = predict(model, [], np.ones((2, 1000), "float32")).numpy()
    assert set(np.unique(outputs)) == {0, np.float32(1 / 0.7)}
    assert abs((outputs == 0).mean() - 0.3) < 0.05
    assert abs((outputs[0] == outputs[1]).mean() - 0.58) < 0.07


@pytest.mark.parametrize(
    "layer",
    [
        LAYERS.Dropout(0.0),
        LAYERS.GaussianNoise(0.0),
        LAYERS.Rescaling(2.0),
    ],
    ids=lambda x: x.name,
)
def test_layers_that_draw_nothing_take_no_seeds(layer):
    assert not generators_of(alone(layer))


def test_recurrent_cells_draw_if_they_drop():
    for rate in (0.0, 0.4):
        model = keras.Sequential(
            [keras.Input((3, 2)), LAYERS.LSTM(2, recurrent_dropout=rate)]
        )
        assert len(generators_of(model)) == bool(rate)


def network(*layers):
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [
            keras.Input((3,)),
            LAYERS.Dense(16, "tanh"),
            *layers,
            LAYERS.Dense(1),
        ]
    )


def task(seed):
    rng = np.random.default_rng(seed)
    slope, x = rng.normal(size=3), rng.normal(size=(2, 6, 3))
    return tuple((part, part @ slope[:, np.newaxis]) for part in x)


STREAM = maml_tf.tasks_from_function(task)


def test_the_meta_gradient_with_the_numbers_held_is_exact():
    batches = [
        maml_tf.Batch(*(x.astype("float32") for x in part)) for part in task(0)
    ]
    model = network(
        LAYERS.Dropout(0.5), LAYERS.GaussianNoise(0.1), LAYERS.Dense(4)
    )
    found = maml_tf.check_meta_gradient(
        model,
        keras.losses.MeanSquaredError(),
        maml_tf.Task(*batches),
        alpha=0.1,
        num_steps=2,
    )
    assert found.relative_error < 1e-6 < found.first_order_error


def test_updates_and_sets_draw_different_numbers():
    model = network(LAYERS.Dropout(0.5))
    loss = maml_tf.mean_squared_error(model)
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    support = maml_tf.Batch(*(x.astype("float32") for x in task(0)[0]))

    def losses():
        adapted = maml_tf.adapt(loss, theta, [support] * 3, 0.0)
        return [float(x) for x in (*adapted.losses, loss(theta, support))]

    with drawing_for(0):
        first = losses()
    assert len(set(first)) == 4
    with drawing_for(0):
        assert losses() == first
    assert len(set(losses())) == 1  # off


def fitted(model, *lengths, **kwargs):
    learner = maml_tf.Learner(model, "mse", alpha=0.05)
    for length in lengths:
        learner.fit(STREAM, length, meta_batch_size=2, progress=False, **kwargs)
    return learner


def weights(learner):
    return np.concatenate([w.ravel() for w in learner.model.get_weights()])


def test_training_is_reproducible_and_resumes_exactly(tmp_path):
    whole = weights(fitted(network(LAYERS.Dropout(0.5)), 4))
    assert np.abs(whole - weights(fitted(network(), 4))).max() > 1e-4
    np.testing.assert_array_equal(
        weights(fitted(network(LAYERS.Dropout(0.5)), 1, 3)), whole
    )
    fitted(network(LAYERS.Dropout(0.5)), 2, directory=tmp_path)
    keras.utils.set_random_seed(99)
    again = keras.models.clone_model(network(LAYERS.Dropout(0.5)))
    resumed = fitted(again, 4, directory=tmp_path)
    np.testing.assert_array_equal(weights(resumed), whole)


def test_random_layers_are_off_in_evaluation_and_adaptation(tmp_path):
    """Batch normalization works by batches all the same."""
    with_dropout = network(
        LAYERS.BatchNormalization(),
        LAYERS.Dropout(0.5),
        LAYERS.Activation("elu"),
    )
    without = network(
        LAYERS.BatchNormalization(),
        LAYERS.Dropout(0.0),
        LAYERS.Activation("elu"),
    )
    results = []
    for model in (with_dropout, without):
        learner = maml_tf.Learner(model, "mse", alpha=0.05)
        scores = [
            learner.evaluate(STREAM, 5, num_steps=2, statistics=x).values[
                "loss"
            ]
            for x in ("support", "transductive")
        ]
        (x, y), (new_x, _) = task(3)
        adapted = learner.adapt(x, y, num_steps=2)
        predictions = adapted.predict(new_x)
        adapted.save(tmp_path / "adapted.keras")
        plain = keras.models.load_model(tmp_path / "adapted.keras")
        np.testing.assert_allclose(
            plain.predict(new_x.astype("f"), verbose=0),
            predictions,
            rtol=1e-4,
            atol=1e-5,
        )
        results.append((*scores, predictions))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_meta_step_needs_the_numbers_of_tasks():
    model = network(LAYERS.Dropout(0.5))
    loss = maml_tf.mean_squared_error(model)

    def gradient(theta, one):
        return maml_tf.task_meta_gradient(loss, theta, one, 0.1, 1)

    tasks = STREAM.tasks(0, 2)
    with pytest.raises(ValueError, match="maml_tf.NumberedTask"):
        maml_tf.MetaStep(model, keras.optimizers.SGD(), gradient, tasks)


class Unseeded(keras.layers.Layer):
    def call(self, x, training=None):
        return keras.random.dropout(x, 0.5) if training else x


def test_draws_from_the_global_generator_are_refused():
    learner = maml_tf.Learner(network(Unseeded()), "mse")
    with pytest.raises(ConfigError, match="seed=self.seed_generator"):
        learner.adapt(*task(0)[0])


class Unrepeatable(keras.layers.Layer):
    def __init__(self, drop, **kwargs):
        super().__init__(**kwargs)
        self.drop = drop

    def call(self, x, training=None):
        return self.drop(x) if training else x


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: tf.nn.dropout(x, 0.5),
        lambda x: x + tf.random.normal(tf.shape(x)),
        lambda x: x * tf.random.get_global_generator().uniform([1]),
    ],
    ids=["dropout", "normal", "generator"],
)
def test_draws_of_tensorflows_state_are_refused(drop):
    learner = maml_tf.Learner(network(Unrepeatable(drop, name="odd")), "mse")
    tasks = maml_tf.tasks_from_function(task)
    with pytest.raises(ConfigError, match="in sequential.*/odd, draws random"):
        learner.fit(tasks, 1, meta_batch_size=2, progress=False)


class OwnNormalization(keras.layers.BatchNormalization):
    pass


def test_own_batch_normalization_beside_random_layers_is_refused():
    model = network(OwnNormalization(), LAYERS.Dropout(0.5))
    with pytest.raises(ConfigError, match="OwnNormalization.*Derive it"):
        maml_tf.Learner(model, "mse")
    maml_tf.Learner(network(OwnNormalization()), "mse")
