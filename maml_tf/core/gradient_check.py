"""Checks a model's meta-gradient against finite differences."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch, weights_of
from maml_tf.core.derivatives import gaps_in, missing_derivative, nodes_of
from maml_tf.core.maml import (
    LossFn,
    MetaGradient,
    Params,
    Task,
    joint_gradient,
    task_meta_gradient,
)
from maml_tf.core.model_copies import copy_model
from maml_tf.core.prediction import predict
from maml_tf.errors import ConfigError, first_lines
from maml_tf.layers.normalization import EXACT_LAYERS, all_layers, which_adapt
from maml_tf.layers.randomness import drawing_for
from maml_tf.runtime import quiet_startup

TOLERANCE = 1e-4
_DIRECTIONS = 3  # random directions for each variable
# A kink (ReLU, max-pool) spoils a large difference, rounding a small one.
_DIFFERENCES = (1e-5, 1e-6, 1e-7)
_BLOCKING_OPS = ("StopGradient", "PreventGradient")


@dataclasses.dataclass(frozen=True)
class MetaGradientCheck:
    """Result of `check_meta_gradient`; `str` explains it.

    Attributes:
        relative_error: error of the meta-gradient against finite differences,
            in float64; None if it cannot be computed.
        first_order_error: that of the first-order meta-gradient.
        by_variable: error of each variable's gradient, by path, relative to the
            norm of the whole gradient; empty if `relative_error` is None.
        obstacles: layers and ops that may block second derivatives.
        error: TensorFlow's message if there is no second derivative.
    """

    relative_error: float | None
    first_order_error: float
    by_variable: dict[str, float]
    obstacles: list[str]
    error: str | None = None

    @property
    def second_order(self) -> bool:
        """Whether the meta-gradient is the exact second-order one.

        It is judged as a whole: an error in a variable whose share of the
        gradient is below `TOLERANCE` goes unnoticed.
        """
        return (
            self.relative_error is not None and self.relative_error < TOLERANCE
        )

    def __str__(self) -> str:
        obstacles = "".join(f"\n  {o}" for o in self.obstacles)
        if self.error is not None:
            return (
                "The meta-gradient cannot be computed: an op of this model "
                f"has no second derivative.\n  {self.error}\n"
                "Replace the op, or use first_order=True."
            )
        if self.second_order:
            return (
                "The meta-gradient is second order: it agrees with finite "
                f"differences to {self.relative_error:.1e} (relative); the "
                "first-order one would be off by "
                f"{self.first_order_error:.1e}."
            )
        worst = max(self.by_variable, key=lambda name: self.by_variable[name])
        text = (
            "The meta-gradient is NOT the second-order one: it is off by "
            f"{self.relative_error:.1%} against finite differences (the "
            f"first-order one by {self.first_order_error:.1%}), most at "
            f"{worst}."
        )
        if self.obstacles:
            return f"{text} What stands in the way:{obstacles}"
        return f"{text} No op that stops gradients was found."


# TensorFlow logs every op that its layout pass sees in float64.
@quiet_startup()
def check_meta_gradient(
    model: keras.Model,
    loss: Callable[[Any, tf.Tensor], tf.Tensor],
    task: Task,
    alpha: float = 0.01,
    num_steps: int = 1,
    *,
    adapts: Sequence[bool] | None = None,
    seed: int = 0,
) -> MetaGradientCheck:
    """Compares a model's meta-gradient with central finite differences.

    Works on a float64 copy of the model with the same weights and layers; no
    layer is replaced, and the model does not change.

    Args:
        model: a built Keras model that can be rebuilt from its configuration.
        loss: a function of (targets, outputs), as in Keras.
        task: one task; support and query are `Batch`es.
        alpha, num_steps: step size and number of inner updates.
        adapts: which trainable variables adapt; None for the paper's choice.
        seed: seed of the directions in which derivatives are compared, and of
            what layers draw.

    Returns:
        The errors, and whether the meta-gradient is second order.

    Raises:
        ValueError: if the model cannot be rebuilt, or has no trainable
            variables.
        ConfigError: if TensorFlow cannot differentiate it.
    """
    if not model.trainable_variables:
        raise ValueError(f"{model.name} has no trainable variables.")
    adapts = which_adapt(model) if adapts is None else adapts
    try:
        twin = copy_model(model, _with_float64)
    except ValueError as e:
        raise _cannot_rebuild(model, e) from e
    loss = _in_float64(loss)

    def twin_loss(theta: Params, batch: Batch) -> tf.Tensor:
        # Not `losses.supervised`, which would replace the twin's normalization.
        outputs = predict(twin, theta, batch.inputs)
        return tf.reduce_mean(loss(batch.targets, outputs))

    if any(weights_of(batch) is not None for batch in task):
        raise ValueError("The check takes examples without weights.")
    theta = [tf.cast(v, tf.float64) for v in twin.trainable_variables]
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in theta]
    task = tf.nest.map_structure(_to_float64, task)
    task_spec = tf.nest.map_structure(
        lambda x: tf.TensorSpec(x.shape, x.dtype), task
    )

    def adapted(
        theta: Params, first_order: bool, task: Task = task
    ) -> MetaGradient:
        with drawing_for(seed):  # the same random numbers at every call
            return task_meta_gradient(
                twin_loss,
                theta,
                task,
                alpha,
                num_steps,
                adapts=adapts,
                first_order=first_order,
            )

    def second_order(theta: Params, task: Task) -> MetaGradient:
        return adapted(theta, False, task)

    def gradient(first_order: bool) -> list[np.ndarray]:
        compiled = _compiled(
            lambda theta: adapted(theta, first_order).gradient, theta
        )
        return [g.numpy() for g in compiled(theta)]

    try:
        objective = _compiled(
            lambda theta: adapted(theta, True).losses["post_update"], theta
        )
    except NameError as e:  # a Lambda layer is rebuilt without its globals
        raise _cannot_rebuild(model, e) from e
    except LookupError as e:
        gap = missing_derivative(e, second_order, specs, task_spec, twin)
        raise ConfigError(
            f"{model.name} has no gradient to check: {gap or first_lines(e)}."
        ) from e
    try:
        exact, error = gradient(first_order=False), None
    except (LookupError, TypeError, NotImplementedError) as e:
        gap = missing_derivative(e, second_order, specs, task_spec, twin)
        if gap is None:
            raise
        exact, error = None, f"{gap}. ({first_lines(e)})"
    first = gradient(first_order=True)

    rng = np.random.default_rng(seed)
    differences = np.zeros((len(theta), _DIRECTIONS))
    slopes = {name: np.zeros_like(differences) for name in ("exact", "first")}
    for i in range(len(theta)):
        for j in range(_DIRECTIONS):
            direction = rng.standard_normal(theta[i].shape)
            direction /= np.linalg.norm(direction)
            for name, g in (("exact", exact), ("first", first)):
                if g is not None:
                    slopes[name][i, j] = np.sum(g[i] * direction)
            differences[i, j] = _difference(
                objective,
                theta,
                i,
                direction,
                target=slopes["exact" if exact else "first"][i, j],
            )
    paths = [v.path for v in model.trainable_variables]
    return MetaGradientCheck(
        relative_error=(
            _relative_error(slopes["exact"], differences) if exact else None
        ),
        first_order_error=_relative_error(slopes["first"], differences),
        by_variable=(
            {
                path: float(np.linalg.norm(row) / np.linalg.norm(differences))
                for path, row in zip(
                    paths, slopes["exact"] - differences, strict=True
                )
            }
            if exact
            else {}
        ),
        obstacles=[
            *_obstacles(model, twin_loss, theta, task),
            *(
                []
                if exact is None
                else map(str, gaps_in(second_order, specs, task_spec, twin))
            ),
        ],
        error=error,
    )


def _cannot_rebuild(model: keras.Model, reason: Exception) -> ValueError:
    return ValueError(
        f"{model.name} cannot be rebuilt in float64 to check its gradient "
        f"({first_lines(reason)}). Give its layers a get_config and let them "
        "compute in their own dtype; use layers of your own in place of Lambda."
    )


def _with_float64(config: Any) -> Any:
    """A serialized object with every floating dtype made float64."""
    if isinstance(config, list | tuple):
        return type(config)(_with_float64(x) for x in config)
    if not isinstance(config, dict):
        return config
    return {
        key: (
            "float64"
            if key == "dtype" and _is_floating(value)
            else _with_float64(value)
        )
        for key, value in config.items()
    }


def _is_floating(dtype: Any) -> bool:
    """Whether a dtype's name is floating; serialized policies always are."""
    return not isinstance(dtype, str) or dtype.startswith(
        ("float", "bfloat", "mixed")
    )


