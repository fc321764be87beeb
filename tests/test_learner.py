"""The learner: the engine's numbers, for users' models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from maml_tf.core.maml import Task
from maml_tf.errors import TrainingDivergedError
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.sinusoids import SinusoidConfig
from maml_tf.layers.normalization import all_layers
from maml_tf.learner.learner import Learner
from maml_tf.models import conv_net, dense_net
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.tasks.sources import tasks_from_arrays, tasks_from_function
from maml_tf.training.files import TrainingFiles

ALPHA = 0.1


def linear_net(units=1, **kwargs):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(units, **kwargs)]
    )


def lines(seed):
    """y = w x for a w of the task."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((2, 1))
    x = rng.standard_normal((2, 4, 2))
    return tuple((x[i], x[i] @ w) for i in range(2))


def image_net():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(3, 3, strides=2),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )


def image_tasks(**kwargs):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 5)
    x = rng.standard_normal((30, 6, 6, 1)) + y[:, None, None, None] / 3
    return tasks_from_arrays(x, y, 2, 1, 3, **kwargs)


def weights(model):
    return [w.copy() for w in model.get_weights()]


def assert_equal(a, b, **kwargs):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, **kwargs)


def test_fit_is_the_training_of_the_experiments(tmp_path):
    """The same weights after the same iterations, whole and in two calls."""
    config = SinusoidConfig(
        metatrain_iterations=120,
        meta_batch_size=3,
        num_shots=5,
        alpha=ALPHA,
        num_steps=2,
        beta=0.01,
    )
    experiment = find_source("sinusoid").build(config, tmp_path)
    model = experiment.model
    before = model.get_weights()
    files = TrainingFiles(tmp_path, experiment.state, tensorboard=False)
    experiment.train(files, 0, Console(quiet=True))
    learner = Learner(dense_net(1, (40, 40), 1), "mse", ALPHA, num_steps=2)
    learner.model.set_weights(before)
    outer = keras.optimizers.Adam(0.01, epsilon=1e-8)
    for iterations in (70, 50):
        history = learner.fit(
            Sinusoids(5),
            iterations,
            meta_batch_size=3,
            optimizer=outer,
            progress=False,
        )
    assert learner.iterations == 120
    assert history.iterations == [100, 120]
    assert set(history.losses) == {"pre_update", "post_update"}
    assert_equal(weights(learner.model), weights(model), atol=1e-5)


class TestAdapt:
    def test_it_takes_gradient_steps_on_the_support_set(self):
        learner = Learner(linear_net(use_bias=False), "mse", ALPHA, 3)
        (x, y), (query_x, query_y) = lines(0)
        w = learner.model.get_weights()[0].astype("float64")
        losses = []
        for _ in range(3):
            losses.append(np.mean((x @ w - y) ** 2))
            w -= ALPHA * 2 / 4 * x.T @ (x @ w - y)
        adapted = learner.adapt(x, y)
        np.testing.assert_allclose(adapted.theta[0], w, rtol=1e-4)
        np.testing.assert_allclose(adapted.losses, losses, rtol=1e-4)
        np.testing.assert_allclose(
            adapted.predict(query_x), query_x @ w, rtol=1e-4
        )
        found = adapted.evaluate(query_x, query_y)
        assert found["loss"] == pytest.approx(
            np.mean((query_x @ w - query_y) ** 2), rel=1e-4
        )

    def test_steps_and_their_size_can_be_chosen(self):
        learner = Learner(linear_net(), "mse", ALPHA)
        support, _ = lines(0)
        two = learner.adapt(*support, num_steps=2, alpha=0.05)
        assert len(two.losses) == 2
        same = Learner(learner.model, "mse", 0.05, 2).adapt(*support)
        assert_equal(two.theta, same.theta)
        unchanged = learner.adapt(*support, num_steps=0)
        assert_equal(unchanged.theta, learner.theta)

    def test_it_does_not_change_the_learner(self):
        learner = Learner(image_net(), "sparse_categorical_crossentropy", 0.5)
        before = weights(learner.model)
        task = image_tasks().tasks(0, 1)
        adapted = learner.adapt(task.support.inputs[0], task.support.targets[0])
        adapted.predict(task.query.inputs[0])
        adapted.to_keras()
        learner.evaluate(image_tasks(), 3)
        assert_equal(weights(learner.model), before, rtol=0)

    def test_what_does_not_adapt_stays(self):
        learner = Learner(
            linear_net(), "mse", ALPHA, adapts=lambda v: v.name == "bias"
        )
        (x, y), _ = lines(0)
        kernel, bias = learner.adapt(x, y + 1).theta
        np.testing.assert_array_equal(kernel, learner.theta[0])
        assert bias[0] != 0


