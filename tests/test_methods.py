"""Methods: golden values by hand, and what every method must keep."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import command, error_of, train

from maml_tf.core.batch import Batch
from maml_tf.core.losses import squared_error
from maml_tf.core.maml import Task
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, DataError
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.learner.learner import Learner
from maml_tf.methods.embedding import (
    class_means,
    one_hot,
    squared_distances,
)
from maml_tf.methods.joint import JointTraining
from maml_tf.methods.maml import MAML
from maml_tf.methods.prototypical import PrototypicalNetworks
from maml_tf.methods.reptile import Reptile, mini_batch
from maml_tf.models import conv_net
from maml_tf.tasks.sources import tasks_from_arrays
from maml_tf.training.checkpoints import Checkpoints

THREE = [tf.constant([[3.0]])]


def number(loss=squared_error):
    """A network that returns theta, a single number, for the input 1."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
    )
    return Network(model, loss)


def towards(center):
    """A task whose loss is (theta - center)^2."""
    batch = Batch(tf.ones((1, 1)), tf.fill((1, 1), float(center)))
    return Task(batch, batch)


class TestReptile:
    """The loss (theta - 1)^2 at theta = 3, and alpha = 0.1: 3, 2.6, 2.28."""

    method = Reptile(0.1, 2, inner_optimizer="sgd")

    def gradient(self, method):
        network = number()
        (gradient,), losses, _ = method.bind(network).task_gradient(
            network, THREE, towards(1)
        )
        return float(gradient[0, 0]), losses

    def test_it_moves_towards_the_adapted_weights(self):
        gradient, losses = self.gradient(self.method)
        assert gradient == pytest.approx(3 - 2.28)
        assert gradient / 0.1 == pytest.approx(7.2)
        assert 3 - 0.5 * gradient == pytest.approx(2.64)
        assert float(losses["pre_update"]) == pytest.approx(4.0)
        assert float(losses["post_update"]) == pytest.approx(1.28**2)

    @pytest.mark.parametrize(
        ("first_order", "expected"), [(True, 2.56), (False, 1.6384)]
    )
    def test_maml_on_the_same_task(self, first_order, expected):
        gradient, _ = self.gradient(MAML(0.1, 2, first_order=first_order))
        assert gradient == pytest.approx(expected)

    def test_one_step_is_joint_training(self):
        one, _ = self.gradient(Reptile(0.1, 1, inner_optimizer="sgd"))
        joint, _ = self.gradient(JointTraining())
        assert one == pytest.approx(0.1 * joint)

    def test_adam_by_hand(self):
        gradient, _ = self.gradient(Reptile(0.1, 2, keep_moments=False))
        theta, square = 3.0, 0.0
        for step in (1, 2):
            g = 2 * (theta - 1)
            square = 0.999 * square + 0.001 * g**2
            correction = np.sqrt(1 - 0.999**step)
            theta -= 0.1 * correction * g / (np.sqrt(square) + 1e-8)
        assert gradient == pytest.approx(3 - theta, rel=1e-5)

    def test_mini_batches_are_rounds_through_the_whole_set(self):
        support = Batch(tf.range(6.0)[:, None], tf.range(6))
        seen = [
            mini_batch(support, 4, tf.constant(i)).targets.numpy()
            for i in range(6)
        ]
        again = mini_batch(support, 4, tf.constant(3)).targets
        np.testing.assert_array_equal(again, seen[3])
        rounds = np.concatenate(seen).reshape(4, 6)
        assert (np.sort(rounds) == np.arange(6)).all()
        assert len({tuple(r) for r in rounds}) > 1

    def test_all_variables_adapt_by_default(self):
        network = Network(conv_net((28, 28, 1), 5, 4), squared_error)
        assert all(Reptile().bind(network).adapts)
        assert not all(MAML().bind(network).adapts)

    def test_settings_that_make_no_sense_are_refused(self):
        for settings in (
            {"inner_batch_size": 0},
            {"inner_optimizer": "rmsprop"},
        ):
            with pytest.raises(ConfigError, match=next(iter(settings))):
                Reptile(**settings)


