"""maml_tf: its compiled meta-step, and its training loop around it."""

import functools
import pathlib
import queue
import tempfile
import threading
import time

import keras
import numpy as np
import tensorflow as tf
from implementation import Implementation, Stepper
from workloads import BETA, NUM_WAYS, Tasks, Workload

from maml_tf.checkpoints import Checkpoints
from maml_tf.losses import Batch, cross_entropy, mean_squared_error
from maml_tf.maml import LossFn, Task, task_meta_gradient
from maml_tf.meta_step import MetaStep
from maml_tf.models import conv_net, dense_net
from maml_tf.normalization import which_adapt
from maml_tf.runtime import start_tensorflow
from maml_tf.sinusoid import Sinusoids
from maml_tf.tasks import TaskStream
from maml_tf.training import (
    CHECKPOINT_EVERY,
    LOG_EVERY,
    Phase,
    TrainingLog,
    train,
)

ENDLESS = 10**9  # iterations


def build_network(workload: Workload) -> tuple[keras.Model, LossFn]:
    """The workload's network with its initial weights, and its loss."""
    if workload.name == "sinusoid":
        model = dense_net(1, (40, 40), 1)
        loss = mean_squared_error(model)
    else:
        model = conv_net((28, 28, 1), NUM_WAYS)
        loss = cross_entropy(model, num_shots=1)
    variables = zip(model.trainable_variables, workload.weights, strict=True)
    for variable, value in variables:
        variable.assign(value)
    return model, loss


def make_adam(model: keras.Model) -> keras.optimizers.Optimizer:
    """Adam as the paper's code has it, its state at 0."""
    adam = keras.optimizers.Adam(BETA, epsilon=1e-8)
    adam.build(model.trainable_variables)
    return adam


def as_tasks(tasks: Tasks) -> Task:
    """The same arrays in maml_tf's structure."""
    return Task(Batch(*tasks.support), Batch(*tasks.query))


class Step(Stepper):
    """`MetaStep`, called as the training loop calls it."""

    first_order = False

    def __init__(self, workload: Workload):
        super().__init__(workload)
        model, loss = build_network(workload)
        self._step = MetaStep(
            model,
            make_adam(model),
            functools.partial(
                task_meta_gradient,
                loss,
                alpha=workload.alpha,
                num_steps=1,
                adapts=which_adapt(model),
                first_order=self.first_order,
            ),
            example=tf.nest.map_structure(
                lambda x: x[0], as_tasks(workload.batches(0, 1))
            ),
        )
        self.window = self._step.steps_per_call

    @staticmethod
    def start(threads: str, precision: str) -> None:
        keras.config.set_floatx(precision)
        start_tensorflow()

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        losses = self._step(as_tasks(tasks), self.window)
        return losses["pre_update"], losses["post_update"]


class FirstOrderStep(Step):
    """The same without second derivatives."""

    first_order = True


class TrainingLoop(Implementation):
    """`maml_tf.training.train` with its tasks, log and checkpoints.

    It runs in a thread that waits, where it reports progress, for the next
    window of iterations. Every window sees a checkpoint saved: of the 1000
    iterations of the sinusoids' window training saves one by itself; after
    the 100 of Omniglot's, one is saved in addition. The sinusoids are drawn
    as in training; the images are there.
    """

    def __init__(self, workload: Workload):
        super().__init__(workload)
        model, loss = build_network(workload)
        adam = make_adam(model)
        if workload.name == "sinusoid":
            self.window, self._saves = CHECKPOINT_EVERY, False
            stream: TaskStream = Sinusoids(num_shots=10)
        else:
            self.window, self._saves = LOG_EVERY, True
            stream = ReadyTasks(workload)
        self._directory = tempfile.TemporaryDirectory()
        path = pathlib.Path(self._directory.name)
        self._checkpoints = Checkpoints(
            path / "checkpoints",
            {
                "weights": [v.value for v in model.variables],
                "optimizer": [v.value for v in adam.variables],
            },
        )
        task_gradient = functools.partial(
            task_meta_gradient,
            loss,
            alpha=workload.alpha,
            num_steps=1,
            adapts=which_adapt(model),
        )
        self._arguments = {
            "model": model,
            "phases": [Phase(ENDLESS, task_gradient, adam)],
            "stream": stream,
            "meta_batch_size": workload.meta_batch_size,
            "checkpoints": self._checkpoints,
            "start": 0,
            "log": TrainingLog(path / "train.csv", path / "tensorboard"),
            "on_progress": self._on_progress,
        }
        self._until = 1
        self._began = time.perf_counter()
        self._orders: queue.Queue[int] = queue.Queue()
        self._reports: queue.Queue[float | Exception] = queue.Queue()

    @staticmethod
    def start(threads: str, precision: str) -> None:
        keras.config.set_floatx(precision)
        start_tensorflow()

    def first_call(self) -> None:
        threading.Thread(target=self._train, daemon=True).start()
        self._next_report()

    def losses(self) -> None:
        """None: the loop shows losses only as means of 100 iterations."""

    def time_steps(self, count: int) -> float:
        self._orders.put(count)
        return self._next_report() / count

    def _train(self) -> None:
        try:
            train(**self._arguments)
        except Exception as e:
            self._reports.put(e)

    def _next_report(self) -> float:
        report = self._reports.get()
        if isinstance(report, Exception):
            raise report
        return report

    def _on_progress(self, iteration: int, row: dict[str, float]) -> None:
        if iteration < self._until:
            return
        if self._saves:
            self._checkpoints.save(iteration)
        self._reports.put(time.perf_counter() - self._began)
        self._until = iteration + self._orders.get()
        self._began = time.perf_counter()


class ReadyTasks:
    """The workload's own tasks as a `TaskStream`."""

    def __init__(self, workload: Workload):
        self._workload = workload

    def tasks(self, first: int, count: int) -> Task:
        size = self._workload.meta_batch_size
        batches = self._workload.batches(first // size, count // size)
        return tf.nest.map_structure(
            lambda x: x.reshape(count, *x.shape[2:]), as_tasks(batches)
        )
