"""Where things are saved: any name, no half-written files, one line."""

import contextlib
import os
import resource

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import ConfigError, ExportError, RunDirectoryError
from maml_tf.learner.learner import Learner
from maml_tf.tasks.sources import tasks_from_function
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.files import TrainingFiles

X, Y = np.ones((4, 2), "float32"), np.zeros((4, 1), "float32")
TASKS = tasks_from_function(lambda seed: ((X, Y), (X, Y)))
NAMES = [
    "runs [1]", "a[", "a*b", "a?", "back\\slash", "with space", "späße 数据",
    "u\u0308", "~", "%41 {x}", "two\nlines", "n" * 250,
]  # fmt: skip


def learner(*layers):
    keras.utils.set_random_seed(0)
    return Learner(
        keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)]),
        "mse",
    )


@contextlib.contextmanager
def full_disk(size=100):
    """No file can become larger, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_in_a_directory_of_any_name(tmp_path, name):
    variable = tf.Variable(3.0)
    Checkpoints(tmp_path / name, {"weights": [variable]}).save(7)
    variable.assign(0.0)
    found = Checkpoints(tmp_path / name, {"weights": [variable]})
    assert found.restore_latest() == 7
    assert variable.numpy() == 3.0


def test_training_resumes_in_a_directory_of_any_name(tmp_path):
    where = tmp_path / "none yet" / "runs [bold] *"
    for total in (1, 2):
        used = learner()
        used.fit(
            TASKS, total, meta_batch_size=1, directory=where, progress=False
        )
    assert used.iterations == 2
    assert list((where / "tensorboard").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_learners_are_saved_under_any_name(tmp_path, name):
    path = tmp_path / "not there yet" / name
    used = learner()
    used.save(path)
    used.save(path)
    loaded = Learner.load(path)
    np.testing.assert_array_equal(loaded.theta[0], used.theta[0])
    assert os.listdir(path.parent) == [name]


@pytest.mark.parametrize("name", [*NAMES[:-1], "n" * 249])
def test_adapted_models_are_saved_under_any_name(tmp_path, name):
    path = tmp_path / "not there yet" / f"{name}.keras"
    adapted = learner().adapt(X, Y)
    adapted.save(path)
    found = keras.models.load_model(path)(X)
    np.testing.assert_allclose(found, adapted.predict(X), rtol=1e-5)
    assert os.listdir(path.parent) == [path.name]


def test_exports_can_be_loaded(tmp_path):
    used = learner()
    used.adapt(X, Y)
    for name in NAMES[:2] + [NAMES[4]]:
        with pytest.raises(ExportError, match="cannot load a SavedModel from"):
            used.export(tmp_path / name)
    path = tmp_path / "not there yet" / "späße 数据 *"
    used.export(path)
    loaded = tf.saved_model.load(str(path)).signatures["predict"]
    found = next(iter(loaded(query_inputs=tf.constant(X)).values()))
    np.testing.assert_allclose(found, used.model(X), rtol=1e-5)
    assert os.listdir(path.parent) == [path.name]


class TestFullDisk:
    def test_a_learner(self, tmp_path):
        used = learner()
        with full_disk(), pytest.raises(ConfigError, match="Cannot write to"):
            used.save(tmp_path / "new")
        assert not os.listdir(tmp_path)
        used.save(tmp_path / "old")
        before = used.theta[0].numpy()
        used.model.trainable_variables[0].assign_add([[1.0], [1.0]])
        with full_disk(), pytest.raises(ConfigError, match="File too large"):
            used.save(tmp_path / "old")
        assert os.listdir(tmp_path) == ["old"]
        loaded = Learner.load(tmp_path / "old")
        np.testing.assert_array_equal(loaded.theta[0], before)

    def test_an_adapted_model(self, tmp_path):
        adapted = learner().adapt(X, Y)
        with full_disk(), pytest.raises(ConfigError, match="File too large"):
            adapted.save(tmp_path / "new.keras")
        assert not os.listdir(tmp_path)

    def test_an_export(self, tmp_path):
        used = learner()
        used.adapt(X, Y)
        with full_disk(), pytest.raises(ExportError) as refusal:
            used.export(tmp_path / "new")
        assert "(File too large). Free some space" in str(refusal.value)
        assert not os.listdir(tmp_path)

    def test_a_checkpoint(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, {"weights": [tf.Variable(3.0)]})
        checkpoints.save(1)
        with full_disk(), pytest.raises(RunDirectoryError) as refusal:
            checkpoints.save(2)
        assert "(File too large). Free some space" in str(refusal.value)
        assert checkpoints.restore_latest() == 1

    def test_a_log(self, tmp_path):
        files = TrainingFiles(tmp_path, {"weights": []}, tensorboard=False)
        with (
            pytest.raises(RunDirectoryError, match="File too large.*resumes"),
            files.locked(),
            full_disk(0),
        ):
            files.log.start(0)


@pytest.mark.parametrize("name", ["n" * 256, "file/x", f"{'n' * 200}/" * 25])
def test_paths_that_cannot_be(tmp_path, name):
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    used = learner()
    adapted = used.adapt(X, Y)
    with pytest.raises(ConfigError, match="Cannot write to"):
        used.save(path)
    with pytest.raises(ConfigError, match="Cannot write to"):
        adapted.save(path.with_name(f"{path.name}.keras"))
    with pytest.raises(ExportError, match="Cannot write to"):
        used.export(path)
    with pytest.raises(RunDirectoryError, match="Cannot write to"):
        used.fit(TASKS, 1, directory=path, progress=False)
    assert used.iterations == 0


def test_a_directory_too_deep_for_checkpoints_is_refused_first(tmp_path):
    room = os.pathconf("/", "PC_PATH_MAX") - len(str(tmp_path)) - 250
    path = tmp_path / (f"{'n' * 99}/" * (room // 100))
    used = learner()
    with pytest.raises(RunDirectoryError, match="File name too long"):
        used.fit(TASKS, 1, directory=path, progress=False)
    assert used.iterations == 0


class TestPythonCode:
    def test_a_lambda_is_loaded_if_trusted(self, tmp_path):
        used = learner(keras.layers.Lambda(lambda x: 2 * x))
        used.save(tmp_path / "saved")
        with pytest.raises(ConfigError, match="trust .* safe_mode=False") as no:
            Learner.load(tmp_path / "saved")
        assert "\n" not in str(no.value)
        loaded = Learner.load(tmp_path / "saved", safe_mode=False)
        np.testing.assert_array_equal(
            loaded.adapt(X, Y).predict(X), used.adapt(X, Y).predict(X)
        )

    def test_an_adapted_model(self, tmp_path):
        adapted = learner(keras.layers.Lambda(lambda x: 2 * x)).adapt(X, Y)
        adapted.save(tmp_path / "new.keras")
        found = keras.models.load_model(tmp_path / "new.keras", safe_mode=False)
        np.testing.assert_allclose(found(X), adapted.predict(X), rtol=1e-5)
