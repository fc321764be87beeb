"""The sinusoid tasks of section 5.1 of the paper.

y = A sin(x - phase), A uniform in [0.1, 5], phase uniform in [0, pi], x
uniform in [-5, 5], without noise (data_generator.py of the original).
"""

import dataclasses

import numpy as np

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Task
from maml_tf.datasets.class_splits import SPLITS
from maml_tf.uniforms import uniforms

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, np.pi)
INPUTS = (-5.0, 5.0)

_CURVE_STREAM, _INPUT_STREAM = 0, 1


@dataclasses.dataclass(frozen=True)
class Sinusoids:
    """A `TaskStream` of sinusoids.

    Attributes:
        num_shots: K, points of the support set and of the query set.
        seed: 0 <= seed < 2**64.
        split: `train`, `validation` or `test`: each a stream of its own.
        oracle: give amplitude and phase as second and third input.
    """

    num_shots: int
    seed: int = 0
    split: str = "train"
    oracle: bool = False

    @property
    def input_dim(self) -> int:
        return 3 if self.oracle else 1

    def curves(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Amplitudes and phases of the tasks, float64 [count, 1] each.

        They do not depend on `num_shots`: task i is the same sinusoid for any
        number of points.
        """
        u = uniforms(self.seed, self._stream(_CURVE_STREAM), first, count, 2)
        return _scale(u[:, :1], AMPLITUDES), _scale(u[:, 1:], PHASES)

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1.

        Returns:
            A `Task` of `Batch`es: inputs float32 [count, K, input_dim],
            targets float32 [count, K, 1].
        """
        amplitudes, phases = self.curves(first, count)
        points = uniforms(
            self.seed,
            self._stream(_INPUT_STREAM),
            first,
            count,
            2 * self.num_shots,
        )
        points = _scale(points, INPUTS)
        k = self.num_shots
        return Task(
            support=self.batch(amplitudes, phases, points[:, :k]),
            query=self.batch(amplitudes, phases, points[:, k:]),
        )

    def batch(
        self, amplitudes: np.ndarray, phases: np.ndarray, points: np.ndarray
    ) -> Batch:
        """The sinusoids at given points, x [count, points]."""
        inputs = [points]
        if self.oracle:
            inputs += [
                np.broadcast_to(a, points.shape) for a in (amplitudes, phases)
            ]
        targets = amplitudes * np.sin(points - phases)
        return Batch(
            np.stack(inputs, axis=-1).astype(np.float32),
            targets[..., None].astype(np.float32),
        )

    def _stream(self, kind: int) -> int:
        return 2 * SPLITS.index(self.split) + kind


def _scale(u: np.ndarray, interval: tuple[float, float]) -> np.ndarray:
    low, high = interval
    return low + (high - low) * u
