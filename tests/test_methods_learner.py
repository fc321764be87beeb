"""Methods through the learner: what they share, and with core functions."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_methods import blobs, embedding

from maml_tf.core.batch import Batch
from maml_tf.core.losses import squared_error
from maml_tf.core.maml import Task, joint_gradient, task_meta_gradient
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, DataError
from maml_tf.learner.learner import Learner
from maml_tf.methods.joint import JointTraining
from maml_tf.methods.maml import MAML
from maml_tf.methods.meta_sgd import MetaSGD, meta_sgd_gradient
from maml_tf.methods.prototypical import PrototypicalNetworks
from maml_tf.methods.reptile import Reptile
from maml_tf.models import conv_net

SPARSE = "sparse_categorical_crossentropy"
ONE_HOT = "categorical_crossentropy"


class OneHot:
    """Tasks of `blobs` with one-hot targets."""

    def __init__(self, num_ways):
        self.num_ways, self.inner = num_ways, blobs(num_ways)

    def tasks(self, first, count):
        eye = np.eye(self.num_ways, dtype="float32")
        return Task(
            *(
                Batch(b.inputs, eye[b.targets])
                for b in self.inner.tasks(first, count)
            )
        )


class Relabelled:
    """Tasks whose class 1 is called 3 in the chosen set."""

    def __init__(self, chosen):
        self.chosen, self.inner = chosen, blobs(3)

    def tasks(self, first, count):
        task = self.inner.tasks(first, count)
        batch = getattr(task, self.chosen)
        targets = np.where(batch.targets == 1, 3, batch.targets)
        return task._replace(
            **{self.chosen: Batch(batch.inputs, targets.astype("int32"))}
        )


def classifier(num_ways):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(num_ways),
        ]
    )


def one_task(num_ways):
    task = blobs(num_ways).tasks(0, 1)
    return tf.nest.map_structure(lambda x: x[0], task)


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("first_order", [False, True])
def test_methods_take_the_gradients_of_core(first_order):
    keras.utils.set_random_seed(0)
    network = Network(classifier(1), squared_error)
    rng = np.random.default_rng(0)
    task = Task(
        *(
            Batch(
                tf.constant(rng.standard_normal((4, 2)).astype("f")),
                tf.constant(rng.standard_normal((4, 1)).astype("f")),
            )
            for _ in range(2)
        )
    )
    theta, adapts = network.theta, [True] * 4
    maml = MAML(0.1, 2, first_order=first_order).bind(network)
    same(
        maml.task_gradient(network, theta, task).gradient,
        task_meta_gradient(
            network.loss, theta, task, 0.1, 2, first_order=first_order
        ).gradient,
    )
    sgd = MetaSGD(0.1, 2, first_order=first_order).bind(network)
    alphas = [tf.convert_to_tensor(v) for v in sgd.variables(network)]
    for alpha, t in zip(alphas, theta, strict=True):
        np.testing.assert_array_equal(alpha, np.full(t.shape, 0.1, "f"))
    found = sgd.task_gradient(network, theta + alphas, task).gradient
    assert len(found) == 8
    same(
        found,
        meta_sgd_gradient(
            network.loss,
            theta + alphas,
            task,
            2,
            adapts=adapts,
            first_order=first_order,
        ).gradient,
    )
    joint = JointTraining().bind(network)
    same(
        joint.task_gradient(network, theta, task).gradient,
        joint_gradient(network.loss, theta, task).gradient,
    )


def test_one_hot_and_sparse_labels_learn_the_same():
    learned = []
    for loss, tasks in ((SPARSE, blobs(3)), (ONE_HOT, OneHot(3))):
        learner = Learner(embedding(), loss, method=PrototypicalNetworks())
        learner.fit(
            tasks,
            5,
            meta_batch_size=2,
            optimizer=keras.optimizers.SGD(0.1),
            progress=False,
        )
        learned.append(learner.theta)
    for a, b in zip(*learned, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_one_hot_labels_may_have_other_ways_in_evaluation():
    learner = Learner(
        embedding(),
        ONE_HOT,
        method=PrototypicalNetworks(),
        metrics=["accuracy"],
    )
    learner.fit(OneHot(5), 2, meta_batch_size=2, progress=False)
    for num_ways in (3, 4):
        scores = learner.evaluate(OneHot(num_ways), 4)
        assert scores.values["accuracy"].shape == (4, 1)
    task = one_task(3)
    eye = np.eye(3, dtype="float32")
    adapted = learner.adapt(task.support.inputs, eye[task.support.targets])
    found = adapted.evaluate(task.query.inputs, eye[task.query.targets])
    assert found["accuracy"] <= 1
    with pytest.raises(DataError, match="must be like"):
        adapted.evaluate(np.ones((1, 2), "f"), np.eye(5, dtype="f")[:1])


def test_one_hot_class_without_examples_is_refused():
    learner = Learner(embedding(), ONE_HOT, method=PrototypicalNetworks())
    for labels, missing in (([0, 2, 2], 1), ([0, 1, 1], 2)):
        y = np.eye(3, dtype="float32")[labels]
        with pytest.raises(DataError, match=f"no example of class {missing}"):
            learner.adapt(np.ones((3, 2), "float32"), y)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [("support", "no example of class 1"), ("query", "labels from 0 to 3")],
)
def test_streams_with_labels_that_do_not_fit_are_refused(chosen, message):
    learner = Learner(embedding(), SPARSE, method=PrototypicalNetworks())
    with pytest.raises(DataError, match=message):
        learner.fit(Relabelled(chosen), 2, progress=False)
    with pytest.raises(DataError, match=message):
        learner.evaluate(Relabelled(chosen), 2)


@pytest.mark.parametrize("missing", [1, 2])
def test_each_task_of_a_stream_is_checked(missing):
    class WithoutInTheSecond:
        def tasks(self, first, count):
            task = blobs(3).tasks(first, count)
            targets = task.support.targets.copy()
            targets[1][targets[1] == missing] = 0
            return task._replace(support=Batch(task.support.inputs, targets))

    learner = Learner(embedding(), SPARSE, method=PrototypicalNetworks())
    with pytest.raises(DataError, match=f"no example of class {missing}"):
        learner.evaluate(WithoutInTheSecond(), 4)


def test_batch_norm_by_support_predicts_each_query_on_its_own():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 8, 8, 1)).astype("f")
    y = np.array([0, 0, 1, 1, 2, 2], "int32")
    query = rng.standard_normal((4, 8, 8, 1)).astype("f")
    learner = Learner(
        conv_net((8, 8, 1), None, 4), SPARSE, method=PrototypicalNetworks()
    )
    adapted = learner.adapt(x, y)
    both = adapted.predict(query)
    np.testing.assert_allclose(
        adapted.predict(query[:1]), both[:1], rtol=1e-4, atol=1e-5
    )
    transductive = adapted.predict(query[:2], "transductive")
    assert not np.allclose(
        transductive, adapted.predict(query, "transductive")[:2]
    )


def test_one_shot_prototypes_are_the_embeddings():
    model = embedding()
    learner = Learner(model, SPARSE, method=PrototypicalNetworks())
    x = np.array([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]], "float32")
    adapted = learner.adapt(x, np.array([1, 0, 2], "int32"))
    np.testing.assert_allclose(
        adapted.state["prototypes"],
        model(x).numpy()[[1, 0, 2]],
        rtol=1e-6,
    )


def set_as_if_trained(learner):
    """Changes what `fit` learns; shows the learner a task, as `fit` does."""
    rng = np.random.default_rng(0)
    for v in [*learner.model.trainable_variables, *learner.method_variables]:
        v.assign(v * rng.uniform(0.5, 2, v.shape) + 0.01)
    learner.adapt(*one_task(3).support)
    learner.start_at(2)


@pytest.fixture(scope="module")
def reptile():
    learner = Learner(
        classifier(3),
        SPARSE,
        method=Reptile(0.02, 5, inner_batch_size=4),
        metrics=["accuracy"],
    )
    set_as_if_trained(learner)
    return learner


def test_reptile_adapts_as_it_evaluates(reptile):
    task = one_task(3)
    adapted = reptile.adapt(*task.support, num_steps=5)
    assert len(adapted.losses) == 5
    scores = reptile.evaluate(blobs(3), 1, 5)
    assert scores.values["loss"].shape == (1, 6)
    found = adapted.evaluate(*task.query)
    assert found["loss"] == pytest.approx(scores.values["loss"][0, 5], rel=1e-4)


def test_reptile_saved_and_loaded_predicts_the_same(reptile, tmp_path):
    reptile.save(tmp_path / "saved")
    loaded = Learner.load(tmp_path / "saved")
    assert loaded.method == reptile.method
    task = one_task(3)
    np.testing.assert_array_equal(
        loaded.adapt(*task.support).predict(task.query.inputs),
        reptile.adapt(*task.support).predict(task.query.inputs),
    )


def test_reptile_exported_adapts_the_same(reptile, tmp_path):
    reptile.export(tmp_path / "exported")
    loaded = tf.saved_model.load(tmp_path / "exported")
    task = one_task(3)
    found = loaded.signatures["adapt_and_predict"](
        support_inputs=tf.constant(task.support.inputs),
        support_targets=tf.constant(task.support.targets, tf.int32),
        query_inputs=tf.constant(task.query.inputs),
        num_updates=tf.constant(5),
    )
    expected = reptile.adapt(*task.support).predict(task.query.inputs)
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-3, atol=1e-4)


def test_reptile_adapted_model_becomes_a_keras_model(reptile):
    task = one_task(3)
    adapted = reptile.adapt(*task.support)
    np.testing.assert_allclose(
        adapted.to_keras().predict(task.query.inputs, verbose=0),
        adapted.predict(task.query.inputs),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("learn_alpha", [False, True])
def test_a_learner_of_format_1_is_loaded(learn_alpha, tmp_path):
    learner = Learner(classifier(3), SPARSE, 0.1, 2, learn_alpha=learn_alpha)
    set_as_if_trained(learner)
    path = tmp_path / "saved"
    learner.save(path)
    file = path / "learner.json"
    settings = json.loads(file.read_text())
    del settings["method"]
    settings |= {
        "format": 1,
        "alpha": 0.1,
        "num_steps": 2,
        "adapts": [True] * 4,
        "first_order": False,
        "learn_alpha": learn_alpha,
    }
    file.write_text(json.dumps(settings))
    if learn_alpha:
        (path / "method.npz").rename(path / "alphas.npz")
    loaded = Learner.load(path)
    assert loaded.method.name == ("meta_sgd" if learn_alpha else "maml")
    assert loaded.iterations == 2
    task = one_task(3)
    np.testing.assert_array_equal(
        loaded.adapt(*task.support).predict(task.query.inputs),
        learner.adapt(*task.support).predict(task.query.inputs),
    )


@pytest.mark.parametrize(
    "given",
    [
        {"alpha": 0.1},
        {"num_steps": 2},
        {"first_order": True},
        {"adapts": lambda v: True},
        {"learn_alpha": True},
    ],
    ids=lambda given: next(iter(given)),
)
def test_each_setting_of_maml_is_refused_beside_a_method(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        Learner(classifier(3), SPARSE, method=Reptile(), **given)


def test_a_step_size_is_refused_where_there_is_none():
    learner = Learner(embedding(), SPARSE, method=PrototypicalNetworks())
    task = one_task(3)
    with pytest.raises(ConfigError, match="alpha"):
        learner.adapt(*task.support, alpha=0.1)
    with pytest.raises(ConfigError, match="alpha"):
        learner.evaluate(blobs(3), 2, alpha=0.1)


def test_an_export_with_a_gap_does_not_answer_nan(tmp_path):
    learner = Learner(embedding(), SPARSE, method=PrototypicalNetworks())
    task = one_task(3)
    learner.adapt(*task.support)
    learner.export(tmp_path / "exported")
    loaded = tf.saved_model.load(tmp_path / "exported")
    for labels in ([0, 2, 2], [1, 2, 2], [-1, 0, 1]):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="an example of each"
        ):
            loaded.signatures["adapt"](
                support_inputs=tf.ones((3, 2)),
                support_targets=tf.constant(labels),
            )
    batched = tf.nest.map_structure(tf.convert_to_tensor, blobs(3).tasks(0, 2))
    found = loaded.signatures["adapt_and_predict_batch"](
        support_inputs=batched.support.inputs,
        support_targets=tf.cast(batched.support.targets, tf.int32),
        query_inputs=batched.query.inputs,
    )
    assert np.isfinite(found["logits"]).all()
