"""iMAML: the meta-gradient at the minimum of a proximal problem.

"Meta-Learning with Implicit Gradients", Rajeswaran, Finn, Kakade and Levine
2019 (https://arxiv.org/abs/1909.04630).
"""

import dataclasses
import itertools
import math
import operator
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.conjugate_gradient import conjugate_gradient, flat, unflat
from maml_tf.core.maml import (
    MetaGradient,
    Params,
    StepSize,
    Task,
    gradient_or_zeros,
    inner_update,
)
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.methods.gradient import GradientMethod
from maml_tf.methods.method import State, setting


class Proximal(NamedTuple):
    """State of the inner problem.

    Attributes:
        theta: the weights phi.
        center: theta, where they started.
    """

    theta: Params
    center: Params


@dataclasses.dataclass(frozen=True)
class ImplicitMAML(GradientMethod):
    """Algorithms 1 and 2 of the paper.

    Updates descend G(phi) = L(phi) + strength / 2 |phi - theta|^2. At the
    minimum, whatever the path to it, d phi / d theta is
    (I + H / strength)^-1, where H is the Hessian of L: conjugate gradients
    multiply by it. Weights that do not adapt have their implicit derivative,
    too. After few updates the meta-gradient is approximate.

    Attributes:
        strength: lambda.
        cg_steps: iterations of conjugate gradients.
    """

    name: ClassVar[str] = "imaml"

    num_steps: int = 16
    strength: float = setting(
        2.0, "lambda, how strongly updates are pulled to where they started"
    )
    cg_steps: int = setting(5, "iterations of conjugate gradients")

    def __post_init__(self):
        super().__post_init__()
        if not (0 < self.strength < math.inf):
            raise ConfigError(
                "strength must be a positive number. Received: "
                f"strength={self.strength}",
                "strength",
            )
        check_whole_number("cg_steps", self.cg_steps, least=1)

    def begin(
        self,
        network: Network,
        params: Params,
        support: Batch,
        reference: Any = None,
    ) -> Proximal:
        theta = super().begin(network, params, support, reference)
        return Proximal(theta, theta)

    def update(
        self, network: Network, state: State, support: Batch, alpha: StepSize
    ) -> tuple[Proximal, tf.Tensor]:
        def proximal(theta: Params, batch: Batch) -> tf.Tensor:
            squares = [
                tf.reduce_sum(tf.square(t - c))
                for t, c in zip(theta, state.center, strict=True)
            ]
            pull = self.strength / 2 * tf.add_n(squares)
            return network.loss(theta, batch) + pull

        theta, loss = inner_update(
            proximal, state.theta, support, alpha, adapts=self.moves
        )
        return state._replace(theta=theta), loss

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        state = self.begin(network, params, task.support)
        losses = []
        for _ in range(self.num_steps):
            state, loss = self.update(network, state, task.support, self.alpha)
            losses.append(loss)
        query_loss, gradient = self._implicit(network, state.theta, task)
        return MetaGradient(
            gradient, {"pre_update": losses[0], "post_update": query_loss}
        )

    def weights(self, state: State) -> Params:
        return state.theta

    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> Proximal:
        theta = super().unpack(network, params, tensors)
        return Proximal(theta, theta)

    def _implicit(
        self, network: Network, phi: Params, task: Task
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The query loss, and its derivative through the minimum phi.

        With v the gradient of the query loss and (H + strength I) u = v, it is
        strength u for weights that adapt, and v - (d^2 L / d psi d phi) u for
        the others, psi.
        """
        with tf.GradientTape(watch_accessed_variables=False) as outer:
            outer.watch(phi)
            query_loss = network.loss(phi, task.query)
        direct = gradient_or_zeros(outer, query_loss, phi)
        adapted = list(itertools.compress(phi, self.moves))
        fixed = map(operator.not_, self.moves)
        others = list(itertools.compress(phi, fixed))

        def product(u: tf.Tensor, sources: Params) -> list[tf.Tensor]:
            """The second derivatives of L, in `sources` and what adapts."""
            with tf.GradientTape(watch_accessed_variables=False) as second:
                second.watch(phi)
                with tf.GradientTape(watch_accessed_variables=False) as first:
                    first.watch(adapted)
                    loss = network.loss(phi, task.support)
                gradient = gradient_or_zeros(first, loss, adapted)
                slope = tf.reduce_sum(flat(gradient) * u)
            return gradient_or_zeros(second, slope, sources)

        solution, _ = conjugate_gradient(
            lambda u: flat(product(u, adapted)) + self.strength * u,
            flat(list(itertools.compress(direct, self.moves))),
            self.cg_steps,
        )
        through = iter(unflat(self.strength * solution, adapted))
        mixed = iter(product(solution, others) if others else ())
        return query_loss, [
            next(through) if moves else v - next(mixed)
            for v, moves in zip(direct, self.moves, strict=True)
        ]
