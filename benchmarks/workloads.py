"""The workloads: settings, weights and tasks, in NumPy."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

BETA = 1e-3  # outer step size, of Adam
HIDDEN_DIM = 40  # units of the sinusoids' two hidden layers
NUM_POINTS = 10  # of a sinusoid, in support and query set each


class Examples(NamedTuple):
    """Inputs and targets; their leading axes depend on the use."""

    inputs: np.ndarray
    targets: np.ndarray


class Tasks(NamedTuple):
    """Support and query examples: [batches, tasks, examples, ...]."""

    support: Examples
    query: Examples


@dataclasses.dataclass(frozen=True)
class ConvNet:
    """Four blocks of 3x3 convolution, batch norm and ReLU, then linear.

    Attributes:
        image_shape: (height, width, channels), a multiple of 7 pixels.
        num_ways: classes of a task.
        num_filters: of each convolution.
        max_pool: stride 1 and 2x2 max-pools, last maps flattened; else
            stride 2, last maps averaged.
    """

    image_shape: tuple[int, int, int]
    num_ways: int
    num_filters: int = 64
    max_pool: bool = False

    @property
    def kernel_shapes(self) -> list[tuple[int, int, int, int]]:
        channels = self.image_shape[-1], *[self.num_filters] * 3
        return [(3, 3, c, self.num_filters) for c in channels]

    @property
    def features(self) -> int:
        """Inputs of the last layer."""
        last_map = (self.image_shape[0] // 16) ** 2 if self.max_pool else 1
        return last_map * self.num_filters


@dataclasses.dataclass(frozen=True)
class Workload:
    """A meta-learning problem.

    Attributes:
        name: name in tables and flags.
        meta_batch_size: tasks of a meta-step.
        alpha: inner step size.
        num_batches: different batches of tasks, to be used in turn.
        tolerance: relative difference that float32's rounding can make in
            the losses of the first step.
        checked_steps: meta-steps of the comparison in double precision.
        num_steps: inner updates.
        net: None for sinusoids and their dense network.
        num_queries: query images per class; there is one support image.
        noise: the share of an image that is its own and not its class's.
        clip: bound of each element of the meta-gradient, or None.
        first_order: leave out second derivatives.
        precision: `float32` or `float64`.
    """

    name: str
    meta_batch_size: int
    alpha: float
    num_batches: int
    tolerance: float
    checked_steps: int
    num_steps: int = 1
    net: ConvNet | None = None
    num_queries: int = 1
    noise: float = 0.2
    clip: float | None = None
    first_order: bool = False
    precision: str = "float32"

    @functools.cached_property
    def weights(self) -> list[np.ndarray]:
        """Initial values in the order of the Keras model's variables.

        Kernels are [..., in, out]. They are drawn so that adapting helps and
        rounding does not determine the losses: dense ones with a standard
        deviation of 0.3 and not the paper's 0.01, with which the network
        hardly depends on its input for the first steps; kernels of images
        three times as wide as Glorot's and the last layer's weights with a
        standard deviation of 0.1 or 0.05, because with the paper's the inner
        update overshoots far on random images.
        """
        rng = np.random.default_rng(0)
        weights = []
        if self.net is None:
            for shape in ((1, HIDDEN_DIM), (HIDDEN_DIM,) * 2, (HIDDEN_DIM, 1)):
                weights += [rng.normal(0, 0.3, shape), np.zeros(shape[1])]
        else:
            for shape in self.net.kernel_shapes:
                limit = 3 * np.sqrt(6 / (9 * sum(shape[2:])))
                kernel = rng.uniform(-limit, limit, shape)
                weights += [kernel, np.zeros(shape[3]), np.zeros(shape[3])]
            shape = self.net.features, self.net.num_ways
            deviation = 0.05 if self.net.max_pool else 0.1
            weights += [rng.normal(0, deviation, shape), np.zeros(shape[1])]
        return [self._rounded(w) for w in weights]

    @property
    def adapts(self) -> list[bool]:
        """For each weight, whether the inner updates change it."""
        if self.net is None:
            return [True] * len(self.weights)
        return [True, True, False] * 4 + [True] * 2  # kernel, bias, offset

    @functools.cached_property
    def tasks(self) -> Tasks:
        """All batches of tasks."""
        rng = np.random.default_rng(1)
        if self.net is None:
            return self._sinusoids(rng)
        return self._images(self.net, rng)

    def batches(self, first: int, count: int) -> Tasks:
        """`count` batches following the first `first`, any number of them."""
        first %= self.num_batches
        if first + count <= self.num_batches:
            wanted = slice(first, first + count)  # nothing is copied
        else:
            wanted = np.arange(first, first + count) % self.num_batches
        support, query = self.tasks
        return Tasks(
            Examples(*(x[wanted] for x in support)),
            Examples(*(x[wanted] for x in query)),
        )

    def _sinusoids(self, rng: np.random.Generator) -> Tasks:
        curve = self.num_batches, self.meta_batch_size, 1, 1
        amplitudes = rng.uniform(0.1, 5, curve)
        phases = rng.uniform(0, np.pi, curve)

        def points() -> Examples:
            x = rng.uniform(-5, 5, (*curve[:2], NUM_POINTS, 1))
            y = amplitudes * np.sin(x - phases)
            return Examples(self._rounded(x), self._rounded(y))

        return Tasks(points(), points())

    def _images(self, net: ConvNet, rng: np.random.Generator) -> Tasks:
        """A class is a coarse random pattern; its images have noise, too."""
        batches = self.num_batches, self.meta_batch_size
        height, width, channels = net.image_shape
        coarse = *batches, net.num_ways, 1, 7, 7, channels
        patterns = rng.random(coarse, np.float32) * np.float32(1 - self.noise)
        patterns = patterns.repeat(height // 7, 4).repeat(width // 7, 5)

        def images(per_class: int) -> Examples:
            shape = *batches, net.num_ways, per_class, *net.image_shape
            inputs = rng.random(shape, np.float32)
            inputs *= np.float32(self.noise)
            inputs += patterns
            count = net.num_ways * per_class
            labels = np.eye(net.num_ways).repeat(per_class, 0)
            labels = np.broadcast_to(labels, (*batches, count, net.num_ways))
            return Examples(
                self._rounded(inputs.reshape(*batches, count, *shape[4:])),
                self._rounded(labels),
            )

        return Tasks(images(1), images(self.num_queries))

    def _rounded(self, array: np.ndarray) -> np.ndarray:
        """Values rounded to single precision, in the workload's dtype."""
        return array.astype(np.float32, copy=False).astype(
            self.precision, copy=False
        )


