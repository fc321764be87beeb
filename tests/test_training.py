"""The training loop: boundaries, logs, divergence."""

import keras
import numpy as np
import pytest

from maml_tf.errors import TrainingDivergedError
from maml_tf.learner.learner import Learner
from maml_tf.methods.joint import JointTraining
from maml_tf.methods.maml import MAML
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.training.files import TrainingFiles

BATCH = 3


class Run:
    """A small network with its phases and a directory."""

    def __init__(self, directory, *iterations, alpha=0.01):
        self.directory = directory
        self.iterations = iterations
        self.model = dense_net(1, (4,), 1)
        self.learners = [
            Learner(self.model, "mse", method=method(alpha))
            for method in (JointTraining, MAML)
        ]
        self.optimizers = [
            learner.trainer.optimizer(keras.optimizers.Adam(0.01))
            for learner in self.learners
        ]
        state = {"weights": [v.value for v in self.model.variables]}
        for name, optimizer in zip("ab", self.optimizers, strict=True):
            state[name] = [v.value for v in optimizer.variables]
        self.files = TrainingFiles(directory, state, tensorboard=False)
        self.checkpoints = self.files.checkpoints
        self.seen = []

    def train(self):
        with self.files.locked():
            start = self.files.restore(sum(self.iterations))
        end = 0
        for learner, optimizer, count in zip(
            self.learners, self.optimizers, self.iterations, strict=True
        ):
            first, end = end, end + count
            if start >= end or not count:
                continue
            learner.start_at(max(start, first))
            learner.fit(
                Sinusoids(5),
                end - learner.iterations,
                meta_batch_size=BATCH,
                optimizer=optimizer,
                steps_per_epoch=1000,
                directory=self.files,
                callbacks=[
                    keras.callbacks.LambdaCallback(
                        on_train_batch_end=lambda batch, logs, it=learner: (
                            self.seen.append(it.iterations)
                        )
                    )
                ],
                progress=False,
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


def test_phases_follow_each_other(tmp_path):
    run = Run(tmp_path, 130, 170).train()
    assert run.checkpoints.iterations() == [130, 300]
    rows = [row.split(",") for row in run.rows[1:]]
    assert [row[0] for row in rows] == ["100", "130", "200", "300"]
    assert [bool(row[2]) for row in rows] == [False, False, True, True]
    counts = [o.iterations.numpy() for o in run.optimizers]
    assert counts == [130, 170]


def test_resuming_equals_an_uninterrupted_run(tmp_path):
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