def test_evaluation_is_that_of_adapted_models():
    learner = Learner(
        image_net(),
        "sparse_categorical_crossentropy",
        0.2,
        metrics=["accuracy"],
    )
    stream = image_tasks()
    task = stream.tasks(0, 3)
    for statistics in ("support", "transductive"):
        scores = learner.evaluate(stream, 3, 2, statistics=statistics)
        assert scores.values["accuracy"].shape == (3, 3)
        for update in (0, 2):
            found = [
                learner.adapt(
                    task.support.inputs[i],
                    task.support.targets[i],
                    num_steps=update,
                ).evaluate(
                    task.query.inputs[i], task.query.targets[i], statistics
                )
                for i in range(3)
            ]
            for name in ("loss", "accuracy"):
                np.testing.assert_allclose(
                    scores.values[name][:, update],
                    [f[name] for f in found],
                    rtol=1e-4,
                )
    assert scores.mean("accuracy", 2) == pytest.approx(
        scores.values["accuracy"][:, 2].mean()
    )
    text = str(scores)
    assert "3 tasks" in text
    assert "transductive" in text
    assert f"{scores.mean():.4g} ± {scores.ci95():.2g}" in text


class TestAdaptedModel:
    @pytest.fixture(params=["keras", "maml_tf"])
    def adapted(self, request):
        of_keras = request.param == "keras"
        model = image_net() if of_keras else conv_net((6, 6, 1), 2, 4)
        learner = Learner(model, "sparse_categorical_crossentropy", 0.5)
        task = image_tasks().tasks(0, 1)
        support = task.support
        return (
            learner.adapt(support.inputs[0], support.targets[0]),
            task.query.inputs[0],
        )

    def test_by_support_statistics_each_prediction_is_on_its_own(self, adapted):
        model, x = adapted
        together = model.predict(x)
        alone = np.concatenate([model.predict(one[None]) for one in x])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        transductive = model.predict(x, "transductive")
        assert np.abs(transductive - together).max() > 0.01

    def test_a_plain_keras_model_predicts_the_same(self, adapted, tmp_path):
        model, x = adapted
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(
            loaded.predict(x, verbose=0), model.predict(x), atol=1e-5
        )
        kinds = [type(x) for x in all_layers(loaded)]
        assert {x.__module__.split(".")[0] for x in kinds} == {"keras"}
        assert keras.layers.Conv2D in kinds
        assert keras.layers.BatchNormalization in kinds
        assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]

    def test_it_says_what_it_is(self, adapted):
        assert repr(adapted[0]) == (
            "<AdaptedModel of sequential: 1 updates on 2 examples>"
        ).replace("sequential", adapted[0]._network.model.name)


class TestMetaSGD:
    def test_step_sizes_are_learned_for_what_adapts(self):
        learner = Learner(
            linear_net(),
            "mse",
            ALPHA,
            adapts=lambda v: v.name == "kernel",
            learn_alpha=True,
        )
        before = learner.theta
        learner.fit(
            tasks_from_function(lines), 3, meta_batch_size=2, progress=False
        )
        kernel_alpha, bias_alpha = learner.alpha
        assert kernel_alpha.shape == (2, 1)
        assert (kernel_alpha.numpy() != np.float32(ALPHA)).all()
        assert bias_alpha == 0.0
        assert (before[0].numpy() != learner.theta[0].numpy()).all()
        (x, y), _ = lines(0)
        kernel, bias = (t.numpy() for t in learner.theta)
        residual = x @ kernel + bias - y
        step = kernel_alpha.numpy() * 2 / 4 * (x.T @ residual)
        np.testing.assert_allclose(
            learner.adapt(x, y).theta[0], kernel - step, rtol=1e-4
        )

    @pytest.mark.slow
    def test_it_beats_the_fixed_step_size_on_sinusoids(self):
        losses = {}
        for learn_alpha in (False, True):
            learner = Learner(
                dense_net(1, (40, 40), 1),
                "mse",
                0.01,
                learn_alpha=learn_alpha,
            )
            learner.fit(Sinusoids(10), 5000, meta_batch_size=25, progress=False)
            scores = learner.evaluate(Sinusoids(10, split="test"))
            losses[learn_alpha] = scores.mean(), scores.ci95()
        assert sum(losses[True]) < losses[False][0] - losses[False][1]