# Sections 5.1 and 5.2 of the paper; images at K = 1.
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "sinusoid",
            meta_batch_size=25,
            alpha=0.01,
            num_batches=50,
            tolerance=1e-4,
            checked_steps=50,
        ),
        Workload(
            "omniglot",
            meta_batch_size=32,
            alpha=0.4,
            num_batches=4,
            tolerance=5e-3,
            checked_steps=4,
            net=ConvNet((28, 28, 1), num_ways=5),
        ),
        Workload(
            "omniglot_20way",
            meta_batch_size=16,
            alpha=0.1,
            num_batches=2,
            tolerance=5e-3,
            checked_steps=3,
            num_steps=5,
            net=ConvNet((28, 28, 1), num_ways=20),
        ),
        Workload(
            "miniimagenet",
            meta_batch_size=4,
            alpha=0.01,
            num_batches=2,
            tolerance=5e-3,
            checked_steps=1,
            num_steps=5,
            net=ConvNet((84, 84, 3), 5, num_filters=32, max_pool=True),
            num_queries=15,
            noise=0.5,
            clip=10.0,
        ),
    )
}


def for_check(workload: Workload) -> Workload:
    """The same with fewer tasks and images, in double precision."""
    return dataclasses.replace(
        workload,
        meta_batch_size=2,
        num_queries=min(workload.num_queries, 3),
        precision="float64",
    )
