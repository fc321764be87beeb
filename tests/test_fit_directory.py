"""`Learner.fit` in a directory, and with Keras' callbacks."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from maml_tf.errors import RunDirectoryError
from maml_tf.learner.learner import Learner
from maml_tf.methods.meta_sgd import MetaSGD
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.training.files import TrainingFiles


def learner(**settings):
    return Learner(dense_net(1, (4,), 1), "mse", **settings)


def fit(directory, iterations=120, made=None, **options):
    made = made or learner()
    made.fit(
        Sinusoids(5),
        iterations,
        meta_batch_size=2,
        directory=directory,
        steps_per_epoch=50,
        progress=False,
        **options,
    )
    return made


def assert_same(a, b):
    for x, y in zip(a.params, b.params, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_same_call_resumes(tmp_path):
    """Of a method with variables; that of MAML is killed below."""

    def made():
        return learner(method=MetaSGD())

    through = fit(tmp_path / "a", made=made())
    fit(tmp_path / "b", 70, made=made())
    resumed = fit(tmp_path / "b", made=made())
    assert resumed.iterations == 120
    assert_same(through, resumed)
    assert resumed.history.iterations == [50, 70, 100, 120]
    assert list((tmp_path / "b" / "tensorboard").iterdir())
    again = fit(tmp_path / "b", made=made())
    assert_same(through, again)


SCRIPT = """
import sys
from maml_tf.learner.learner import Learner
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids
Learner(dense_net(1, (4,), 1), "mse").fit(
    Sinusoids(5), 3000, meta_batch_size=2, directory=sys.argv[1],
    steps_per_epoch=50, progress=False,
)
"""


def test_a_killed_training_ends_bit_identical(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / "b"])
    deadline = time.monotonic() + 300
    while not list((tmp_path / "b" / "checkpoints").glob("0*")):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    through = fit(tmp_path / "a", 3000)
    resumed = fit(tmp_path / "b", 3000)
    assert_same(through, resumed)
    logs = [(tmp_path / x / "train.csv").read_text() for x in "ab"]
    assert logs[0] == logs[1]


def test_the_best_weights_in_validation_are_kept(tmp_path):
    made = fit(tmp_path, validation=Sinusoids(5, split="validation"))
    losses = [row["loss"] for row in made.history.validation]
    (kept,) = (tmp_path / "best").glob("0*")
    best = made.history.validation[int(np.argmin(losses))]
    assert int(kept.name) == best["iteration"]
    header = (tmp_path / "validation.csv").read_text().splitlines()[0]
    assert header == "iteration,loss"


def test_less_than_was_trained_and_a_second_process_are_refused(tmp_path):
    fit(tmp_path, 100)
    with pytest.raises(RunDirectoryError, match="100 iterations, more than"):
        fit(tmp_path, 50)
    with (
        TrainingFiles(tmp_path, {"weights": []}).locked(),
        pytest.raises(RunDirectoryError, match="Another process"),
    ):
        fit(tmp_path)


def test_the_history_survives_an_interrupt_and_is_drawn():
    made = learner()

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            None,
            400,
            made,
            validation=Sinusoids(5, split="validation"),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=interrupt)],
        )
    assert made.history.iterations == [50, 100, 150]
    assert len(made.history.validation) == 3
    assert len(made.history.plot().axes) == 2


def test_keras_callbacks_see_and_steer_training(tmp_path):
    seen, rates = [], []
    made = learner()
    model = made.model
    model.compile("sgd", "mse")
    optimizer = model.optimizer

    def note(epoch, logs):
        seen.append(dict(logs))
        rates.append(float(model.optimizer.learning_rate))

    fit(
        None,
        1000,
        made,
        validation=Sinusoids(5, split="validation"),
        callbacks=[
            keras.callbacks.LearningRateScheduler(
                lambda epoch, rate: 0.01 if epoch == 0 else 1e-8
            ),
            keras.callbacks.LambdaCallback(on_epoch_end=note),
            keras.callbacks.EarlyStopping(
                "val_loss",
                patience=1,
                min_delta=1e-3,
                restore_best_weights=True,
            ),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "{epoch}.weights.h5", save_weights_only=True
            ),
            keras.callbacks.TensorBoard(tmp_path / "events"),
        ],
    )
    assert {"pre_update", "post_update", "val_loss"} <= set(seen[0])
    assert rates[:2] == pytest.approx([0.01, 1e-8])
    assert made.iterations < 1000
    assert (tmp_path / "log.csv").read_text().count("\n") == len(seen) + 1
    assert (tmp_path / "1.weights.h5").exists()
    assert model.optimizer is optimizer


def test_what_callbacks_change_is_in_the_checkpoint(tmp_path):
    def halve():
        def change(epoch, logs):
            rate = model.optimizer.learning_rate
            rate.assign(rate / 2)

        made = learner()
        model = made.model
        return made, [keras.callbacks.LambdaCallback(on_epoch_end=change)]

    ends = []
    for directory, stages in (("a", (150,)), ("b", (100, 150))):
        for iterations in stages:
            made, callbacks = halve()
            fit(tmp_path / directory, iterations, made, callbacks=callbacks)
        ends.append(made)
    assert_same(*ends)


def test_the_checkpoint_of_a_stop_has_the_restored_weights(tmp_path):
    made = fit(
        tmp_path,
        1000,
        validation=Sinusoids(5, split="validation"),
        callbacks=[
            keras.callbacks.EarlyStopping(
                "val_loss",
                patience=0,
                min_delta=1e9,
                restore_best_weights=True,
            )
        ],
    )
    assert made.iterations < 1000
    again = fit(tmp_path, made.iterations)
    assert_same(made, again)


def test_a_learner_with_another_loss_learns_the_same_step_sizes():
    made = learner(method=MetaSGD())
    fit(None, 5, made.with_loss("mae"))
    before = MetaSGD().alpha
    assert any((v.numpy() != before).any() for v in made.method_variables)