class TestPrototypicalNetworks:
    def test_distances_by_hand(self):
        prototypes = tf.constant([[0.0, 0.0], [2.0, 0.0]])
        query = tf.constant([[0.5, 0.0]])
        logits = -squared_distances(query, prototypes)
        np.testing.assert_allclose(
            tf.nn.softmax(logits), [[0.880797, 0.119203]], rtol=1e-5
        )
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([0], logits)
        assert float(loss[0]) == pytest.approx(0.126928, rel=1e-5)

    def test_equal_embeddings_leave_a_loss_of_ln_n(self):
        logits = -squared_distances(tf.ones((2, 3)), tf.ones((4, 3)))
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([0, 3], logits)
        np.testing.assert_allclose(loss, np.log([4, 4]), rtol=1e-6)

    def test_it_is_a_linear_classifier_of_embeddings(self):
        rng = np.random.default_rng(0)
        c, q = rng.standard_normal((4, 3)), rng.standard_normal((2, 3))
        linear = 2 * q @ c.T - (c**2).sum(-1)
        np.testing.assert_allclose(
            tf.nn.softmax(-squared_distances(tf.constant(q), tf.constant(c))),
            tf.nn.softmax(linear),
        )

    @pytest.mark.parametrize(
        "labels", [[1, 0, 1, 2], np.eye(3, dtype="f")[[1, 0, 1, 2]]]
    )
    def test_prototypes_are_means(self, labels):
        embeddings = tf.constant([[1.0], [5.0], [3.0], [7.0]])
        labels = one_hot(tf.constant(labels), embeddings.dtype)
        means = class_means(embeddings, labels)
        np.testing.assert_allclose(means, [[5.0], [2.0], [7.0]])

    def test_meta_gradient_matches_finite_differences(self, float64):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((2,)), keras.layers.Dense(3, "tanh")]
        )
        network = Network(
            model,
            tf.nn.sparse_softmax_cross_entropy_with_logits,
        )
        rng = np.random.default_rng(0)
        task = Task(
            *(
                Batch(
                    tf.constant(rng.standard_normal((4, 2))),
                    tf.constant([0, 1, 0, 1]),
                )
                for _ in range(2)
            )
        )
        method = PrototypicalNetworks().bind(network)
        theta = network.theta
        gradient = method.task_gradient(network, theta, task).gradient
        direction = [tf.constant(rng.standard_normal(t.shape)) for t in theta]

        def loss(step):
            moved = [
                t + step * d for t, d in zip(theta, direction, strict=True)
            ]
            found = method.task_gradient(network, moved, task).losses
            return float(found["post_update"])

        expected = (loss(1e-6) - loss(-1e-6)) / 2e-6
        found = sum(
            float(tf.reduce_sum(g * d))
            for g, d in zip(gradient, direction, strict=True)
        )
        assert found == pytest.approx(expected, rel=1e-6)


def embedding():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(4),
        ]
    )


