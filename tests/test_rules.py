"""Methods that compare embeddings, and classifiers: golden values, invariants.

Expected numbers are worked out by hand from the papers' equations.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import command, error_of
from test_methods import blobs, embedding

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Task
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, DataError
from maml_tf.learner.learner import Learner
from maml_tf.methods.classifier import FineTuning, NearestNeighbor
from maml_tf.methods.embedding import cosines, largest_of_class
from maml_tf.methods.matching import (
    MatchingNetworks,
    attending,
    in_context,
    log_votes,
    lstm_step,
)
from maml_tf.methods.prototypical import PrototypicalNetworks
from maml_tf.methods.reptile import Reptile
from maml_tf.methods.shuffling import order
from maml_tf.methods.siamese import (
    SiameseNetworks,
    balanced_cross_entropy,
    pair_scores,
)
from maml_tf.models import koch_net

SPARSE = "sparse_categorical_crossentropy"
RULES = {
    "protonet": PrototypicalNetworks(),
    "matching": MatchingNetworks(),
    "matching, full context": MatchingNetworks(full_context=True, reads=2),
    "siamese": SiameseNetworks(weight_decay=0.01),
    "nearest": NearestNeighbor(num_classes=20),
}
ALL = RULES | {"finetuning": FineTuning(num_classes=20, num_steps=3)}
MORE = ALL | {"reptile": Reptile(0.01, 2, inner_batch_size=2)}
each_rule = pytest.mark.parametrize("name", RULES)
each = pytest.mark.parametrize("name", ALL)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def made(name):
    return Learner(embedding(), SPARSE, method=MORE[name], metrics=["accuracy"])


def one_task(num_ways=3):
    task = blobs(num_ways).tasks(0, 1)
    return tf.nest.map_structure(lambda x: x[0], task)


class TestMatching:
    def test_votes_by_hand(self):
        cosine = tf.constant([[0.9, 0.1], [0.5, 0.5]])
        one_each = log_votes(cosine, tf.eye(2))
        share = 1 / (1 + np.exp(-0.8))
        np.testing.assert_allclose(
            np.exp(one_each), [[share, 1 - share], [0.5, 0.5]], rtol=1e-5
        )

    def test_votes_of_two_examples_a_class_are_not_summed_cosines(self):
        cosine = tf.constant([[0.9, 0.1, 0.5, 0.5]])
        labels = tf.constant([[1.0, 0], [1, 0], [0, 1], [0, 1]])
        found = np.exp(log_votes(cosine, labels))[0]
        np.testing.assert_allclose(found, [0.519479, 0.480521], rtol=1e-5)

    def test_one_class_is_certain(self):
        votes = log_votes(tf.constant([[0.3, -2.0]]), tf.ones((2, 1)))
        np.testing.assert_allclose(votes, [[0.0]], atol=1e-6)

    def test_repeated_support_sets_change_nothing(self):
        similarities = tf.constant(draw(3, 4))
        labels = tf.one_hot([0, 1, 2, 1], 3, dtype=tf.float64)
        np.testing.assert_allclose(
            log_votes(tf.tile(similarities, [1, 3]), tf.tile(labels, [3, 1])),
            log_votes(similarities, labels),
        )

    def test_by_distance_one_shot_it_is_a_prototypical_network(self):
        task = one_task()
        first = Batch(task.support.inputs[::2], task.support.targets[::2])
        found, expected = (
            tf.nn.softmax(
                Learner(embedding(), SPARSE, method=method)
                .adapt(*first)
                .predict(task.query.inputs)
            )
            for method in (
                MatchingNetworks(similarity="squared_distance"),
                PrototypicalNetworks(),
            )
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

    def test_an_lstm_is_that_of_keras(self):
        x = draw(5, 3).astype("f")
        kernel, bias = draw(6, 12).astype("f"), draw(12).astype("f")
        layer = keras.layers.LSTM(3, return_sequences=True)
        layer.build((None, 5, 3))
        layer.set_weights([kernel[:3], kernel[3:], bias])
        expected = layer(x[None])[0]
        h = c = tf.zeros((1, 3))
        for i in range(5):
            inputs = tf.concat([x[i : i + 1], h], axis=-1)
            h, c = lstm_step((kernel, bias), inputs, c)
            np.testing.assert_allclose(h[0], expected[i], rtol=1e-4, atol=1e-6)

    def test_weights_of_zero_leave_the_support_set(self):
        g = tf.constant(draw(4, 3))
        zeros = [tf.zeros((6, 12), g.dtype), tf.zeros(12, g.dtype)] * 2
        np.testing.assert_allclose(in_context(zeros, g), g)

    def test_reads_by_hand(self):
        """Weights of zero: h = f' at each step, whatever is read."""
        f, g = tf.constant(draw(2, 3)), tf.constant(draw(4, 3))
        zeros = [tf.zeros((9, 12), g.dtype), tf.zeros(12, g.dtype)]
        np.testing.assert_allclose(attending(zeros, f, g, 3), f)

    def test_full_context_has_the_size_of_the_paper(self):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(64)])
        learner = Learner(
            model, SPARSE, method=MatchingNetworks(full_context=True)
        )
        sizes = [int(np.prod(v.shape)) for v in learner.method_variables]
        assert sum(sizes) == 115_456


