"""Model-Agnostic Meta-Learning: Algorithms 1 to 3 of the paper.

"Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", Finn,
Abbeel and Levine, ICML 2017 (https://arxiv.org/abs/1703.03400).

| paper                     | here                                         |
|---------------------------|----------------------------------------------|
| theta                     | `theta`: the values of `trainable_variables` |
| theta'_i                  | `iterates[-1]` of `adapt`                    |
| alpha, beta               | `alpha`; the outer optimizer's learning rate |
| L_Ti(f_theta)             | `loss(theta, data)`                          |
| K examples D, D'_i        | `task.support`, `task.query`                 |
| T_i ~ p(T)                | one `Task` of a stacked batch of tasks       |

Algorithm 1 is `meta_gradient` of `task_meta_gradient`, followed by a step of
the outer optimizer. Algorithm 2 is the same with the losses of equations 2
and 3. Algorithm 3 is the same with trajectories as data: `adapt` takes fresh
ones for each update.

Everything here is a function of tensors: no variable is assigned and no model
is named, so the same code serves any loss, eager or compiled.
"""

import contextlib
import contextvars
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

Params = Sequence[tf.Tensor]
# What a loss is computed on: examples with targets, or trajectories.
Data = Any
LossFn = Callable[[Params, Data], tf.Tensor]
# One for all parameters, or a list with one for each entry of theta.
StepSize: TypeAlias = float | tf.Tensor | Sequence[float | tf.Tensor]


class Task(NamedTuple):
    """The data of a task drawn from p(T).

    Attributes:
        support: the data D of the inner updates.
        query: the data D' of the same task, which judges the result.

    Stacked along a new first axis, the tensors of several tasks make a batch
    of tasks, itself a `Task`.
    """

    support: Data
    query: Data


class Adaptation(NamedTuple):
    """Result of `adapt`.

    Attributes:
        iterates: the parameters before the first and after each update,
            `num_steps + 1` lists of tensors.
        losses: the loss before each update, `num_steps` scalars.
    """

    iterates: list[Params]
    losses: list[tf.Tensor]


class MetaGradient(NamedTuple):
    """A gradient with respect to theta, and the losses computed with it.

    Attributes:
        gradient: one tensor for each entry of theta.
        losses: scalars by name, such as `pre_update` and `post_update`.
        carried: new values of what is not descended but carried from one
            meta-step to the next, such as an inner optimizer's moments.
    """

    gradient: list[tf.Tensor]
    losses: dict[str, tf.Tensor]
    carried: Sequence[tf.Tensor] = ()


MetaGradientFn = Callable[[Params, Task], MetaGradient]
# The mean of a function of one task over a batch of them: `TaskLoop.mean`.
MeanOverTasks = Callable[[Callable[[Task], MetaGradient], Task], MetaGradient]


def inner_update(
    loss: LossFn,
    theta: Params,
    data: Data,
    alpha: StepSize,
    *,
    adapts: Sequence[bool] | None = None,
    first_order: bool = False,
) -> tuple[Params, tf.Tensor]:
    """One gradient step on one task: line 6 of Algorithm 1 (equation 1).

    theta' = theta - alpha * d loss(theta, data) / d theta

    Args:
        loss: the task's loss, a scalar function of parameters and data.
        theta: the parameters, a list of float tensors.
        data: what `loss` takes.
        alpha: the step size, a scalar; or a list or tuple with one for each
            entry of theta, each a scalar or of the entry's shape.
        adapts: for each entry of theta, whether it is updated; None updates
            all. An entry that the loss does not depend on stays as it is.
        first_order: treat the gradient as a constant, so that derivatives of
            theta' with respect to theta leave out the second derivatives of
            the loss (section 5.2; the original's `--stop_grad`).

    Returns:
        theta', with the structure of theta, and the loss at theta.

    Raises:
        ValueError: if alpha is a number that is negative or not finite.
    """
    adapts = [True] * len(theta) if adapts is None else adapts
    alphas: Sequence[Any] = (
        alpha if isinstance(alpha, list | tuple) else [alpha] * len(theta)
    )
    for size in alphas:
        if isinstance(size, numbers.Real) and not (0 <= float(size) < math.inf):
            raise ValueError(
                "alpha must be finite and not negative. Received: "
                f"alpha={size!r}"
            )
    adapted = [t for t, moves in zip(theta, adapts, strict=True) if moves]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(adapted)
        value = loss(theta, data)
    gradients = iter(tape.gradient(value, adapted))

    def step(parameter, moves, size):
        gradient = next(gradients) if moves else None
        if gradient is None:
            return parameter
        # It is sparse for looked-up rows, as in an embedding.
        gradient = tf.convert_to_tensor(gradient)
        if first_order:
            gradient = tf.stop_gradient(gradient)
        # A Python float adopts the parameter's precision.
        size = tf.cast(size, parameter.dtype) if tf.is_tensor(size) else size
        # A sum, since the derivative of a difference takes one more pass.
        return parameter + -size * gradient

    return [step(*x) for x in zip(theta, adapts, alphas, strict=True)], value


def adapt(
    loss: LossFn,
    theta: Params,
    datasets: Iterable[Data],
    alpha: StepSize,
    *,
    adapts: Sequence[bool] | None = None,
    first_order: bool = False,
) -> Adaptation:
    """Several inner updates: lines 5-6 of Algorithm 1, 5-7 of Algorithm 3.

    Supervised tasks repeat their support set, `[task.support] * num_steps`;
    reinforcement learning collects fresh data for each step.

    Args:
        loss, theta, alpha, adapts, first_order: as for `inner_update`.
        datasets: the data of each step, in order.

    Returns:
        The parameters and losses along the way.
    """
    iterates: list[Params] = [list(theta)]
    losses: list[tf.Tensor] = []
    for data in datasets:
        theta, value = inner_update(
            loss,
            theta,
            data,
            alpha,
            adapts=adapts,
            first_order=first_order,
        )
        iterates.append(theta)
        losses.append(value)
    return Adaptation(iterates, losses)


