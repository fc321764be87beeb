"""Logs: whole rows up to where training resumes, and the same as events."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from maml_tf.training.logs import IterationLog, RunningMeans

FIELDS = ("loss", "accuracy")


@pytest.fixture
def path(tmp_path):
    """A log of three rows."""
    log = IterationLog(tmp_path / "train.csv", FIELDS)
    log.start(0)
    log.write(100, {"loss": 0.5, "accuracy": 0.25})
    log.write(200, {"loss": 0.25, "accuracy": 0.5})
    log.write(300, {"loss": 1 / 3, "accuracy": 0.75})
    return tmp_path / "train.csv"


def iterations(log):
    return [row["iteration"] for row in log.rows()]


def test_a_new_log_has_a_header_and_no_rows(tmp_path):
    log = IterationLog(tmp_path / "train.csv", FIELDS)
    log.start(0)
    assert log.rows() == []
    content = (tmp_path / "train.csv").read_bytes()
    assert content == b"iteration,loss,accuracy\n"


def test_rows_are_read_as_they_were_written(path):
    assert path.read_text().splitlines()[:2] == [
        "iteration,loss,accuracy",
        "100,0.5,0.25",
    ]
    rows = IterationLog(path, FIELDS).rows()
    assert rows[0] == {"iteration": 100, "loss": 0.5, "accuracy": 0.25}
    assert rows[2] == {"iteration": 300, "loss": 1 / 3, "accuracy": 0.75}
    assert len(rows) == 3


def test_what_a_row_does_not_name_stays_empty(path):
    log = IterationLog(path, FIELDS)
    log.write(400, {"accuracy": 1.0})
    log.write(500, {"loss": 0.0})
    assert path.read_text().endswith("\n400,,1.0\n500,0.0,\n")
    assert log.rows()[3:] == [
        {"iteration": 400, "accuracy": 1.0},
        {"iteration": 500, "loss": 0.0},
    ]


def test_values_that_are_not_finite_are_kept(path):
    log = IterationLog(path, FIELDS)
    log.write(400, {"loss": np.inf, "accuracy": np.nan})
    row = log.rows()[-1]
    assert row["loss"] == np.inf
    assert np.isnan(row["accuracy"])


@pytest.mark.parametrize(
    ("iteration", "kept"),
    [(0, 0), (99, 0), (100, 1), (250, 2), (300, 3), (10_000, 3)],
)
def test_rows_after_the_start_are_dropped(path, iteration, kept):
    lines = path.read_text().splitlines(keepends=True)
    log = IterationLog(path, FIELDS)
    log.start(iteration)
    assert path.read_text() == "".join(lines[: 1 + kept])
    log.write(iteration + 1, {"loss": 0.0})
    assert iterations(log) == [*[100, 200, 300][:kept], iteration + 1]


@pytest.mark.parametrize(
    "half", ["3", "350", "350,", "350,0.2", "350,0.2,0.5", "\0", "\n", ",,\n"]
)
def test_half_a_row_is_dropped(path, half):
    """Also one without a line end, which may not be whole."""
    whole = path.read_text()
    path.write_text(whole + half)
    log = IterationLog(path, FIELDS)
    log.start(400)
    assert path.read_text() == whole
    assert iterations(log) == [100, 200, 300]


@pytest.mark.parametrize("content", ["", "iter", "iteration,loss,accuracy"])
def test_half_a_header_is_repaired(path, content):
    path.write_text(content)
    log = IterationLog(path, FIELDS)
    log.start(100)
    log.write(200, {"loss": 0.5})
    assert log.rows() == [{"iteration": 200, "loss": 0.5}]


def test_a_kill_while_rows_are_dropped_leaves_the_old_ones(path):
    """What it leaves beside the log is no obstacle."""
    before = path.read_text()
    path.with_name(f".{path.name}.writing").write_text("iteration,lo")
    log = IterationLog(path, FIELDS)
    assert path.read_text() == before
    log.start(200)
    assert iterations(log) == [100, 200]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def events(directory):
    """(tag, step, value) of all events."""
    found = []
    for file in sorted(directory.iterdir()):
        for record in tf.data.TFRecordDataset(str(file)):
            event = event_pb2.Event.FromString(record.numpy())
            found += [
                (v.tag, event.step, float(tf.make_ndarray(v.tensor)))
                for v in event.summary.value
            ]
    return found


def test_tags_of_tensorboard_are_file_and_field(tmp_path):
    directory = tmp_path / "tensorboard"
    logs = [
        IterationLog(tmp_path / f"{name}.csv", FIELDS, directory)
        for name in ("train", "validation")
    ]
    for log in logs:
        log.start(0)
    logs[0].write(100, {"loss": 0.5, "accuracy": 0.25})
    logs[1].write(100, {"accuracy": 0.75})
    logs[0].write(200, {"loss": 0.125})
    for log in logs:
        log.flush()
    assert sorted(events(directory)) == [
        ("train/accuracy", 100, 0.25),
        ("train/loss", 100, 0.5),
        ("train/loss", 200, 0.125),
        ("validation/accuracy", 100, 0.75),
    ]


def test_without_tensorboard_there_is_only_the_csv(path):
    IterationLog(path, FIELDS).flush()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_means_are_over_all_iterations_since_the_last():
    means = RunningMeans()
    means.add({"loss": np.array([1.0, 2.0, 3.0]), "other": np.array([1.0])})
    means.add({"loss": np.array([10.0])})
    assert means.take() == {"loss": 4.0, "other": 1.0}
    means.add({"loss": np.array([7.0, 8.0])})
    assert means.take() == {"loss": 7.5}
    assert means.take() == {}
