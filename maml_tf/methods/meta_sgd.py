"""MAML with step sizes that are learned along with theta.

"Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", Li, Zhou, Chen and
Li 2017 (https://arxiv.org/abs/1707.09835).
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.maml import (
    LossFn,
    MetaGradient,
    Params,
    StepSize,
    Task,
    task_meta_gradient,
)
from maml_tf.core.network import Network
from maml_tf.methods.gradient import GradientMethod


@dataclasses.dataclass(frozen=True)
class MetaSGD(GradientMethod):
    """MAML with a learned step size for each element that adapts.

    Attributes:
        alpha: initial value of the step sizes.
        first_order: leave out second derivatives: faster, less exact.
    """

    name: ClassVar[str] = "meta_sgd"

    first_order: bool = False

    def variables(self, network: Network) -> list[keras.Variable]:
        pairs = zip(network.model.trainable_variables, self.moves, strict=True)
        return [
            keras.Variable(np.full(v.shape, self.alpha, v.dtype), name="alpha")
            for v, moves in pairs
            if moves
        ]

    def step_size(self, network: Network, params: Params) -> StepSize:
        _, alphas = network.split(params)
        return step_sizes(alphas, self.moves)

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        return meta_sgd_gradient(
            network.loss,
            params,
            task,
            self.num_steps,
            adapts=self.moves,
            first_order=self.first_order,
        )


def meta_sgd_gradient(
    loss: LossFn,
    parameters: Params,
    task: Task,
    num_steps: int,
    *,
    adapts: Sequence[bool],
    first_order: bool = False,
) -> MetaGradient:
    """`task_meta_gradient` for step sizes that are learned, too.

    The query loss is differentiated with respect to these as well.

    Args:
        loss, task, num_steps, first_order: as for `task_meta_gradient`.
        parameters: theta, followed by an alpha for each entry that adapts, a
            scalar or of the entry's shape.
        adapts: for each entry of theta, whether it is updated.

    Returns:
        The gradient for every entry of `parameters`, and the losses.
    """
    return task_meta_gradient(
        loss,
        list(parameters[: len(adapts)]),
        task,
        step_sizes(parameters[len(adapts) :], adapts),
        num_steps,
        adapts=adapts,
        first_order=first_order,
        sources=list(parameters),
    )


def step_sizes(
    alphas: Params, adapts: Sequence[bool]
) -> list[float | tf.Tensor]:
    """Step sizes for all entries of theta, from those of entries that adapt."""
    learned = iter(alphas)
    return [next(learned) if moves else 0.0 for moves in adapts]