class TestFiles:
    def test_a_loaded_learner_continues_where_it_was(self, tmp_path):
        learner = Learner(
            image_net(),
            "sparse_categorical_crossentropy",
            0.2,
            2,
            metrics=["accuracy"],
            first_order=True,
            learn_alpha=True,
        )
        learner.fit(image_tasks(), 2, meta_batch_size=2, progress=False)
        learner.save(tmp_path / "learner")
        learner.save(tmp_path / "learner")  # in place of the first
        assert [p.name for p in tmp_path.iterdir()] == ["learner"]
        loaded = Learner.load(tmp_path / "learner")
        assert repr(loaded) == repr(learner)
        assert loaded.spec == learner.spec
        assert loaded.method == learner.method
        assert learner.method.adapts == (1, 1, 0, 0, 1, 1)
        assert_equal(loaded.theta, learner.theta, rtol=0)
        task = image_tasks().tasks(0, 1)
        support = task.support.inputs[0], task.support.targets[0]
        x = task.query.inputs[0]
        assert_equal(
            loaded.adapt(*support).predict(x),
            learner.adapt(*support).predict(x),
            rtol=1e-6,
        )

    def test_keras_losses_are_saved_with_their_settings(self, tmp_path):
        loss = keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=0.25
        )
        learner = Learner(linear_net(), loss, ALPHA)
        learner.save(tmp_path / "learner")
        support = np.ones((2, 2)), np.ones((2, 1), int)
        assert_equal(
            Learner.load(tmp_path / "learner").adapt(*support).losses,
            learner.adapt(*support).losses,
        )

    def test_inputs_of_any_structure_are_known_again(self, tmp_path):
        a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
        joined = keras.layers.Concatenate()([a, b])
        model = keras.Model({"a": a, "b": b}, keras.layers.Dense(1)(joined))
        learner = Learner(model, "mse", ALPHA)
        learner.adapt({"a": np.ones((2, 2)), "b": np.ones((2, 3))}, np.ones(2))
        learner.save(tmp_path / "learner")
        assert Learner.load(tmp_path / "learner").spec == learner.spec


def test_data_that_are_not_finite_are_told_from_divergence():
    def spoiled(seed):
        (x, y), query = lines(seed)
        return (x, y * (np.nan if seed == 9 else 1)), query

    learner = Learner(linear_net(), "mse", ALPHA)
    with pytest.raises(Exception, match="targets of a support set .* nan"):
        learner.fit(
            tasks_from_function(spoiled), 9, meta_batch_size=2, progress=False
        )
    learner = Learner(linear_net(), "mse", 1e30)
    with pytest.raises(TrainingDivergedError, match="Lower alpha or"):
        learner.fit(
            tasks_from_function(lines), 9, meta_batch_size=2, progress=False
        )


def test_fit_validates_and_shows_progress(capsys):
    learner = Learner(linear_net(), "mse", ALPHA, metrics=["mae"])
    history = learner.fit(
        tasks_from_function(lines),
        2,
        meta_batch_size=2,
        validation=tasks_from_function(lines, split="validation"),
    )
    (row,) = history.validation
    scores = learner.evaluate(
        tasks_from_function(lines, split="validation"), 200
    )
    assert row == {
        "iteration": 2,
        "loss": scores.mean("loss"),
        "mae": scores.mean("mae"),
    }
    assert "2/2" in capsys.readouterr().out
    assert "to iteration 2: pre_update" in repr(history)


def test_a_recurrent_model_and_sequences_of_labels():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((2, 3)),
            keras.layers.SimpleRNN(3, return_sequences=True, unroll=True),
            keras.layers.Dense(3),
        ]
    )

    def task(seed):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((2, 5, 2, 3))
        return tuple((part, np.argmax(part, -1)) for part in x)

    learner = Learner(
        model, "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    learner.fit(tasks_from_function(task), 1, meta_batch_size=2, progress=False)
    scores = learner.evaluate(tasks_from_function(task), 2)
    assert 0 < scores.mean("accuracy") < 1


def test_any_stream_of_tasks_will_do():
    class Mine:
        def tasks(self, first, count):
            pairs = [lines(i) for i in range(first, first + count)]
            return tf.nest.map_structure(lambda *x: np.stack(x), *pairs)

    learner = Learner(linear_net(), "mse", ALPHA)
    scores = learner.evaluate(Mine(), 2)
    assert isinstance(lines(0), tuple)
    assert not isinstance(lines(0), Task)
    assert scores.values["loss"].shape == (2, 2)
