"""Checkpoints are whole, or not there, or found to be damaged."""

import gc
import shutil

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import RunDirectoryError, TrainingDivergedError
from maml_tf.training.checkpoints import Checkpoints


@pytest.fixture
def saved(tmp_path):
    """Three checkpoints, of the values 1, 2 and 3."""
    variable = tf.Variable([0.0, 0.0])
    checkpoints = Checkpoints(tmp_path / "checkpoints", {"w": [variable]})
    for value in (1, 2, 3):
        variable.assign([value, -value])
        checkpoints.save(10 * value)
    variable.assign([0.0, 0.0])
    return checkpoints, variable, tmp_path / "checkpoints"


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_the_newest_is_restored(saved):
    checkpoints, variable, _ = saved
    assert checkpoints.restore_latest() == 30
    np.testing.assert_array_equal(variable, [3, -3])
    checkpoints.restore(10)
    np.testing.assert_array_equal(variable, [1, -1])


def test_without_any_there_is_nothing_to_restore(tmp_path):
    state = {"w": [tf.Variable(1.0)]}
    assert Checkpoints(tmp_path / "none", state).restore_latest() is None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state.data-00000-of-00001", truncate),
        ("state.data-00000-of-00001", flip),
        ("state.data-00000-of-00001", lambda path: path.unlink()),
        ("state.index", truncate),
        ("manifest.json", truncate),
        ("manifest.json", lambda path: path.unlink()),
    ],
)
def test_damage_is_reported_and_the_one_before_it_used(
    saved, caplog, name, damage
):
    checkpoints, variable, directory = saved
    damage(directory / "00000030" / name)
    assert checkpoints.restore_latest() == 20
    np.testing.assert_array_equal(variable, [2, -2])
    assert "00000030 is damaged" in caplog.text
    assert name in caplog.text
    with pytest.raises(RunDirectoryError, match="00000030 is damaged"):
        checkpoints.restore(30)


def test_a_damaged_one_is_kept_when_its_iteration_is_saved_again(saved):
    checkpoints, variable, directory = saved
    truncate(directory / "00000030" / "state.index")
    checkpoints.restore_latest()
    checkpoints.save(30)
    assert (directory / "damaged-00000030").is_dir()
    assert checkpoints.restore_latest() == 30
    np.testing.assert_array_equal(variable, [2, -2])


def test_all_damaged_is_an_error(saved):
    checkpoints, _, directory = saved
    for path in directory.glob("*/manifest.json"):
        path.unlink()
    with pytest.raises(
        RunDirectoryError, match="All checkpoints in .* damaged"
    ):
        checkpoints.restore_latest()


def test_what_a_crash_left_behind_is_not_a_checkpoint(saved):
    checkpoints, _, directory = saved
    shutil.copytree(directory / "00000030", directory / ".writing")
    assert checkpoints.iterations() == [10, 20, 30]
    checkpoints.save(40)
    assert not (directory / ".writing").exists()


def test_only_the_last_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"w": [tf.Variable(1.0)]}, keep=2)
    for iteration in (5, 10, 100):
        checkpoints.save(iteration)
    assert checkpoints.iterations() == [10, 100]


def test_values_that_are_not_finite_are_not_saved(saved):
    checkpoints, variable, _ = saved
    variable.assign([1.0, np.nan])
    with pytest.raises(TrainingDivergedError, match="not finite"):
        checkpoints.save(40)
    assert checkpoints.iterations() == [10, 20, 30]


def test_a_network_that_does_not_fit_is_refused_in_a_sentence(saved, caplog):
    _, _, directory = saved
    for state in (
        {"w": [tf.Variable([1.0])]},
        {"v": [tf.Variable([1.0, 2.0])]},
    ):
        with pytest.raises(RunDirectoryError, match="does not fit the network"):
            Checkpoints(directory, state).restore_latest()
    gc.collect()  # TensorFlow warns of what was not restored at its end
    assert not caplog.records


def test_a_missing_iteration_is_named(saved):
    checkpoints, _, _ = saved
    with pytest.raises(RunDirectoryError, match=r"25.*\[10, 20, 30\]"):
        checkpoints.restore(25)