def blobs(num_ways):
    """Tasks of classes that lie apart."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(-3, 3, (20, 1, 2))
    x = centers + 0.1 * rng.standard_normal((20, 6, 2))
    y = np.repeat(np.arange(20), 6)
    return tasks_from_arrays(x.reshape(-1, 2).astype("f"), y, num_ways, 2, 3)


@pytest.fixture(scope="module")
def prototypical():
    """Trained with five classes a task."""
    learner = Learner(
        embedding(),
        "sparse_categorical_crossentropy",
        method=PrototypicalNetworks(),
        metrics=["accuracy"],
    )
    learner.fit(blobs(5), 60, meta_batch_size=2, progress=False)
    return learner


class TestLearner:
    def test_a_task_may_have_another_number_of_classes(self, prototypical):
        scores = prototypical.evaluate(blobs(3), 20)
        assert scores.values["accuracy"].shape == (20, 1)
        assert scores.mean("accuracy") > 0.9

    def test_labels_permuted_permute_outputs(self, prototypical):
        task = blobs(3).tasks(0, 1)
        x, y = task.support.inputs[0], task.support.targets[0]
        query = task.query.inputs[0]
        outputs = prototypical.adapt(x, y).predict(query)
        order = np.array([2, 0, 1])
        permuted = prototypical.adapt(x, order[y].astype("int32")).predict(
            query
        )
        np.testing.assert_allclose(permuted[:, order], outputs, rtol=1e-5)
        alone = prototypical.adapt(x, y).predict(query[:1])
        np.testing.assert_allclose(alone, outputs[:1], rtol=1e-5)

    def test_saved_and_loaded_it_predicts_the_same(
        self, prototypical, tmp_path
    ):
        prototypical.save(tmp_path / "saved")
        loaded = Learner.load(tmp_path / "saved")
        assert loaded.method == prototypical.method
        task = blobs(4).tasks(0, 1)
        support = task.support.inputs[0], task.support.targets[0]
        np.testing.assert_array_equal(
            loaded.adapt(*support).predict(task.query.inputs[0]),
            prototypical.adapt(*support).predict(task.query.inputs[0]),
        )

    def test_the_export_adapts_to_prototypes(self, prototypical, tmp_path):
        prototypical.export(tmp_path / "exported")
        loaded = tf.saved_model.load(tmp_path / "exported")
        task = blobs(3).tasks(0, 1)
        x = tf.constant(task.support.inputs[0])
        y = tf.constant(task.support.targets[0], tf.int32)
        state = loaded.signatures["adapt"](support_inputs=x, support_targets=y)
        assert set(state) == {"prototypes"}
        query = tf.constant(task.query.inputs[0])
        asked = {"query_inputs": query} | state
        found = loaded.signatures["predict_adapted"](**asked)
        expected = prototypical.adapt(x, y).predict(query)
        np.testing.assert_allclose(found["logits"], expected, rtol=1e-4)
        assert "predict" not in loaded.signatures

    def test_settings_it_lacks_are_refused(self, prototypical):
        with pytest.raises(ConfigError, match="protonet has no updates"):
            prototypical.evaluate(blobs(3), 2, num_steps=1)
        task = blobs(3).tasks(0, 1)
        adapted = prototypical.adapt(
            task.support.inputs[0], task.support.targets[0]
        )
        with pytest.raises(ConfigError, match="does not adapt weights"):
            adapted.to_keras()

    def test_a_class_without_examples_is_refused(self, prototypical):
        x = np.ones((3, 2), "float32")
        with pytest.raises(DataError, match="no example of class 1"):
            prototypical.adapt(x, np.array([0, 2, 2], "int32"))

    def test_regression_is_refused(self):
        with pytest.raises(ConfigError, match="protonet classifies"):
            Learner(embedding(), "mse", method=PrototypicalNetworks())

    def test_settings_of_maml_do_not_go_with_another_method(self):
        with pytest.raises(ConfigError, match="alpha does not go with method"):
            Learner(embedding(), "mse", alpha=0.1, method=Reptile())


def weights(run):
    opened = RunDirectory.open(run)
    experiment = opened.source.build(opened.config, run)
    Checkpoints(opened.checkpoints, experiment.learned).restore_latest()
    return [v.numpy() for vs in experiment.learned.values() for v in vs]


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        (
            "protonet",
            [
                "--datasource=glyphs",
                "--num_filters=4",
                "--train_classes=7",
                "--train_queries=1",
            ],
        ),
        ("reptile", ["--num_updates=2", "--inner_batch_size=4"]),
        ("meta_sgd", []),
    ],
)
def test_the_command_line_trains_and_resumes_it(method, flags, tmp_path):
    def settings(iterations):
        return (
            f"--method={method}",
            *flags,
            f"--metatrain_iterations={iterations}",
        )

    through = train(tmp_path / "a", *settings(3))
    resumed = train(tmp_path / "b", *settings(1))
    command(
        *settings(3),
        f"--logdir={tmp_path / 'b'}",
        "--compare=False",
        "--test_tasks=5",
        "--log=False",
    )
    for a, b in zip(weights(through), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    table = resumed / "report_tasks5.md"
    assert table.read_text().count("|") > 20
    evaluation = "--train=False", f"--run_dir={resumed}", "--test_tasks=5"
    if method != "reptile":  # its runs hold no more than MAML's
        before = table.read_text()
        command(*evaluation)
        assert table.read_text() == before
    if method == "protonet":
        export = f"--export_dir={tmp_path / 'exported'}"
        for asked in (evaluation, (*evaluation[:2], export)):
            text = error_of(*asked, "--update_lr=0.1")
            assert "protonet has no updates. Leave out --update_lr." in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--method=none", "--method must be one of"),
        (
            "--datasource=glyphs --method=protonet --update_lr=0.1",
            "--update_lr does not go with --method=protonet",
        ),
        ("--datasource=point --method=reptile", "--method is for"),
        (
            "--datasource=glyphs --method=protonet --pretrain_iterations=2",
            "--pretrain_iterations needs .* --method=protonet are embeddings",
        ),
        ("--method=protonet", "--method=protonet classifies"),
    ],
)
def test_what_makes_no_sense_ends_in_one_line(flags, message, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        text = error_of("--metatrain_iterations=2", *flags.split())
    assert re.search(message, text)
