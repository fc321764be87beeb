"""A run directory is made, opened, or refused in words."""

import dataclasses
import json
import os

import pytest

from maml_tf.errors import RunDirectoryError
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.experiments.sinusoids import SinusoidConfig
from maml_tf.training.files import TrainingFiles

CONFIG = SinusoidConfig(metatrain_iterations=10)
SETTINGS = dataclasses.asdict(CONFIG)


def edit(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


@pytest.fixture
def run(tmp_path):
    return RunDirectory.for_training(tmp_path, CONFIG, resume=True)


def test_it_holds_settings_and_versions(run):
    assert run.begin_stretch(0) == ""
    content = json.loads((run.path / "config.json").read_text())
    (stretch,) = content["stretches"]
    assert stretch["versions"].keys() == {
        "python",
        "maml_tf",
        "tensorflow",
        "keras",
        "numpy",
    }
    assert RunDirectory.open(run.path) == run


def test_a_longer_run_continues_in_it(run, tmp_path):
    longer = SinusoidConfig(metatrain_iterations=20)
    again = RunDirectory.for_training(tmp_path, longer, resume=True)
    assert again.path == run.path
    assert RunDirectory.open(run.path).config == CONFIG
    again.write_config()
    assert RunDirectory.open(run.path).config == longer


def test_starting_over_moves_the_old_run_aside(run, tmp_path):
    (run.path / "train.csv").write_text("precious")
    for number in (1, 2):
        again = RunDirectory.for_training(tmp_path, CONFIG, resume=False)
        assert not (again.path / "train.csv").exists()
        assert (tmp_path / f"{run.path.name}.old{number}").is_dir()
    old = tmp_path / f"{run.path.name}.old1" / "train.csv"
    assert old.read_text() == "precious"


def test_another_run_under_its_name_is_refused(run, tmp_path):
    edit(run.path / "config.json", config=SETTINGS | {"alpha": 0.5})
    with pytest.raises(
        RunDirectoryError, match="a run with alpha=0.5, not 0.01"
    ):
        RunDirectory.for_training(tmp_path, CONFIG, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99; this version reads format 1"),
        ({"datasource": "cifar"}, "does not hold the settings"),
        ({"config": SETTINGS | {"momentum": 1}}, "momentum: unknown"),
        ({"config": SETTINGS | {"alpha": -1}}, "alpha must be a positive"),
        (
            {"config": SETTINGS | {"num_steps": "1"}},
            "a whole number, at least 1 and below",
        ),
        ({"config": SETTINGS | {"alpha": "1"}}, "has the wrong type"),
        ({"config": {"alpha": 0.1}}, r"\(baseline, beta, .*: missing\)"),
        ({"config": [1]}, "does not hold the settings"),
    ],
)
def test_other_experiments_and_versions_are_refused(run, changes, message):
    edit(run.path / "config.json", **changes)
    with pytest.raises(RunDirectoryError, match=message):
        RunDirectory.open(run.path)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_config_is_refused(run, text):
    (run.path / "config.json").write_text(text)
    with pytest.raises(RunDirectoryError, match="config.json|format"):
        RunDirectory.open(run.path)


def test_a_pipe_is_no_config(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(RunDirectoryError, match="not a regular file"):
        RunDirectory.open(tmp_path)


def test_a_directory_without_a_run_names_the_runs_beside_it(run, tmp_path):
    with pytest.raises(RunDirectoryError, match=f"holds:\n  {run.path.name}"):
        RunDirectory.open(tmp_path / "other")
    with pytest.raises(RunDirectoryError, match="There is no directory"):
        RunDirectory.open(tmp_path / "no" / "other")


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / CONFIG.run_name
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        RunDirectory.for_training(tmp_path, CONFIG, resume=True)
    assert [p.name for p in path.iterdir()] == ["thesis.tex"]


def test_a_kill_at_the_very_beginning_leaves_nothing_in_the_way(tmp_path):
    path = tmp_path / CONFIG.run_name
    path.mkdir()
    (path / ".config.json.writing").write_text("{")
    (path / "lock").write_text("")
    RunDirectory.for_training(tmp_path, CONFIG, resume=True)
    assert RunDirectory.open(path).config == CONFIG


def test_a_run_that_is_training_is_not_moved_aside(run, tmp_path):
    with (
        TrainingFiles(run.path, {"weights": []}).locked(),
        pytest.raises(RunDirectoryError, match="Another process is training"),
    ):
        RunDirectory.for_training(tmp_path, CONFIG, resume=False)
    assert RunDirectory.open(run.path) == run


def test_a_logdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="Cannot write to"):
        RunDirectory.for_training(tmp_path / "file", CONFIG, resume=True)