def _in_float64(loss: Callable) -> Callable:
    """Keras' loss objects compute in their own dtype, functions in any."""
    if isinstance(loss, keras.losses.Loss):
        return type(loss).from_config({**loss.get_config(), "dtype": "float64"})
    return loss


def _to_float64(x: Any) -> tf.Tensor:
    x = tf.convert_to_tensor(x)
    return tf.cast(x, tf.float64) if x.dtype.is_floating else x


def _compiled(
    function: Callable, theta: Params
) -> tf.types.experimental.ConcreteFunction:
    return tf.function(function, autograph=False).get_concrete_function(theta)


def _difference(
    objective: Callable[[Params], tf.Tensor],
    theta: Params,
    index: int,
    direction: np.ndarray,
    target: float,
) -> float:
    """A directional derivative: the finite difference nearest to `target`.

    A correct gradient agrees with the difference for some step size; a wrong
    one agrees with none.
    """

    def at(step: float) -> float:
        moved = list(theta)
        moved[index] = theta[index] + step * direction
        return float(objective(moved))

    quotients = [(at(h) - at(-h)) / (2 * h) for h in _DIFFERENCES]
    return min(quotients, key=lambda q: abs(q - target))


def _relative_error(slopes: np.ndarray, differences: np.ndarray) -> float:
    error = float(np.linalg.norm(slopes - differences))
    return error / max(float(np.linalg.norm(differences)), 1e-300)


def _obstacles(
    model: keras.Model, loss: LossFn, theta: Params, task: Task
) -> list[str]:
    """Layers and ops that may block gradients."""
    found = [
        f"{layer.path}: Keras' {type(layer).__name__} stops the gradient of "
        "the mean inside the variance; maml_tf.use_exact_normalization(model) "
        "mends it."
        for layer in all_layers(model)
        if type(layer) in EXACT_LAYERS
    ]
    graph = _compiled(
        lambda theta: joint_gradient(loss, theta, task).gradient, theta
    ).graph
    found += [
        f"{node.op} in {node.name}"
        for node in nodes_of(graph)
        if node.op in _BLOCKING_OPS
    ]
    return found