class TestSiamese:
    own = [tf.constant([0.5, -2.0, 1.0]), tf.constant(0.3)]

    def test_pairs_are_symmetric(self):
        x, y = (tf.constant(draw(4, 3, seed=s).astype("f")) for s in (0, 1))
        np.testing.assert_allclose(
            pair_scores(self.own, x, y),
            tf.transpose(pair_scores(self.own, y, x)),
            rtol=1e-5,
        )

    def test_equal_inputs_score_b(self):
        x = tf.ones((1, 3))
        assert float(pair_scores(self.own, x, x)[0, 0]) == pytest.approx(0.3)

    def test_kinds_of_pairs_make_half_of_the_loss_each(self):
        same = tf.constant([[1.0, 0, 0]])
        found = balanced_cross_entropy(same, tf.constant([[2.0, 1.0, -1.0]]))
        softplus = np.logaddexp(0, [-2.0, 1.0, -1.0])
        assert float(found) == pytest.approx(
            softplus[0] / 2 + softplus[1:].mean() / 2
        )

    def test_a_constant_output_is_at_chance(self):
        learner = made("siamese")
        for v in learner.model.trainable_variables:
            v.assign(tf.zeros_like(v))
        scores = learner.evaluate(blobs(4), 3)
        np.testing.assert_allclose(scores.values["accuracy"], 0.25)

    @pytest.mark.slow
    def test_kochs_network_has_the_size_of_the_paper(self):
        model = koch_net((105, 105, 1))
        assert model.count_params() + 4096 + 1 == 38_951_745

    def test_kochs_network_refuses_small_images(self):
        assert koch_net((65, 65, 1)).output_shape == (None, 4096)
        with pytest.raises(ConfigError, match="at least 65 pixels"):
            koch_net((64, 65, 1))


class TestNearestNeighbor:
    def test_the_nearest_of_a_class_decides(self):
        scores = tf.constant([[0.2, 0.9, 0.6]])
        labels = tf.constant([[1.0, 0], [0, 1], [1, 0]])
        np.testing.assert_allclose(
            largest_of_class(scores, labels), [[0.6, 0.9]]
        )

    def test_scaling_features_changes_nothing(self):
        x, y = draw(3, 4), draw(2, 4, seed=1)
        np.testing.assert_allclose(cosines(7 * x, 0.1 * y), cosines(x, y))

    def test_its_training_is_that_of_a_plain_classifier(self):
        """Two steps, beside Keras' own model and optimizer."""
        learner = made("nearest")
        plain = keras.Sequential([embedding(), keras.layers.Dense(20)])
        plain.layers[1].set_weights(
            [v.numpy() for v in learner.method_variables]
        )
        plain.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        batches = blobs(3).labelled_batches(64)
        for i in range(2):
            (x,), (y,) = batches.tasks(i, 1).support
            plain.train_on_batch(x, y)
        learner.fit(
            blobs(3),
            2,
            meta_batch_size=1,
            optimizer=keras.optimizers.SGD(0.1),
            progress=False,
        )
        learned = [*learner.theta, *learner.method_variables]
        for a, b in zip(learned, plain.trainable_variables, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


class TestFineTuning:
    def test_updates_are_gradient_descent(self):
        learner = Learner(
            embedding(),
            SPARSE,
            method=FineTuning(
                num_classes=20, alpha=0.1, num_steps=15, rate_decay=0.5
            ),
        )
        task = one_task()
        plain = keras.Sequential([embedding(), keras.layers.Dense(3)])
        start = learner.adapt(*task.support, num_steps=0)
        plain.layers[1].set_weights([start.state.kernel, start.state.bias])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(0.1)
        plain.compile(optimizer, loss)
        for step in range(15):
            optimizer.learning_rate = 0.1 / (1 + 0.5 * step)
            plain.train_on_batch(*task.support)
        adapted = learner.adapt(*task.support)
        assert len(adapted.losses) == 15
        np.testing.assert_allclose(
            adapted.predict(task.query.inputs),
            plain(task.query.inputs),
            rtol=1e-3,
            atol=1e-4,
        )

    def test_a_rate_of_zero_leaves_the_random_layer(self):
        learner = made("finetuning")
        task = one_task()
        found = [
            learner.adapt(*task.support, n, 0.0).predict(task.query.inputs)
            for n in (0, 3)
        ]
        np.testing.assert_array_equal(*found)

    def test_the_number_of_classes_is_needed(self):
        with pytest.raises(ConfigError, match="num_classes=train.num_classes"):
            Learner(embedding(), SPARSE, method=FineTuning())

    def test_too_few_classes_are_refused(self):
        method = FineTuning(num_classes=7)
        with pytest.raises(DataError, match="Labels must be 0, ..., 6"):
            Learner(embedding(), SPARSE, method=method).fit(
                blobs(3), 1, progress=False
            )

    def test_a_stream_without_classes_is_refused(self):
        class Other:
            def tasks(self, first, count):
                return blobs(3).tasks(first, count)

        with pytest.raises(ConfigError, match="labelled_batches"):
            made("finetuning").fit(Other(), 1, progress=False)


@each_rule
def test_gradients_match_finite_differences(name, float64):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, "sigmoid")]
    )
    network = Network(model, tf.nn.sparse_softmax_cross_entropy_with_logits)
    labels = tf.constant([0, 1, 0, 1])
    task = Task(
        *(Batch(tf.constant(draw(4, 2, seed=s)), labels) for s in (1, 2))
    )
    method = RULES[name].bind(network)
    own = [tf.convert_to_tensor(v) for v in method.variables(network)]
    params = [*network.theta, *own]
    directions = [tf.constant(draw(*p.shape, seed=3)) for p in params]
    found = method.task_gradient(network, params, task)

    def loss(step):
        moved = [p + step * d for p, d in zip(params, directions, strict=True)]
        (value,) = method.task_gradient(network, moved, task).losses.values()
        if name == "siamese":
            value += method.penalty(moved)
        return float(value)

    expected = (loss(1e-6) - loss(-1e-6)) / 2e-6
    slope = sum(
        float(tf.reduce_sum(g * d))
        for g, d in zip(found.gradient, directions, strict=True)
    )
    assert slope == pytest.approx(expected, rel=1e-5)


