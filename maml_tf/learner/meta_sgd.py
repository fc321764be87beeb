"""Step sizes that are learned with theta.

"Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", Li, Zhou, Chen and
Li 2017 (https://arxiv.org/abs/1707.09835).
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.maml import LossFn, MetaGradient, Params, Task, query_gradient


def meta_sgd_gradient(
    loss: LossFn,
    parameters: Params,
    task: Task,
    num_steps: int,
    *,
    adapts: Sequence[bool],
    first_order: bool = False,
) -> MetaGradient:
    """As `task_meta_gradient`, with step sizes that are learned, too.

    The query loss is differentiated with respect to these as well.

    Args:
        loss, task, num_steps, first_order: as for `task_meta_gradient`.
        parameters: theta, followed by an alpha for each entry that adapts, a
            scalar or of the entry's shape.
        adapts: for each entry of theta whether it is updated.

    Returns:
        The gradient for every entry of `parameters`, and the losses.
    """
    theta = list(parameters[: len(adapts)])
    return query_gradient(
        loss,
        theta,
        task,
        step_sizes(parameters[len(adapts) :], adapts),
        num_steps,
        adapts=adapts,
        first_order=first_order,
        sources=list(parameters),
    )


def step_sizes(alphas: Params, adapts: Sequence[bool]) -> list[tf.Tensor]:
    """One step size for each entry of theta from those of what adapts."""
    learned = iter(alphas)
    return [next(learned) if moves else 0.0 for moves in adapts]


def initial_step_sizes(
    model: keras.Model, adapts: Sequence[bool], alpha: float
) -> list[keras.Variable]:
    """A variable of the shape of each variable that adapts, all `alpha`."""
    return [
        keras.Variable(np.full(v.shape, alpha, v.dtype), name="alpha")
        for v, moves in zip(model.trainable_variables, adapts, strict=True)
        if moves
    ]