def task_meta_gradient(
    loss: LossFn,
    theta: Params,
    task: Task,
    alpha: StepSize,
    num_steps: int,
    *,
    adapts: Sequence[bool] | None = None,
    first_order: bool = False,
    sources: Params | None = None,
) -> MetaGradient:
    """One task's term of line 8 of Algorithm 1, differentiated.

    d loss(theta'_i, query) / d theta, through the inner updates that lead
    from theta to theta'_i.

    Args:
        loss, theta, alpha, adapts, first_order: as for `inner_update`.
        task: one task.
        num_steps: number of inner updates, at least 1.
        sources: what to differentiate with respect to, such as theta and step
            sizes; None takes theta.

    Returns:
        The gradient for every entry of `sources` (including those that do not
        adapt), the loss on the support set before the first update
        (`pre_update`) and on the query set after the last (`post_update`).
    """

    def update(iterate: Params) -> tuple[Params, tf.Tensor]:
        return inner_update(
            loss,
            iterate,
            task.support,
            alpha,
            adapts=adapts,
            first_order=first_order,
        )

    return gradient_through_updates(
        lambda: theta,
        update,
        lambda iterate: loss(iterate, task.query),
        num_steps,
        theta if sources is None else sources,
    )


def gradient_through_updates(
    begin: Callable[[], Any],
    update: Callable[[Any], tuple[Any, tf.Tensor]],
    query_loss: Callable[[Any], tf.Tensor],
    num_steps: int,
    sources: Params,
    weights: tf.Tensor | None = None,
) -> MetaGradient:
    """The gradient of the query loss after updates of any kind.

    Args:
        begin: the state before the first update, computed from `sources`.
        update: state -> the next state, and the support loss before it.
        query_loss: state -> a scalar.
        num_steps: number of updates, at least 1.
        sources: what to differentiate with respect to.
        weights: [num_steps], those of the query losses after each update in
            the loss that is differentiated; None takes the last one alone.

    Returns:
        As `task_meta_gradient`.
    """
    pre_update = None
    query_losses = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        state = begin()
        for step in range(num_steps):
            state, support_loss = update(state)
            pre_update = support_loss if pre_update is None else pre_update
            if weights is not None or step == num_steps - 1:
                query_losses.append(query_loss(state))
        total = query_losses[-1]
        if weights is not None:
            total = tf.reduce_sum(weights * tf.stack(query_losses))
    return MetaGradient(
        gradient_or_zeros(tape, total, sources),
        {"pre_update": pre_update, "post_update": query_losses[-1]},
    )


def joint_gradient(loss: LossFn, theta: Params, task: Task) -> MetaGradient:
    """One task's term of ordinary training on all tasks together.

    The gradient of the loss on the support set, without any adaptation: how
    the paper's pretrained and oracle networks learn (section 5.1).

    Args:
        loss, theta: as for `inner_update`.
        task: one task; its query set is not used.

    Returns:
        The gradient for every entry of theta and that loss (`pre_update`).
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(theta)
        support_loss = loss(theta, task.support)
    return MetaGradient(
        gradient_or_zeros(tape, support_loss, theta),
        {"pre_update": support_loss},
    )


def meta_gradient(
    task_gradient: MetaGradientFn,
    theta: Params,
    tasks: Task,
    mean_over_tasks: MeanOverTasks,
) -> MetaGradient:
    """The mean over a batch of tasks: line 8 of Algorithm 1.

    The gradient of each task is taken inside the loop over tasks and then
    averaged, so that memory does not grow with the number of tasks and no
    loop has to be differentiated. (The paper sums over tasks; the original
    code divides by their number, as here.)

    Args:
        task_gradient: the gradient of one task.
        theta: the parameters, a list of float tensors.
        tasks: a batch of tasks, stacked along the first axis.
        mean_over_tasks: the loop over tasks: the `mean` of one of
            `task_loops.TASK_LOOPS`.

    Returns:
        Mean gradient, mean losses and means of what is carried.
    """
    return mean_over_tasks(lambda task: task_gradient(theta, task), tasks)


_loss_scale: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar(
    "loss_scale", default=None
)


@contextlib.contextmanager
def loss_scaled_by(scale: tf.Tensor | None) -> Iterator[None]:
    """Within it, `gradient_or_zeros` keeps small float16 values from vanishing.

    Values along the way are `scale` times as large; the gradient is the same.

    Args:
        scale: a positive scalar; None scales nothing.
    """
    token = _loss_scale.set(scale)
    try:
        yield
    finally:
        _loss_scale.reset(token)


def gradient_or_zeros(
    tape: tf.GradientTape, value: tf.Tensor, sources: Params
) -> list[tf.Tensor]:
    """A tensor for each source, zeros where the value does not depend on it."""
    scale = _loss_scale.get()
    gradient = tape.gradient(
        value,
        sources,
        output_gradients=None if scale is None else tf.cast(scale, value.dtype),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    gradient = [tf.convert_to_tensor(g) for g in gradient]
    if scale is None:
        return gradient
    return [g / tf.cast(scale, g.dtype) for g in gradient]
