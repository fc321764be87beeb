"""The training loop: boundaries, logs, divergence."""

import functools

import keras
import numpy as np
import pytest

from maml_tf.core.losses import mean_squared_error
from maml_tf.core.maml import joint_gradient, task_meta_gradient
from maml_tf.errors import TrainingDivergedError
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.training import loop as training
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.logs import IterationLog
from maml_tf.training.loop import LOG_FIELDS, Phase, train

BATCH = 3


class Run:
    """A small network with its phases and a directory."""

    def __init__(self, directory, *iterations, alpha=0.01):
        self.directory = directory
        self.model = dense_net(1, (4,), 1)
        loss = mean_squared_error(self.model)
        objectives = [
            functools.partial(joint_gradient, loss),
            functools.partial(
                task_meta_gradient, loss, alpha=alpha, num_steps=1
            ),
        ]
        self.phases = []
        for count, objective in zip(iterations, objectives, strict=True):
            adam = keras.optimizers.Adam(0.01)
            adam.build(self.model.trainable_variables)
            self.phases.append(Phase(count, objective, adam))
        variables = [v.value for v in self.model.variables]
        for phase in self.phases:
            variables += [v.value for v in phase.optimizer.variables]
        self.checkpoints = Checkpoints(directory / "ckpt", {"all": variables})
        self.seen = []

    def on_progress(self, iteration, losses):
        self.seen.append(iteration)

    def train(self):
        start = self.checkpoints.restore_latest() or 0
        train(
            self.model,
            self.phases,
            Sinusoids(5),
            BATCH,
            self.checkpoints,
            start,
            IterationLog(self.directory / "train.csv", LOG_FIELDS),
            self.on_progress,
        )
        return self

    @property
    def rows(self):
        return (self.directory / "train.csv").read_text().splitlines()


def test_any_number_of_iterations_ends_where_it_should(tmp_path):
    run = Run(tmp_path, 0, 1130).train()
    assert run.checkpoints.iterations() == [1000, 1130]
    assert run.seen[-1] == 1130
    assert run.rows[0] == "iteration,pre_update,post_update"
    iterations = [int(row.split(",")[0]) for row in run.rows[1:]]
    assert iterations == [*range(100, 1101, 100), 1130]


def test_nothing_is_traced_again_after_the_first_call(tmp_path, monkeypatch):
    steps, counts = [], []

    class Recorded(training.MetaStep):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            steps.append(self)

    monkeypatch.setattr(training, "MetaStep", Recorded)
    run = Run(tmp_path, 60, 1070)
    run.on_progress = lambda *_: counts.append([s.num_traces for s in steps])
    run.train()
    assert len(counts) > 20
    assert counts[0] == [1]
    assert counts[-1] == [1, 1]


def test_phases_follow_each_other(tmp_path):
    run = Run(tmp_path, 130, 170).train()
    assert run.checkpoints.iterations() == [300]
    first, second, third = (row.split(",") for row in run.rows[1:])
    assert first[2] == ""
    assert second[2] != "" != third[2]
    counts = [p.optimizer.iterations.numpy() for p in run.phases]
    assert counts == [130, 170]


def test_going_on_equals_running_through(tmp_path):
    through = Run(tmp_path / "a", 0, 2100)
    (tmp_path / "a").mkdir()
    through.train()
    (tmp_path / "b").mkdir()
    Run(tmp_path / "b", 0, 1000).train()
    # What a crash between two checkpoints leaves in the log:
    with open(tmp_path / "b" / "train.csv", "a") as file:
        file.write("1100,9.9,9.9\n1200,9")
    resumed = Run(tmp_path / "b", 0, 2100).train()
    assert resumed.seen[0] == 1050
    assert resumed.rows == through.rows
    for a, b in zip(
        through.model.get_weights(), resumed.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    run = Run(tmp_path, 1000, 1000, alpha=1e30)
    with pytest.raises(
        TrainingDivergedError, match=r"iteration 1001 .*post_update (inf|nan)"
    ):
        run.train()
    assert run.checkpoints.iterations() == [1000]
    assert all(
        np.isfinite(w).all()
        for w in Run(tmp_path, 1000, 0).train().model.get_weights()
    )
