"""Weights of examples, and tasks of different sizes: equal to each alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_tf
from maml_tf import Batch, Learner, Task, WeightedBatch, tasks_from_function
from maml_tf.core.batch import Weighted
from maml_tf.core.comparison import compared, weighted_mean
from maml_tf.core.losses import supervised
from maml_tf.core.network import Network
from maml_tf.core.prediction import Appended, Jointly, predict
from maml_tf.errors import ConfigError, DataError
from maml_tf.objectives.metrics import as_metric
from maml_tf.objectives.objective import as_loss

LAYERS = keras.layers
SPARSE = "sparse_categorical_crossentropy"


def dense_net():
    return keras.Sequential(
        [
            keras.Input((3,)),
            LAYERS.Dense(4, kernel_regularizer="l2"),
            maml_tf.BatchNormalization(epsilon=1e-2),
            LAYERS.Activation("tanh"),
            LAYERS.Dense(2),
        ]
    )


def conv_net():
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            # Few elements, then many: both ways to normalize.
            maml_tf.NormalizedConv2D(
                maml_tf.Conv2D(9, 2),
                maml_tf.BatchNormalization(epsilon=1e-2),
            ),
            LAYERS.Activation("tanh"),
            maml_tf.Conv2D(2, 2),
            maml_tf.BatchNormalization(epsilon=1e-2),
            LAYERS.Flatten(),
            LAYERS.Dense(2),
        ]
    )


def drawn(model, num, seed):
    rng = np.random.default_rng(seed)
    return Batch(
        rng.standard_normal((num, *model.input_shape[1:])), np.arange(num) % 2
    )


def filled_up(batch, size, seed=9):
    """With others of weight 0, not only behind it."""
    num = len(batch.targets)
    rng = np.random.default_rng(seed)
    others = rng.standard_normal((size - num, *batch.inputs.shape[1:]))
    places = rng.permutation(size)
    return WeightedBatch(
        np.concatenate([batch.inputs, others])[places],
        np.concatenate([batch.targets, 1 - np.arange(size - num) % 2])[places],
        (np.arange(size) < num)[places].astype(batch.inputs.dtype),
    )


def tensors(structure):
    return tf.nest.map_structure(tf.convert_to_tensor, structure)


def assert_equal(found, expected):
    found, expected = map(tf.nest.flatten, (found, expected))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (dense_net, maml_tf.MAML(alpha=0.2)),
        (dense_net, maml_tf.MAML(alpha=0.2, first_order=True)),
        (dense_net, maml_tf.MetaSGD(alpha=0.2)),
        (dense_net, maml_tf.Reptile(num_steps=1)),
        (dense_net, maml_tf.ImplicitMAML(alpha=0.1, num_steps=1)),
        (dense_net, maml_tf.JointTraining()),
        (conv_net, maml_tf.MAML(alpha=0.2, num_steps=2)),
    ],
)
def test_the_meta_gradient_is_that_of_the_task_alone(float64, make, method):
    keras.utils.set_random_seed(0)
    model = make()
    network = Network(model, as_loss(SPARSE, "linear"))
    method = method.bind(network)
    more = [*method.variables(network), *method.carried(network)]
    params = [*network.theta, *tensors(more)]
    task = Task(drawn(model, 4, 1), drawn(model, 3, 2))
    other = Task(filled_up(task.support, 6), filled_up(task.query, 5))
    found, expected = (
        method.task_gradient(network, params, tensors(t)) for t in (other, task)
    )
    assert_equal(found, expected)
    assert any(np.any(g) for g in expected.gradient)


def varying(model, dtype="float64"):
    def task(seed):
        num = np.random.default_rng(seed).integers(2, 7, 2)
        batches = [drawn(model, n, seed + k) for k, n in enumerate(num)]
        return [(x.astype(dtype), y) for x, y in batches]

    return task


def test_a_meta_step_is_the_mean_of_tasks_alone(float64):
    model = dense_net()
    learner = Learner(model, SPARSE, alpha=0.2)
    theta, task = learner.theta, varying(model)
    alone = [
        learner.method.task_gradient(
            learner.network,
            theta,
            tensors(Task(*(Batch(*part) for part in task(3 * i)))),
        ).gradient
        for i in range(4)
    ]
    learner.fit(
        tasks_from_function(task, max_examples=(6, 7)),
        1,
        meta_batch_size=4,
        optimizer=keras.optimizers.SGD(0.5),
        progress=False,
    )
    mean = [np.mean(x, axis=0) for x in zip(*alone, strict=True)]
    expected = [t - 0.5 * g for t, g in zip(theta, mean, strict=True)]
    assert_equal(learner.theta, expected)


@pytest.mark.parametrize("statistics", ["support", "transductive", "appended"])
def test_evaluation_is_that_of_tasks_alone(float64, statistics):
    model = dense_net()
    learner = Learner(model, SPARSE, 0.2, metrics=["accuracy"])
    task = varying(model)
    stream = tasks_from_function(task, max_examples=8)
    found = learner.evaluate(stream, 4, statistics=statistics).values
    for i in range(4):
        support, query = task(3 * i)
        alone = learner.adapt(*support).evaluate(*query, statistics)
        for name, value in alone.items():
            assert found[name][i, -1] == pytest.approx(value, rel=1e-9)


def test_joint_statistics_leave_out_both(float64):
    model = dense_net()
    network = Network(model, as_loss(SPARSE, "linear"))
    support, query = drawn(model, 4, 1), drawn(model, 3, 2)
    weighted = [filled_up(support, 6), filled_up(query, 5)]
    wide = [Weighted(b.inputs, tf.constant(b.weights)) for b in weighted]
    for wrap in (Jointly, Appended):
        found = network.outputs(network.theta, wide[1], wrap(wide[0]))
        expected = network.outputs(
            network.theta, query.inputs, wrap(support.inputs)
        )
        counts = weighted[1].weights > 0
        order = np.lexsort(weighted[1].inputs[counts].T)
        assert_equal(
            tf.gather(found[counts], order),
            tf.gather(expected, np.lexsort(query.inputs.T)),
        )


def test_training_on_tasks_of_different_sizes_in_float32(tmp_path):
    model = keras.Sequential([keras.Input((3,)), LAYERS.Dense(2)])
    learner = Learner(model, SPARSE, 0.2, metrics=["accuracy"])
    stream = tasks_from_function(varying(model, "float32"), max_examples=6)
    learner.fit(stream, 60, meta_batch_size=2, progress=False)
    assert [s.num_traces for _, s in learner.trainer._steps] == [1]
    assert np.isfinite(learner.evaluate(stream, 3).values["loss"]).all()
    learner.save(tmp_path / "learner")
    loaded = Learner.load(tmp_path / "learner")
    assert loaded.spec == learner.spec
    x = np.ones((1, 3))
    np.testing.assert_array_equal(
        loaded.adapt([[0, 1, 2], [1, 0, 1]], [0, 1]).predict(x),
        learner.adapt([[0, 1, 2], [1, 0, 1]], [0, 1]).predict(x),
    )


def test_the_population_is_of_what_counts(float64):
    model = dense_net()
    learner = Learner(model, SPARSE)
    task = varying(model)
    learner.measure_population(tasks_from_function(task, max_examples=6), 1)
    inputs = np.concatenate([task(3 * i)[0][0] for i in range(33)])
    hidden = inputs @ model.layers[0].kernel.numpy()
    found = model.layers[1].moving_variance
    np.testing.assert_allclose(found, hidden.var(0), rtol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", SPARSE, "function"])
def test_an_example_of_weight_2_counts_twice(float64, loss):
    model = keras.Sequential([keras.Input((3,)), LAYERS.Dense(2)])
    batch = drawn(model, 3, 1)
    if loss != SPARSE:
        batch = batch._replace(targets=np.eye(3, 2))
    if loss == "function":

        def loss(targets, outputs):
            return tf.reduce_sum(tf.abs(outputs - targets) ** 3, -1)

    task_loss = supervised(model, as_loss(loss, "linear"))
    twice = tf.nest.map_structure(lambda x: x[[0, 1, 2, 2]], batch)
    theta = tensors(model.trainable_variables)
    weighted = WeightedBatch(*batch, np.array([1.0, 1.0, 2.0]))
    assert_equal(task_loss(theta, weighted), task_loss(theta, twice))


def test_weights_are_of_examples_and_ignored_pixels_have_none(float64):
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=2)
    rng = np.random.default_rng(0)
    outputs = tf.constant(rng.standard_normal((3, 4, 5, 2)))
    labels = rng.integers(0, 3, (3, 4, 5))
    weights = tf.constant([2.0, 0.0, 1.0])
    places = [0, 0, 2]
    accuracy = as_metric("accuracy", as_loss(loss, "linear"))
    for objective in (loss, accuracy):
        found = weighted_mean(objective, labels, outputs, weights)
        expected = compared(
            objective, labels[places], tf.gather(outputs, places)
        )
        assert_equal(found, expected)


@pytest.mark.parametrize(
    ("loss", "metric"),
    [
        ("binary_crossentropy", "accuracy"),
        ("binary_crossentropy", "auc"),
        ("binary_crossentropy", "precision"),
        ("categorical_crossentropy", "accuracy"),
        ("categorical_crossentropy", "top_k_categorical_accuracy"),
        ("mse", "root_mean_squared_error"),
        ("mse", "r2_score"),
        ("mse", "cosine_similarity"),
    ],
)
def test_metrics_count_what_has_weight(loss, metric):
    rng = np.random.default_rng(0)
    width = 1 if loss.startswith("binary") else 7
    outputs = tf.constant(rng.standard_normal((5, width)).astype("f"))
    targets = (rng.random((5, width)) > 0.5).astype("f")
    if loss.startswith("categorical"):
        targets = np.eye(7, dtype="f")[:5]
    objective = as_metric(metric, as_loss(loss, "linear"))
    found = objective.weighted_mean(
        targets, outputs, tf.constant([1.0, 0.0, 1.0, 1.0, 0.0])
    )
    expected = objective(targets[[0, 2, 3]], tf.gather(outputs, [0, 2, 3]))
    np.testing.assert_allclose(found, tf.reduce_mean(expected), rtol=1e-5)


def test_intersections_are_counted_in_floats():
    loss = as_loss("binary_crossentropy", "sigmoid")
    outputs, targets = tf.constant([[0.9], [0.2], [0.6]]), np.eye(3, 1)
    weights = tf.constant([1.0, 0.0, 0.5])
    exact = as_metric(keras.metrics.BinaryIoU([1], dtype="float32"), loss)
    found = exact.weighted_mean(targets, outputs, weights)
    assert float(found) == pytest.approx(1 / 1.5)
    with pytest.raises(ConfigError, match="rounds weights"):
        as_metric("BinaryIoU", loss).weighted_mean(targets, outputs, weights)


def test_weights_of_a_support_set(float64):
    model = dense_net()
    learner = Learner(model, SPARSE, 0.2)
    x, y = drawn(model, 5, 1)
    weights = np.array([1, 3, 0, 2, 0])
    new = drawn(model, 3, 2).inputs
    found = learner.adapt(x, y, sample_weight=weights)
    kept = [0, 1, 3]
    other = learner.adapt(x[kept], y[kept], sample_weight=weights[kept] / 7.0)
    assert_equal(found.predict(new), other.predict(new))
    assert_equal(found.losses, other.losses)
    plain = learner.adapt(x[kept], y[kept])
    assert not np.allclose(found.predict(new), plain.predict(new))
    ones = learner.adapt(x[kept], y[kept], sample_weight=np.ones(3, int))
    assert_equal(ones.predict(new), plain.predict(new))


def test_streams_with_weights_of_their_own():
    def task(seed):
        x = np.full((2 + seed % 2, 1), seed, "float32")
        return (x, x, [2] * len(x)), (x, -x)

    tasks = tasks_from_function(task, max_examples=[4, 3]).tasks(0, 2)
    assert tasks.support.weights.tolist() == [[2, 2, 0, 0], [2, 2, 2, 0]]
    assert tasks.query.weights.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert (tasks.support.inputs[1] == 3).all()
    dataset = tf.data.Dataset.from_generator(
        lambda: (task(s) for s in range(3)),
        output_signature=(
            (*[tf.TensorSpec((None, 1))] * 2, tf.TensorSpec((None,))),
            (*[tf.TensorSpec((None, 1))] * 2,),
        ),
    )
    read = maml_tf.tasks_from_dataset(dataset, max_examples=4).tasks(0, 3)
    assert read.support.weights.sum(1).tolist() == [4, 6, 4]
    same = tasks_from_function(lambda s: task(0)).tasks(0, 2)
    assert same.query.weights.tolist() == [[1, 1]] * 2
    plain = tasks_from_function(lambda s: (task(0)[1],) * 2).tasks(0, 2)
    assert type(plain.support) is Batch


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, -1], "at least 0. Received: weights from -1"),
        ([np.nan, 1], "must be finite"),
        ([0, 0], "are all 0"),
        ([1, 1, 1], "a weight for each example"),
        ([[1], [1]], "a weight for each example"),
    ],
)
def test_weights_that_are_none(weights, message):
    learner = Learner(dense_net(), SPARSE)
    x, y = np.eye(2, 3), np.arange(2)
    with pytest.raises(DataError, match=message):
        learner.adapt(x, y, sample_weight=weights)
    tasks = tasks_from_function(lambda s: ((x, y, weights), (x, y)))
    with pytest.raises(DataError, match=message):
        learner.fit(tasks, 1)


def test_sizes_that_do_not_fit():
    def task(seed):
        x = np.ones((2 + seed % 2, 1))
        return (x, x), (x, x)

    with pytest.raises(DataError, match=r"2, 3\. .*max_examples=\(support"):
        tasks_from_function(task).tasks(0, 2)
    with pytest.raises(DataError, match="3 examples, more than max_examples"):
        tasks_from_function(task, max_examples=2).tasks(0, 2)
    empty = tasks_from_function(
        lambda s: ((np.ones((0, 1)),) * 2,) * 2, max_examples=2
    )
    with pytest.raises(DataError, match="at least 1"):
        empty.tasks(0, 1)
    for wrong in (0, (1, 2, 3), "2"):
        with pytest.raises(ConfigError, match="max_examples must be"):
            tasks_from_function(task, max_examples=wrong)


@keras.saving.register_keras_serializable(package="tests")
class Centered(LAYERS.Layer):
    """Subtracts the mean over the batch."""

    def call(self, inputs):
        return inputs - tf.reduce_mean(inputs, axis=0, keepdims=True)


class Norm(LAYERS.BatchNormalization):
    """The user's own."""


