"""What all implementations work on: settings, weights and tasks, in NumPy."""

import dataclasses
from typing import NamedTuple

import numpy as np

BETA = 1e-3  # outer step size, of Adam
CHECKED_TASKS = 4
NUM_WAYS = 5


class Examples(NamedTuple):
    """Inputs and targets, with the axes that a workload gives them."""

    inputs: np.ndarray
    targets: np.ndarray


class Tasks(NamedTuple):
    """Support and query examples: [batches, tasks, examples, ...]."""

    support: Examples
    query: Examples


@dataclasses.dataclass(frozen=True)
class Workload:
    """A meta-learning problem with one inner update.

    Attributes:
        name: `sinusoid` or `omniglot`.
        meta_batch_size: tasks of a meta-step.
        alpha: inner step size.
        weights: initial values in the order of the Keras model's
            `trainable_variables`; kernels are [..., in, out].
        adapts: which of them the inner update changes.
        tasks: different batches of tasks, to be used in turn.
        tolerance: relative difference that float32's rounding can make in
            the losses of the first step.
    """

    name: str
    meta_batch_size: int
    alpha: float
    weights: list[np.ndarray]
    adapts: list[bool]
    tasks: Tasks
    tolerance: float

    def for_check(self) -> "Workload":
        """The same with fewer tasks, in double precision."""
        tasks = Tasks(
            *(
                Examples(*(_double(x[:, :CHECKED_TASKS]) for x in examples))
                for examples in self.tasks
            )
        )
        return dataclasses.replace(
            self,
            meta_batch_size=CHECKED_TASKS,
            weights=[_double(w) for w in self.weights],
            tasks=tasks,
        )

    def batches(self, first: int, count: int) -> Tasks:
        """`count` batches, `first` being any number of batches before."""
        num_batches = len(self.tasks.support.inputs)
        wanted = np.arange(first, first + count) % num_batches
        support, query = self.tasks
        return Tasks(
            Examples(*(x[wanted] for x in support)),
            Examples(*(x[wanted] for x in query)),
        )


def sinusoid() -> Workload:
    """Section 5.1 of the paper: 25 tasks, 10 points, a 1-40-40-1 network.

    Weights have a standard deviation of 0.3 and not the paper's 0.01, with
    which the network hardly depends on its input for the first steps.
    """
    num_tasks, num_points = 25, 10
    rng = np.random.default_rng(0)
    weights = []
    for shape in ((1, 40), (40, 40), (40, 1)):
        weights += [rng.normal(0, 0.3, shape), np.zeros(shape[1])]
    num_batches = 50
    curve = num_batches, num_tasks, 1, 1
    amplitudes = rng.uniform(0.1, 5, curve)
    phases = rng.uniform(0, np.pi, curve)

    def points():
        x = rng.uniform(-5, 5, (num_batches, num_tasks, num_points, 1))
        return _examples(x, amplitudes * np.sin(x - phases))

    return Workload(
        "sinusoid",
        num_tasks,
        0.01,
        _float32(weights),
        [True] * len(weights),
        Tasks(points(), points()),
        tolerance=1e-4,
    )


def omniglot() -> Workload:
    """Section 5.2, 5-way 1-shot, convolutional; random images for data.

    A class is a coarse random pattern, its images have noise of their own.
    Kernels are drawn three times as wide as the paper's and the last layer's
    weights with a standard deviation of 0.1, not 1: with the paper's the
    inner update overshoots so far on such images that adapting is of no use
    and rounding decides about the losses.
    """
    num_tasks = 32
    rng = np.random.default_rng(0)
    weights, adapts = [], []
    for channels in (1, 64, 64, 64):
        limit = 3 * np.sqrt(6 / (9 * channels + 9 * 64))  # 3 times Glorot's
        kernel = rng.uniform(-limit, limit, (3, 3, channels, 64))
        weights += [kernel, np.zeros(64), np.zeros(64)]
        adapts += [True, True, False]  # kernel, bias, offset
    weights += [rng.normal(0, 0.1, (64, NUM_WAYS)), np.zeros(NUM_WAYS)]
    adapts += [True, True]
    num_batches = 4
    classes = num_batches, num_tasks, NUM_WAYS
    patterns = rng.uniform(0, 1, (*classes, 7, 7, 1)).repeat(4, 3).repeat(4, 4)
    labels = np.broadcast_to(np.eye(NUM_WAYS), (*classes, NUM_WAYS))

    def images():
        noise = rng.uniform(0, 1, (*classes, 28, 28, 1))
        return _examples(0.8 * patterns + 0.2 * noise, labels)

    return Workload(
        "omniglot",
        num_tasks,
        0.4,
        _float32(weights),
        adapts,
        Tasks(images(), images()),
        tolerance=5e-3,
    )


WORKLOADS = {"sinusoid": sinusoid, "omniglot": omniglot}


def _examples(inputs: np.ndarray, targets: np.ndarray) -> Examples:
    return Examples(*_float32([inputs, targets]))


def _float32(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [x.astype(np.float32) for x in arrays]


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)
