"""Training that is killed, interrupted or stopped early, and then resumed."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY, command, error_of

from maml_tf.core.maml import MetaGradient, gradient_or_zeros
from maml_tf.errors import RunDirectoryError
from maml_tf.learner.learner import Learner
from maml_tf.methods.meta_sgd import MetaSGD
from maml_tf.methods.method import Method
from maml_tf.methods.registry import METHODS
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.training.checkpoints import Checkpoints

HELD_OUT = Sinusoids(5, split="validation")
OPTIONS = {"meta_batch_size": 2, "steps_per_epoch": 50, "progress": False}


def meta_sgd():
    return Learner(dense_net(1, (4,), 1), "mse", method=MetaSGD())


def state_of(directory):
    """The newest checkpoint's variables, as bytes by name."""
    newest = max(directory.glob("checkpoints/0*"))
    reader = tf.train.load_checkpoint(newest / "state")
    return newest.name, {
        name: reader.get_tensor(name).tobytes()
        for name in reader.get_variable_to_shape_map()
        if "CHECKPOINTABLE" not in name and "counter" not in name
    }


SCRIPT = """
import sys
from maml_tf.learner.learner import Learner
from maml_tf.methods.meta_sgd import MetaSGD
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids
Learner(dense_net(1, (4,), 1), "mse", method=MetaSGD()).fit(
    Sinusoids(5), 2000, directory=sys.argv[1], meta_batch_size=2,
    steps_per_epoch=50, progress=False,
    validation=Sinusoids(5, split="validation"),
)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A training killed and resumed; meanwhile a second process was refused."""
    top = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, top / "b"], env=environment
    )
    deadline = time.monotonic() + 120
    while not list((top / "b").glob("checkpoints/*100")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RunDirectoryError) as refused:
            meta_sgd().fit(Sinusoids(5), 2000, directory=top / "b", **OPTIONS)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(list((top / "b").glob("checkpoints/00002000"))) == 0
    made = {}
    for name in "ab":
        made[name] = meta_sgd()
        made[name].fit(
            Sinusoids(5),
            2000,
            directory=top / name,
            validation=HELD_OUT,
            **OPTIONS,
        )
    return top, made, str(refused.value)


@pytest.mark.slow
def test_meta_sgd_ends_bit_identical(killed):
    top, _, _ = killed
    through, resumed = state_of(top / "a"), state_of(top / "b")
    assert through[0] == "00002000"
    assert any("optimizer" in name for name in through[1])
    assert any("method" in name for name in through[1])
    assert through == resumed
    for name in ("train.csv", "validation.csv"):
        assert (top / "a" / name).read_text() == (top / "b" / name).read_text()


@pytest.mark.slow
def test_best_is_the_same_and_measures_what_the_log_says(killed):
    top, made, _ = killed
    found = []
    for name in "ab":
        learner = meta_sgd()
        weights = [v.value for v in learner.model.variables]
        best = Checkpoints(top / name / "best", {"weights": weights})
        found.append(
            (best.restore_latest(), [w.numpy().tobytes() for w in weights])
        )
    assert found[0] == found[1]
    rows = {r["iteration"]: r["loss"] for r in made["a"].history.validation}
    assert rows[found[0][0]] == min(rows.values())


@pytest.mark.slow
def test_history_after_a_kill_has_the_earlier_rows(killed):
    _, made, _ = killed
    a, b = made["a"].history, made["b"].history
    assert (a.iterations, a.losses, a.validation) == (
        b.iterations,
        b.losses,
        b.validation,
    )


@pytest.mark.slow
def test_a_second_process_is_refused_in_one_line(killed):
    _, _, refused = killed
    assert "Another process is training" in refused
    assert "\n" not in refused


def test_best_holds_the_weights_of_that_iteration(tmp_path):
    learner, at = Learner(dense_net(1, (4,), 1), "mse"), {}

    def note(epoch, logs):
        at[learner.iterations] = learner.model.get_weights()

    learner.fit(
        Sinusoids(5),
        200,
        directory=tmp_path,
        validation=HELD_OUT,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=note)],
        **OPTIONS,
    )
    weights = [
        v.value for v in Learner(dense_net(1, (4,), 1), "mse").model.variables
    ]
    best = Checkpoints(tmp_path / "best", {"weights": weights})
    for x, y in zip(at[best.restore_latest()], weights, strict=True):
        np.testing.assert_array_equal(x, y)