def scalar_loss(targets, outputs):
    return tf.reduce_mean(tf.square(outputs[:, 0] - targets))


def pairwise_loss(targets, outputs):
    errors = outputs[:, 0] - targets
    return tf.square(errors - tf.reduce_mean(errors))


@pytest.mark.parametrize(
    ("layer", "loss", "method", "message"),
    [
        (None, SPARSE, maml_tf.PrototypicalNetworks(), "protonet, with these"),
        (None, SPARSE, maml_tf.MAML(train_query_sets=2), "maml, with these"),
        (None, SPARSE, maml_tf.Reptile(inner_batch_size=2), "reptile, with"),
        (Centered(), SPARSE, None, "depend on others of weight 0"),
        (Norm(), SPARSE, None, "depend on others of weight 0"),
        (
            LAYERS.Dense(3, activity_regularizer="l2"),
            SPARSE,
            None,
            "add losses, such as activity",
        ),
        (None, scalar_loss, None, "a value for each example"),
        (None, pairwise_loss, None, "compares examples with each other"),
    ],
)
def test_what_cannot_leave_out_examples(layer, loss, method, message):
    keras.utils.set_random_seed(0)
    layers = [LAYERS.Dense(3), *([] if layer is None else [layer])]
    model = keras.Sequential([keras.Input((3,)), *layers, LAYERS.Dense(2)])
    learner = Learner(model, loss, method=method)

    def task(seed):
        x = np.random.default_rng(seed).standard_normal((2, 6, 3))
        num = 4 + seed % 3
        labels = np.arange(6) % 2
        if loss != SPARSE:
            labels = labels.astype("float32")
        return (x[0, :num], labels[:num]), (x[1], labels)

    stream = tasks_from_function(task, max_examples=6)
    for run in (
        lambda: learner.fit(stream, 1, progress=False),
        lambda: learner.evaluate(stream, 2, statistics="transductive"),
    ):
        with pytest.raises(ConfigError, match=message):
            run()


def test_layers_that_take_examples_apart(float64):
    inputs = keras.Input((2, 3), batch_size=4)
    rows = keras.ops.reshape(inputs, (8, 3))
    model = keras.Model(inputs, LAYERS.BatchNormalization()(rows))
    maml_tf.use_exact_normalization(model)
    weighted = Weighted(tf.ones((4, 2, 3)), tf.ones(4))
    with pytest.raises(ConfigError, match="takes 8 inputs for 4 examples"):
        predict(model, tensors(model.trainable_variables), weighted)
