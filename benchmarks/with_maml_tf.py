"""maml_tf: its compiled meta-step, and its training loop around it."""

import functools
import queue
import tempfile
import threading
import time

import keras
import numpy as np
import tensorflow as tf
from implementation import Implementation, Stepper
from workloads import (
    BETA,
    HIDDEN_DIM,
    NUM_POINTS,
    ConvNet,
    Tasks,
    Workload,
)

from maml_tf.core.batch import Batch
from maml_tf.core.comparison import ObjectiveFn
from maml_tf.core.losses import (
    cross_entropy,
    mean_squared_error,
    scaled_cross_entropy,
    squared_error,
)
from maml_tf.core.maml import LossFn, MetaGradientFn, Task, task_meta_gradient
from maml_tf.core.meta_step import MetaStep
from maml_tf.core.task_stream import TaskStream
from maml_tf.datasets.packed_images import ImageClasses
from maml_tf.layers.normalization import which_adapt
from maml_tf.learner.learner import Learner
from maml_tf.methods.maml import MAML
from maml_tf.models import conv_net, dense_net
from maml_tf.runtime import start_tensorflow
from maml_tf.tasks.few_shot import Episodes
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.training.files import TrainingFiles

ENDLESS = 10**9  # iterations
CHECKPOINT_EVERY = 1000  # iterations, as in training on sinusoids
IMAGE_WINDOW = 50  # iterations of a training loop's turn on images
NUM_CLASSES, NUM_IMAGES = 1100, 20  # Omniglot's for training


def build_network(workload: Workload) -> tuple[keras.Model, LossFn]:
    """The workload's network with its initial weights, and its loss."""
    net = workload.net
    if net is None:
        model = dense_net(1, (HIDDEN_DIM, HIDDEN_DIM), 1)
        loss = mean_squared_error(model)
    else:
        model = conv_net(
            net.image_shape, net.num_ways, net.num_filters, net.max_pool
        )
        loss = cross_entropy(model, num_shots=1)
    variables = zip(model.trainable_variables, workload.weights, strict=True)
    for variable, value in variables:
        variable.assign(value)
    return model, loss


def make_adam(
    model: keras.Model, workload: Workload
) -> keras.optimizers.Optimizer:
    """Adam as the paper's code has it, its state at 0."""
    adam = keras.optimizers.Adam(BETA, epsilon=1e-8, clipvalue=workload.clip)
    if workload.precision == "float64":
        # Keras rounds those that are Python's to single precision.
        adam.beta_1, adam.beta_2 = np.float64(0.9), np.float64(0.999)
    adam.build(model.trainable_variables)
    return adam


def first_moments(adam: keras.optimizers.Optimizer) -> list[np.ndarray]:
    return [m.numpy() for m in adam._momentums]


def make_task_gradient(
    model: keras.Model, loss: LossFn, workload: Workload
) -> MetaGradientFn:
    return functools.partial(
        task_meta_gradient,
        loss,
        alpha=workload.alpha,
        num_steps=workload.num_steps,
        adapts=which_adapt(model),
        first_order=workload.first_order,
    )


def as_tasks(tasks: Tasks) -> Task:
    """The same arrays in maml_tf's structure."""
    return Task(Batch(*tasks.support), Batch(*tasks.query))


class Step(Stepper):
    """`MetaStep`, called as the training loop calls it."""

    def __init__(self, workload: Workload):
        super().__init__(workload)
        model, loss = build_network(workload)
        self._adam = make_adam(model, workload)
        self._step = MetaStep(
            model,
            self._adam,
            make_task_gradient(model, loss, workload),
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

    def first_moments(self) -> list[np.ndarray]:
        return first_moments(self._adam)


class TrainingLoop(Implementation):
    """`Learner.fit` in a directory: with its tasks, logs and checkpoints.

    It runs in a thread that waits, in a callback after each call of the
    meta-step, for the next window of iterations. Every window includes a
    checkpoint: training itself saves one in the 1000 iterations of the
    sinusoids' window; in the shorter windows of images one is saved in
    addition. Tasks are drawn as in training, those of images from classes of
    noise.
    """

    def __init__(self, workload: Workload):
        super().__init__(workload)
        network, _ = build_network(workload)
        self._saves = workload.net is not None
        self.window = IMAGE_WINDOW if self._saves else CHECKPOINT_EVERY
        self._learner = Learner(
            network, objective_of(workload), method=method_of(workload)
        )
        self._adam = make_adam(network, workload)
        self._directory = tempfile.TemporaryDirectory()
        self._files = TrainingFiles(
            self._directory.name, self._learner.state(self._adam)
        )
        self._meta_batch_size = workload.meta_batch_size
        self.stream: TaskStream = (
            Sinusoids(NUM_POINTS)
            if workload.net is None
            else _episodes(workload.net, workload.num_queries)
        )
        self._until = 1
        self._began = time.perf_counter()
        self._orders: queue.Queue[int] = queue.Queue()
        self._reports: queue.Queue[float | Exception] = queue.Queue()

    start = staticmethod(Step.start)

    def first_call(self) -> None:
        threading.Thread(target=self._train, daemon=True).start()
        self._next_report()

    def time_steps(self, count: int) -> float:
        self._orders.put(count)
        return self._next_report() / count

    def _train(self) -> None:
        try:
            self._learner.fit(
                self.stream,
                ENDLESS,
                meta_batch_size=self._meta_batch_size,
                optimizer=self._adam,
                steps_per_epoch=CHECKPOINT_EVERY,
                directory=self._files,
                callbacks=[
                    keras.callbacks.LambdaCallback(
                        on_train_batch_end=lambda batch, logs: self._pause()
                    )
                ],
                progress=False,
            )
        except Exception as e:
            self._reports.put(e)

    def _next_report(self) -> float:
        report = self._reports.get()
        if isinstance(report, Exception):
            raise report
        return report

    def _pause(self) -> None:
        iteration = self._learner.iterations
        if iteration < self._until:
            return
        if self._saves:
            self._files.checkpoints.save(iteration)
        self._reports.put(time.perf_counter() - self._began)
        self._until = iteration + self._orders.get()
        self._began = time.perf_counter()


def objective_of(workload: Workload) -> ObjectiveFn:
    """The loss of (targets, outputs)."""
    return squared_error if workload.net is None else scaled_cross_entropy(1)


def method_of(workload: Workload) -> MAML:
    return MAML(
        workload.alpha, workload.num_steps, first_order=workload.first_order
    )


def _episodes(net: ConvNet, num_queries: int) -> Episodes:
    """1-shot tasks of random images, as many as Omniglot has."""
    images = np.random.default_rng(2).integers(
        0, 256, (NUM_CLASSES * NUM_IMAGES, *net.image_shape), np.uint8
    )
    classes = ImageClasses(
        images,
        tuple(map(str, range(NUM_CLASSES))),
        np.arange(NUM_CLASSES) * NUM_IMAGES,
        np.full(NUM_CLASSES, NUM_IMAGES),
    )
    return Episodes(classes, net.num_ways, 1, num_queries, rotations=True)