def test_history_after_an_interrupt_and_a_resume(tmp_path):
    learner = Learner(dense_net(1, (4,), 1), "mse")

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner.fit(
            Sinusoids(5),
            300,
            directory=tmp_path,
            validation=HELD_OUT,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=interrupt)],
            **OPTIONS,
        )
    rows = list(learner.history.validation)
    assert [r["iteration"] for r in rows] == [50, 100, 150]
    # The same learner, which has its progress in memory, too.
    history = learner.fit(
        Sinusoids(5), 300, directory=tmp_path, validation=HELD_OUT, **OPTIONS
    )
    assert history.validation[:3] == rows
    assert [r["iteration"] for r in history.validation] == list(
        range(50, 301, 50)
    )
    assert len(history.plot().axes) == 2
    assert learner.iterations == 300


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_early_stopping_restores_and_leaves_the_model_as_it_was(
    compiled, kept, tmp_path
):
    learner = Learner(dense_net(1, (4,), 1), "mse")
    model = learner.model
    if compiled:
        model.compile("sgd", "mse")
    missing = object()
    before = [
        getattr(model, n, missing) for n in ("optimizer", "stop_training")
    ]
    at, losses = [], []

    def note(epoch, logs):
        at.append(model.get_weights())
        losses.append(logs["val_loss"])

    learner.fit(
        Sinusoids(5),
        1000,
        validation=HELD_OUT,
        directory=tmp_path if kept else None,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda e: 0.01 * 4.0**e),
            keras.callbacks.LambdaCallback(on_epoch_end=note),
            keras.callbacks.EarlyStopping(
                "val_loss", patience=0, restore_best_weights=True
            ),
        ],
        **OPTIONS,
    )
    assert len(losses) < 20
    assert losses[-1] > losses[-2] == min(losses)
    for x, y in zip(model.get_weights(), at[-2], strict=True):
        np.testing.assert_array_equal(x, y)
    after = [getattr(model, n, missing) for n in ("optimizer", "stop_training")]
    assert [a is b for a, b in zip(after, before, strict=True)] == [True, True]


@dataclasses.dataclass(frozen=True)
class Shift(Method):
    """Adds the mean error on the support set: a method without updates."""

    name: ClassVar[str] = "shift"

    def begin(self, network, params, support, reference=None):
        outputs = network.outputs(params, support.inputs, reference)
        return tf.reduce_mean(support.targets - outputs, axis=0)

    def predict(self, network, params, state, inputs, reference=None):
        return network.outputs(params, inputs, reference) + state

    def task_gradient(self, network, params, task):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            state = self.begin(network, params, task.support)
            outputs = self.predict(network, params, state, task.query.inputs)
            loss = tf.reduce_mean(
                network.objective(task.query.targets, outputs)
            )
        gradient = gradient_or_zeros(tape, loss, params)
        return MetaGradient(gradient, {"post_update": loss})

    def pack(self, network, state):
        return {"shift": state}

    def unpack(self, network, params, tensors):
        return tensors["shift"]


def test_a_method_without_updates_is_reported_and_exported(
    monkeypatch, tmp_path
):
    monkeypatch.setitem(METHODS, "shift", Shift)
    arguments = ["--method=shift", "--metatrain_iterations=100"]
    arguments += [f"--logdir={tmp_path / 'runs'}"]
    command(*arguments, "--compare=False", "--test_tasks=20")
    (run,) = (tmp_path / "runs").iterdir()
    assert "updatelr" not in run.name
    assert "shift" in (run / "report_tasks20.md").read_text()
    exported = tmp_path / "exported"
    command(*arguments, "--train=False", f"--export_dir={exported}")
    adapt_and_predict = tf.saved_model.load(exported).signatures[
        "adapt_and_predict"
    ]
    support, _ = Sinusoids(10, 0, "test").tasks(0, 1)
    given = {
        "support_inputs": tf.constant(support.inputs[0]),
        "support_targets": tf.constant(support.targets[0]),
        "query_inputs": tf.constant(support.inputs[0]),
    }
    if "num_updates" in adapt_and_predict.structured_input_signature[1]:
        given["num_updates"] = tf.constant(0)
    (outputs,) = adapt_and_predict(**given).values()
    np.testing.assert_allclose(
        outputs.numpy().mean(), support.targets[0].mean(), rtol=1e-4
    )
    assert error_of("--method=shift", "--update_lr=0.1") == (
        "error: --update_lr does not go with --method=shift."
    )