@each_rule
def test_permutations_and_single_queries(name):
    learner, task = made(name), one_task()
    x, y = task.support
    query = task.query.inputs
    outputs = learner.adapt(x, y).predict(query)
    classes = np.array([2, 0, 1])
    relabelled = learner.adapt(x, classes[y].astype("int32")).predict(query)
    np.testing.assert_allclose(relabelled[:, classes], outputs, rtol=1e-5)
    places = np.random.default_rng(0).permutation(len(x))
    reordered = learner.adapt(x[places], y[places]).predict(query)
    np.testing.assert_allclose(reordered, outputs, rtol=1e-4, atol=1e-5)
    alone = learner.adapt(x, y).predict(query[:1])
    np.testing.assert_allclose(alone, outputs[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "siamese",
        "nearest",
        slow("matching, full context"),
        slow("finetuning"),
        slow("reptile"),
    ],
)
def test_a_resumed_training_ends_the_same(name, tmp_path):
    def fit(directory, iterations):
        learner = made(name)
        learner.fit(
            blobs(3),
            iterations,
            meta_batch_size=2,
            directory=tmp_path / directory,
            progress=False,
        )
        return learner

    fit("b", 2)
    through, resumed = fit("a", 4), fit("b", 4)
    for a, b in zip(through.params, resumed.params, strict=True):
        np.testing.assert_array_equal(a, b)


@each
def test_tasks_may_have_any_number_of_classes(name):
    learner = made(name)
    for num_ways in (2, 4):
        scores = learner.evaluate(blobs(num_ways), 2)
        shape = (2, learner.method.test_steps + 1)
        assert scores.values["accuracy"].shape == shape


