"""The checkpoint that did best in validation, also after a kill."""

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.logs import IterationLog
from maml_tf.training.validation import Validation

FIELD = "accuracy"


class Run:
    """A weight that is set to the iteration, and values to be measured."""

    def __init__(self, directory, start=0):
        self.directory = directory
        self.weight = tf.Variable(-1.0)
        self.value = np.nan
        self.log = IterationLog(directory / "validation.csv", [FIELD])
        self.best = Checkpoints(
            directory / "best", {"weights": [self.weight]}, keep=1
        )
        self.validation = Validation(
            lambda: {FIELD: self.value}, FIELD, True, self.log, self.best
        )
        rows = self.validation.start(start)
        self.started = {FIELD: rows[-1][FIELD]} if rows else {}

    def validate(self, iteration, value):
        self.weight.assign(float(iteration))
        self.value = value
        return self.validation(iteration)

    @property
    def rows(self):
        return [(row["iteration"], row[FIELD]) for row in self.log.rows()]

    def kept(self):
        """Iteration of the only checkpoint; its weights are of that, too."""
        (directory,) = (self.directory / "best").iterdir()
        (iteration,) = self.best.iterations()
        assert directory.name == f"{iteration:08d}"
        self.best.restore(iteration)
        assert float(self.weight) == iteration
        return iteration


@pytest.fixture
def run(tmp_path):
    """Validated three times; the second was best."""
    run = Run(tmp_path)
    for iteration, value in ((500, 0.25), (1000, 0.75), (1500, 0.5)):
        run.validate(iteration, value)
    return run


def test_the_first_is_kept_however_bad(tmp_path):
    run = Run(tmp_path)
    assert run.started == {}
    assert run.validate(500, 0.0) == {FIELD: 0.0}
    assert run.kept() == 500
    assert run.rows == [(500, 0.0)]


def test_only_what_is_better_than_all_before_is_kept(run):
    assert run.kept() == 1000
    for iteration, value, best in (
        (2000, 0.74, 1000),
        (2500, 0.75, 1000),  # as good
        (3000, 0.76, 3000),
        (3500, 0.1, 3000),
        (4000, 1.0, 4000),
    ):
        assert run.validate(iteration, value) == {FIELD: value}
        assert run.kept() == best
    assert run.rows[-1] == (4000, 1.0)
    assert len(run.rows) == 8


@pytest.mark.parametrize(
    ("start", "rows", "last"),
    [
        (0, [], {}),
        (499, [], {}),
        (500, [(500, 0.25)], {FIELD: 0.25}),
        (1400, [(500, 0.25), (1000, 0.75)], {FIELD: 0.75}),
        (
            1500,
            [(500, 0.25), (1000, 0.75), (1500, 0.5)],
            {FIELD: 0.5},
        ),
    ],
)
def test_resuming_drops_later_rows_and_returns_the_last_value(
    run, start, rows, last
):
    resumed = Run(run.directory, start)
    assert resumed.started == last
    assert resumed.rows == rows


def test_what_was_dropped_does_not_count(run):
    resumed = Run(run.directory, start=500)
    resumed.validate(1100, 0.5)
    assert resumed.rows == [(500, 0.25), (1100, 0.5)]
    assert resumed.kept() == 1100


def test_what_was_kept_before_counts_after_resuming(run):
    resumed = Run(run.directory, start=1500)
    resumed.validate(2000, 0.7)
    assert resumed.kept() == 1000
    resumed.validate(2500, 0.8)
    assert resumed.kept() == 2500


def test_the_same_iteration_again_leaves_no_damaged_one(run):
    """A kill between validation and checkpoint: the iteration is repeated."""
    resumed = Run(run.directory, start=500)
    resumed.validate(1000, 0.75)
    assert resumed.kept() == 1000
    assert resumed.rows == [(500, 0.25), (1000, 0.75)]


def test_a_kill_before_the_row_was_written_is_repaired(run):
    """The weights are saved first, so that a row promises a checkpoint."""
    run.weight.assign(2000.0)
    run.best.save(2000)
    resumed = Run(run.directory, start=1500)
    resumed.validate(2000, 0.9)
    assert resumed.kept() == 2000
    assert resumed.rows[-2:] == [(1500, 0.5), (2000, 0.9)]


def test_a_value_that_is_no_number_is_worse_than_any(tmp_path):
    run = Run(tmp_path)
    run.validate(500, np.nan)
    assert run.best.iterations() == []
    run.validate(1000, 0.25)
    assert run.kept() == 1000
    run.validate(1500, np.nan)
    run.validate(2000, 0.125)
    assert run.kept() == 1000
    run.validate(2500, 0.5)
    assert run.kept() == 2500
    assert np.isnan(Run(tmp_path, start=1500).started[FIELD])


def test_smaller_can_be_better(tmp_path):
    run = Run(tmp_path)
    run.validation = Validation(
        lambda: {FIELD: run.value}, FIELD, False, run.log, run.best
    )
    for iteration, value in ((500, 0.5), (1000, 0.25), (1500, 0.75)):
        run.validate(iteration, value)
    assert run.kept() == 1000


def test_nothing_is_kept_without_a_directory():
    validation = Validation(lambda: {FIELD: 0.5}, FIELD, True)
    assert validation.start(100) == []
    assert validation(500) == {FIELD: 0.5}
