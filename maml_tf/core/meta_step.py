"""The compiled meta-step: task gradients, their mean, the outer optimizer."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from maml_tf.core.derivatives import (
    check_derivatives,
    check_draws,
    missing_derivative,
    nodes_of,
)
from maml_tf.core.maml import (
    MetaGradient,
    Params,
    Task,
    loss_scaled_by,
    meta_gradient,
)
from maml_tf.core.task_loops import TaskLoop, loops_for, trace_with_best_loop
from maml_tf.core.task_stream import NumberedTask
from maml_tf.errors import ConfigError, first_lines
from maml_tf.layers.normalization import inexact_layers
from maml_tf.layers.randomness import drawing_for, generators_of

STEPS_PER_COMPILED_CALL = 50

# When XLA differentiates the gradient, it finds a pool's maximum by 16 bits of
# each value and picks the wrong one where two are close.
_INEXACT_IN_XLA = ("MaxPoolGradGrad", "MaxPool3DGradGrad")


class MetaStep:
    """Lines 3-9 of Algorithm 1 as one compiled function.

    Models that can run `vectorized` over tasks (dense ones, recurrent ones with
    `unroll=True`) are compiled by XLA, many meta-steps per call; the others,
    such as those with convolutions, run `mapped`, without XLA, one meta-step
    per call. Measured, each is the fastest that such models allow
    (benchmarks/). XLA is not used where it cannot compile a model or, for
    max-pooling, has no exact second derivative.

    Attributes:
        task_loop: the loop over tasks in use, a key of `TASK_LOOPS`.
        jit_compile: whether XLA compiles the step.
        steps_per_call: the largest number of meta-steps per call.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        task_gradient: Callable[..., MetaGradient],
        example: Task | NumberedTask,
        task_loop: str | None = None,
        jit_compile: bool | None = None,
        more_variables: Sequence[keras.Variable] = (),
        by_iteration: bool = False,
        carried: Sequence[keras.Variable] = (),
        differentiates_updates: bool = True,
    ):
        """Traces the gradient and chooses how to run it.

        Args:
            model: its `trainable_variables` are theta; calls assign them.
            optimizer: the outer optimizer; calls assign its variables. If it
                scales the loss, the losses of the meta-gradient are scaled
                (`maml.loss_scaled_by`), those of inner updates are not.
            task_gradient: gradient and losses of one task.
            example: one batch of tasks [meta_batch_size, ...] or its specs; a
                `NumberedTask` if layers draw random numbers.
            task_loop: a key of `TASK_LOOPS`; None chooses.
            jit_compile: None compiles with XLA if the loop is `vectorized`.
            more_variables: further meta-learned variables, such as step sizes;
                `task_gradient` gets their values after theta.
            by_iteration: whether `task_gradient` takes, after the task, how
                many steps the optimizer has taken, an integer scalar.
            carried: variables that take the mean of `MetaGradient.carried` of
                the tasks; their values come last.
            differentiates_updates: whether the gradient is the derivative of
                the last loss, so that each op before it needs a derivative.

        Raises:
            ValueError: if `task_loop` is unknown, the model has normalization
                layers with a wrong second derivative, or it draws random
                numbers and tasks have none.
            ConfigError: if TensorFlow has no derivative of an op that the
                gradient needs.
        """
        inexact = inexact_layers(model)
        if inexact:
            raise ValueError(
                "The meta-gradient through Keras' normalization is wrong: "
                f"{', '.join(layer.path for layer in inexact)}. Make the loss "
                "by maml_tf.supervised, or call "
                "maml_tf.use_exact_normalization(model) first."
            )
        if isinstance(example, NumberedTask):
            task_gradient = _drawing(task_gradient)
        elif generators_of(model):
            raise ValueError(
                f"{model.name} draws random numbers, so it needs the number of "
                "each task: give maml_tf.NumberedTask(task, number)."
            )
        self._variables = [*model.trainable_variables, *more_variables]
        self._carried = list(carried)
        if not optimizer.built:
            optimizer.build(self._variables)
        self._optimizer = optimizer
        self._task_gradient = task_gradient
        self._by_iteration = by_iteration
        specs = [
            tf.TensorSpec(v.shape, v.dtype)
            for v in (*self._variables, *self._carried)
        ]
        task = tf.nest.map_structure(
            lambda x: tf.TensorSpec(x.shape[1:], x.dtype), example
        )
        try:
            traced = trace_with_best_loop(
                self._gradient_by,
                specs,
                example,
                self._circumstances(),
                loops=loops_for(model) if task_loop is None else [task_loop],
            )
        except (LookupError, TypeError, NotImplementedError) as e:
            gap = missing_derivative(e, self._last, specs, task, model)
            if gap is None:
                raise
            raise ConfigError(
                f"{gap}. Replace it, or use first_order=True. "
                f"({first_lines(e)})"
            ) from e
        check_draws(model, traced.graph)
        if differentiates_updates:
            check_derivatives(self._last, specs, task, model, traced.graph)
        self._meta_gradient = traced.function
        self._loss_specs = traced.outputs.losses
        self.task_loop = traced.name
        self.jit_compile = (
            traced.name == "vectorized" if jit_compile is None else jit_compile
        )
        if self.jit_compile and any(
            node.op.startswith(_INEXACT_IN_XLA)
            for node in nodes_of(traced.graph)
        ):
            logging.warning(
                "XLA has no exact second derivative of max-pooling; going on "
                "without it."
            )
            self.jit_compile = False
        self.steps_per_call = STEPS_PER_COMPILED_CALL if self.jit_compile else 1
        self._compile()
        self._called = False

    def __call__(
        self, tasks: Task | NumberedTask, count: int = 1
    ) -> dict[str, np.ndarray]:
        """Takes `count` meta-steps, one for each batch of tasks.

        Args:
            tasks: [steps_per_call, meta_batch_size, ...]; batches after the
                first `count` are not used.
            count: at least 1 and at most `steps_per_call`.

        Returns:
            Mean losses by name, [count] each, in the order of the steps.

        Raises:
            ValueError: if `count` is out of range, or `tasks` does not hold
                `steps_per_call` batches.
        """
        if not 1 <= count <= self.steps_per_call:
            raise ValueError(
                f"count must be between 1 and {self.steps_per_call}. "
                f"Received: count={count}"
            )
        batches = {x.shape[0] for x in tf.nest.flatten(tasks)}
        if batches != {self.steps_per_call}:
            raise ValueError(
                f"tasks must be stacked {self.steps_per_call} (steps_per_call) "
                f"batches. Received: first axes of {sorted(batches)}"
            )
        arguments = tasks, tf.constant(count)
        if self._called:
            losses = self._steps(*arguments)
        else:
            losses = self._first_call(*arguments)
            self._called = True
        return {name: x.numpy()[:count] for name, x in losses.items()}

    @property
    def num_traces(self) -> int:
        """Number of times the step was traced: 1 after the first call."""
        return self._steps.experimental_get_tracing_count()

    def _compile(self) -> None:
        self._steps = tf.function(
            self._many_steps, jit_compile=self.jit_compile, autograph=False
        )

    def _first_call(self, *arguments):
        """The first call; gives up XLA if it cannot compile the model."""
        try:
            return self._steps(*arguments)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            if not self.jit_compile:
                raise
        logging.warning("XLA cannot compile this model; going on without it.")
        self.jit_compile = False
        self._compile()
        return self._steps(*arguments)

    def _one_step(
        self, tasks: Task | NumberedTask, index
    ) -> dict[str, tf.Tensor]:
        params = [
            tf.convert_to_tensor(v) for v in (*self._variables, *self._carried)
        ]
        circumstances = self._circumstances()
        result = self._meta_gradient(
            params,
            tf.nest.map_structure(lambda x: x[index], tasks),
            circumstances,
        )
        gradient = result.gradient
        if "loss_scale" in circumstances:  # by which the optimizer divides
            scale = circumstances["loss_scale"]
            gradient = [g * tf.cast(scale, g.dtype) for g in gradient]
        self._optimizer.apply(gradient, self._variables)
        for variable, value in zip(self._carried, result.carried, strict=True):
            variable.assign(value)
        return result.losses

    def _gradient_by(self, loop: TaskLoop) -> Callable[..., MetaGradient]:
        """The meta-gradient of (theta, tasks, circumstances)."""

        def gradient(
            theta: Params,
            tasks: Any,
            circumstances: dict[str, tf.Tensor],
        ) -> MetaGradient:
            names = ("iteration",) if self._by_iteration else ()
            more = [circumstances[name] for name in names]
            with loss_scaled_by(circumstances.get("loss_scale")):
                return meta_gradient(
                    lambda theta, task: self._task_gradient(theta, task, *more),
                    theta,
                    tasks,
                    loop.mean,
                )

        return gradient

    def _last(self, params: Params, task: Task | NumberedTask) -> MetaGradient:
        """The gradient of one task when no annealing is left."""
        iteration = [tf.constant(2**31 - 1)] if self._by_iteration else []
        return self._task_gradient(params, task, *iteration)

    def _circumstances(self) -> dict[str, tf.Tensor]:
        """Scalars that the meta-gradient needs besides theta and tasks."""
        found = {}
        if self._by_iteration:
            found["iteration"] = tf.convert_to_tensor(
                self._optimizer.iterations
            )
        scale = self._optimizer.scale_loss(1.0)
        if not (isinstance(scale, float) and scale == 1.0):
            found["loss_scale"] = tf.cast(scale, tf.float32)
        return found

    def _many_steps(
        self, tasks: Task | NumberedTask, count
    ) -> dict[str, tf.Tensor]:
        histories = {
            name: tf.TensorArray(spec.dtype, self.steps_per_call)
            for name, spec in self._loss_specs.items()
        }

        def body(i, histories):
            losses = self._one_step(tasks, i)
            return i + 1, {
                name: history.write(i, losses[name])
                for name, history in histories.items()
            }

        _, histories = tf.while_loop(
            lambda i, _: i < count, body, (tf.constant(0), histories)
        )
        return {name: history.stack() for name, history in histories.items()}


def _drawing(
    task_gradient: Callable[..., MetaGradient],
) -> Callable[..., MetaGradient]:
    """The gradient of a task whose number decides the random numbers."""

    def gradient(
        theta: Params, numbered: NumberedTask, *more: tf.Tensor
    ) -> MetaGradient:
        with drawing_for(numbered.number):
            return task_gradient(theta, numbered.task, *more)

    return gradient
