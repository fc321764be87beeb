"""MAML, in second and first order, with options."""

import dataclasses
import itertools
import operator
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import (
    MetaGradient,
    Params,
    StepSize,
    Task,
    gradient_through_updates,
    inner_update,
)
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.methods.by_step import (
    Iterate,
    norm_variables,
    norms_of,
    rate_variables,
)
from maml_tf.methods.gradient import GradientMethod
from maml_tf.methods.head import in_head, set_head_to_zero, with_zero_head
from maml_tf.methods.method import State, setting
from maml_tf.methods.outer_loss import before, mean_over_sets, step_weights


@dataclasses.dataclass(frozen=True)
class MAML(GradientMethod):
    """Algorithm 2 of the paper (Finn, Abbeel and Levine 2017), and options.

    Without options the state is theta', else an `Iterate`. Updates after the
    last of training take its rates and normalization.

    Attributes:
        first_order: leave out second derivatives (section 5.2): faster, less
            exact.
        first_order_iterations: leave them out in the first iterations only
            (MAML++).
        multi_step_iterations: in the first iterations, add the query losses
            after each update, with weights that fall (MAML++).
        learn_rates: learn a rate for each tensor and update (MAML++), times
            alpha.
        norm_by_step: learn offsets and scales of normalization for each update
            (MAML++).
        head_only: updates change the head alone, the last layer: ANIL ("Rapid
            Learning or Feature Reuse?", Raghu et al. 2020,
            https://arxiv.org/abs/1909.09157).
        zero_head: set the head, the last layer, to zero before each task. It
            is not meta-learned.
        train_query_sets: number of query sets of equal size that a training
            task's consists of; each is normalized by itself.
    """

    name: ClassVar[str] = "maml"

    first_order: bool = False
    first_order_iterations: int = setting(
        0, "leave out second derivatives in so many first iterations"
    )
    multi_step_iterations: int = setting(
        0,
        "in so many first iterations, add the query losses after each update, "
        "with weights that fall",
    )
    learn_rates: bool = setting(
        False, "learn a rate for each tensor and update, times alpha"
    )
    norm_by_step: bool = setting(
        False, "learn offsets and scales of normalization for each update"
    )
    head_only: bool = setting(False, "updates change the last layer alone")
    zero_head: bool = setting(
        False, "set the last layer to zero before each task"
    )
    train_query_sets: int = setting(
        1, "query sets of a training task, each normalized by itself"
    )

    def __post_init__(self):
        super().__post_init__()
        for name, least in (
            ("first_order_iterations", 0),
            ("multi_step_iterations", 0),
            ("train_query_sets", 1),
        ):
            check_whole_number(name, getattr(self, name), least=least)
        if self.first_order and self.first_order_iterations:
            raise ConfigError(
                "first_order leaves out all second derivatives already; leave "
                "it out, or first_order_iterations.",
                "first_order",
                "first_order_iterations",
            )
        if self.head_only and callable(self.adapts):
            raise ConfigError(
                "head_only says what adapts; leave it out, or adapts.",
                "head_only",
            )
        for name in ("multi_step_iterations", "norm_by_step"):
            if getattr(self, name) and self.num_steps == 1:
                raise ConfigError(
                    f"{name} is about what differs between updates; "
                    "num_steps=1 has one only. Leave out one of them.",
                    name,
                    "num_steps",
                )

    @property
    def anneals(self) -> bool:
        return bool(self.first_order_iterations or self.multi_step_iterations)

    @property
    def takes_weights(self) -> bool:
        return self.train_query_sets == 1

    def bind(self, network: Network) -> Self:
        method = self
        if self.head_only:
            method = dataclasses.replace(self, adapts=in_head(network.model))
        bound = super(MAML, method).bind(network)
        if self.zero_head:
            pairs = zip(in_head(network.model), bound.moves, strict=True)
            if any(is_head and not moves for is_head, moves in pairs):
                raise ConfigError(
                    "zero_head is for a head that adapts, but `adapts` is not "
                    "true of it.",
                    "zero_head",
                )
            set_head_to_zero(network.model)
        if self.norm_by_step:
            norms = norms_of(network.model)
            if not any(norms) or any(map(operator.and_, norms, bound.moves)):
                raise ConfigError(
                    "norm_by_step is for offsets and scales of normalization "
                    "that updates do not change; this network has none.",
                    "norm_by_step",
                )
        return bound

    def variables(self, network: Network) -> list[keras.Variable]:
        model, found = network.model, []
        if self.learn_rates:
            found += rate_variables(model, self.moves, self.num_steps)
        if self.norm_by_step:
            found += norm_variables(model, self.num_steps)
        return found

    def begin(
        self,
        network: Network,
        params: Params,
        support: Batch,
        reference: Any = None,
    ) -> State:
        del support, reference
        theta, more = network.split(params)
        if self.zero_head:
            theta = with_zero_head(theta, network.model)
        if not (self.learn_rates or self.norm_by_step):
            return theta
        num_rates = sum(self.moves) if self.learn_rates else 0
        rates, later = more[:num_rates], more[num_rates:]
        norms = []
        if self.norm_by_step:
            first = itertools.compress(theta, norms_of(network.model))
            pairs = zip(first, later, strict=True)
            norms = [tf.concat([[x], others], axis=0) for x, others in pairs]
        return Iterate(theta, rates, norms, tf.constant(0))

    def update(
        self, network: Network, state: State, support: Batch, alpha: StepSize
    ) -> tuple[State, tf.Tensor]:
        return self._update(network, state, support, alpha)

    def weights(self, state: State) -> Params:
        return state.theta if isinstance(state, Iterate) else state

    def carries(self, network: Network) -> Sequence[bool]:
        if not self.norm_by_step:
            return self.moves
        return list(map(operator.or_, self.moves, norms_of(network.model)))

    def task_gradient(
        self,
        network: Network,
        params: Params,
        task: Task,
        iteration: tf.Tensor | None = None,
    ) -> MetaGradient:
        def gradient(early: bool, multi_step: bool) -> MetaGradient:
            weights = None
            if multi_step:
                done = tf.cast(iteration, params[0].dtype)
                weights = step_weights(
                    self.num_steps, done / self.multi_step_iterations
                )
            return gradient_through_updates(
                lambda: self.begin(network, params, task.support),
                lambda state: self._update(
                    network,
                    state,
                    task.support,
                    self.alpha,
                    self.first_order or early,
                ),
                lambda state: mean_over_sets(
                    network.loss,
                    self.weights(state),
                    task.query,
                    self.train_query_sets,
                ),
                self.num_steps,
                params,
                weights,
            )

        return before(
            self.first_order_iterations,
            iteration,
            lambda early: before(
                self.multi_step_iterations,
                iteration,
                lambda multi_step: gradient(early, multi_step),
            ),
        )

    def _update(
        self,
        network: Network,
        state: State,
        support: Batch,
        alpha: StepSize,
        first_order: bool = False,
    ) -> tuple[State, tf.Tensor]:
        theta = state
        if isinstance(state, Iterate):
            theta = state.normalized(norms_of(network.model))
            alpha = state.step_sizes(alpha, self.moves)
        theta, loss = inner_update(
            network.loss,
            theta,
            support,
            alpha,
            adapts=self.moves,
            first_order=first_order,
        )
        if isinstance(state, Iterate):
            return state._replace(theta=theta, step=state.step + 1), loss
        return theta, loss
