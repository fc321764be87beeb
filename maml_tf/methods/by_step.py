"""What may differ from one inner update to the next: rates, normalization.

"How to train your MAML", Antoniou, Edwards and Storkey 2019
(https://arxiv.org/abs/1810.09502), called MAML++.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.maml import Params, StepSize
from maml_tf.layers.normalization import which_adapt

# How many times faster a rate moves than the number that Adam learns for it.
GAIN = 10.0


class Iterate(NamedTuple):
    """State of an inner loop whose updates differ.

    Attributes:
        theta: the weights.
        rates: v of each entry of theta that adapts, [num_steps]; or nothing.
        norms: each offset and scale of normalization, [num_steps, channels];
            or nothing.
        step: updates so far, int32.
    """

    theta: Params
    rates: Params
    norms: Params
    step: tf.Tensor

    def step_sizes(self, alpha: StepSize, adapts: Sequence[bool]) -> StepSize:
        """Of the next update: alpha (1 + 10 (v - 1)), if v is learned."""
        if not self.rates:
            return alpha
        alphas: Sequence[Any] = (
            alpha if isinstance(alpha, list | tuple) else [alpha] * len(adapts)
        )
        rates = iter(self.rates)
        return [
            scaled(size, _at(next(rates), self.step)) if moves else size
            for size, moves in zip(alphas, adapts, strict=True)
        ]

    def normalized(self, is_norm: Sequence[bool]) -> Params:
        """Theta with the offsets and scales of the next update."""
        if not self.norms:
            return self.theta
        norms = iter(self.norms)
        return [
            _at(next(norms), self.step) if flag else t
            for t, flag in zip(self.theta, is_norm, strict=True)
        ]


def scaled(alpha: float | tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """The rate for a learned number v, which starts at 1."""
    # A Python float adopts the precision of v.
    alpha = tf.cast(alpha, v.dtype) if tf.is_tensor(alpha) else alpha
    return alpha * (1 + GAIN * (v - 1))


def rate_variables(
    model: keras.Model, adapts: Sequence[bool], num_steps: int
) -> list[keras.Variable]:
    """v for each tensor that adapts and each update: ones [num_steps]."""
    pairs = zip(model.trainable_variables, adapts, strict=True)
    return [
        keras.Variable(np.ones(num_steps, v.dtype), name="rate")
        for v, moves in pairs
        if moves
    ]


def norm_variables(model: keras.Model, num_steps: int) -> list[keras.Variable]:
    """Offsets and scales of all updates but the first, [num_steps - 1, ...].

    Those of the first are the model's own, where the others start.
    """
    pairs = zip(model.trainable_variables, norms_of(model), strict=True)
    return [
        keras.Variable(np.stack([v.numpy()] * (num_steps - 1)), name="norm")
        for v, is_norm in pairs
        if is_norm
    ]


def norms_of(model: keras.Model) -> list[bool]:
    """For each trainable variable, whether it is of normalization."""
    return [not adapts for adapts in which_adapt(model)]


def _at(values: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Those of an update; after the last one, the last one's."""
    return tf.gather(values, tf.minimum(step, values.shape[0] - 1))