@each
def test_saved_and_exported_it_predicts_the_same(name, tmp_path):
    learner, task = made(name), one_task()
    expected = learner.adapt(*task.support).predict(task.query.inputs)
    learner.save(tmp_path / "saved")
    loaded = Learner.load(tmp_path / "saved")
    assert loaded.method == learner.method
    np.testing.assert_allclose(
        loaded.adapt(*task.support).predict(task.query.inputs),
        expected,
        rtol=1e-5,
        atol=1e-6,
    )
    learner.export(tmp_path / "exported")
    served = tf.saved_model.load(tmp_path / "exported").signatures
    assert "predict" not in served
    updates = {}
    if learner.method.test_steps:
        updates["num_updates"] = tf.constant(learner.method.test_steps)
    state = served["adapt"](
        support_inputs=tf.constant(task.support.inputs),
        support_targets=tf.constant(task.support.targets),
        **updates,
    )
    found = served["predict_adapted"](
        query_inputs=tf.constant(task.query.inputs), **state
    )
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("siamese", ["--train_classes=4", "--train_queries=1"]),
        slow("matching", ["--full_context", "--train_queries=1"]),
        slow("nearest", ["--batch_size=8"]),
        slow("finetuning", ["--batch_size=8", "--num_updates=1"]),
    ],
)
def test_the_command_line_trains_it(method, flags, tmp_path):
    command(
        f"--logdir={tmp_path}",
        f"--method={method}",
        "--datasource=glyphs",
        "--num_filters=2",
        "--update_batch_size=2",
        "--metatrain_iterations=1",
        "--test_tasks=2",
        "--log=False",
        *flags,
    )
    (run,) = tmp_path.iterdir()
    assert f".{method}." in run.name
    norm = "support" if method == "finetuning" else "population"
    assert f"| 2 | {norm} |" in (run / "report_tasks2.md").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method=siamese"], "--method=siamese classifies"),
        (
            ["--datasource=glyphs", "--method=nearest", "--train_classes=9"],
            "--method=nearest trains on batches of all classes",
        ),
        (
            ["--datasource=glyphs", "--method=matching", "--similarity=dot"],
            "--similarity must be one of",
        ),
        (
            ["--datasource=glyphs", "--method=matching", "--update_lr=1"],
            "--update_lr does not go with --method=matching",
        ),
    ],
)
def test_what_makes_no_sense_ends_in_one_line(flags, message, tmp_path):
    assert message in error_of(f"--logdir={tmp_path}", *flags)


class TestOrder:
    def test_it_follows_the_examples(self):
        x = draw(9, 4).astype("f")
        first = order(x).numpy()
        assert sorted(first) == list(range(9))
        places = np.random.default_rng(0).permutation(9)
        np.testing.assert_array_equal(places[order(x[places])], first)

    def test_each_number_and_each_set_has_one_of_its_own(self):
        x = draw(3, 9, 4).astype("f")
        found = {tuple(order(s, n).numpy()) for s in x for n in range(3)}
        assert len(found) == 9

    def test_many_at_once_are_the_same(self):
        x = tf.constant(draw(3, 9, 4).astype("f"))
        together = tf.function(
            lambda x: tf.vectorized_map(order, x, fallback_to_while_loop=False),
            jit_compile=True,
        )(x)
        np.testing.assert_array_equal(together, [order(s) for s in x])


class TestMomentsOfReptile:
    def made(self, **settings):
        return Learner(
            keras.Sequential([embedding(), keras.layers.Dense(3)]),
            SPARSE,
            method=Reptile(0.01, 3, inner_batch_size=2, **settings),
        )

    def test_they_pass_from_task_to_task(self):
        learner = self.made()
        learner.fit(
            blobs(3),
            2,
            meta_batch_size=2,
            optimizer=keras.optimizers.SGD(0.5),
            progress=False,
        )
        count, *squares = learner.method_variables
        assert float(count) == 6
        assert all(np.max(s) > 0 for s in squares)
        task = one_task()
        warm = learner.adapt(*task.support, 1)
        for v in learner.method_variables:
            v.assign(tf.zeros_like(v))
        cold = learner.adapt(*task.support, 1)
        assert not np.allclose(warm.theta[0], cold.theta[0], rtol=1e-3)

    def test_unless_it_is_said(self):
        assert not self.made(keep_moments=False).method_variables
        assert not self.made(inner_optimizer="sgd").method_variables

    def test_new_tasks_may_have_other_updates(self):
        learner = self.made(test_updates=7, test_batch_size=5)
        assert learner.evaluate(blobs(3), 2).values["loss"].shape == (2, 8)
        assert len(learner.adapt(*one_task().support).losses) == 7

    def test_the_outer_rate_falls_to_zero(self):
        rate = Reptile(decay_iterations=10).outer_rate(2.0)
        found = [float(rate(i)) for i in (0, 5, 10, 20)]
        np.testing.assert_allclose(found, [2, 1, 0, 0])
        assert Reptile().outer_rate(2.0) == 2.0

    def test_so_does_that_of_the_default_optimizer(self):
        learner = Learner(
            embedding(), SPARSE, method=Reptile(decay_iterations=2)
        )
        learner.fit(blobs(3), 2, meta_batch_size=1, progress=False)
        before = learner.theta
        learner.fit(blobs(3), 1, meta_batch_size=1, progress=False)
        for a, b in zip(learner.theta, before, strict=True):
            np.testing.assert_array_equal(a, b)
