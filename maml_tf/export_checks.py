"""What an exported function refuses, inside its graph and in words."""

import tensorflow as tf

Tensors = dict[str, tf.Tensor]


def checked(
    tensors: Tensors,
    shapes: dict[str, tf.TensorShape],
    num_ways: int | None = None,
    axis: int = 0,
) -> Tensors:
    """The same tensors; what uses them runs only if they fit.

    A loaded signature does not look at shapes, so the graph does.

    Args:
        tensors: those of one signature, by name.
        shapes: what they must have.
        num_ways: N, if targets are class numbers.
        axis: of support and query sets, along which examples lie; 1 for sets
            of several tasks.
    """
    tensors = {
        name: tf.ensure_shape(tensor, shapes[name], name=name)
        for name, tensor in tensors.items()
    }
    checks = _finite(tensors) + _sizes(tensors, axis)
    if "num_updates" in tensors:
        updates = tensors["num_updates"]
        checks.append(
            _require(updates >= 0, "num_updates must be 0 or more", updates)
        )
    if num_ways is not None and "support_targets" in tensors:
        labels = tensors["support_targets"]
        checks.append(
            _require(
                tf.reduce_all((labels >= 0) & (labels < num_ways)),
                f"support_targets must be class numbers, 0 to {num_ways - 1}",
                labels,
            )
        )
    with tf.control_dependencies(checks):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}


def _finite(tensors: Tensors) -> list[tf.Operation]:
    """Zero times a sum is not zero if a value is NaN or infinite."""
    return [
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(tensor)),
            [f"{name} must be finite, but holds NaN or infinity."],
        )
        for name, tensor in tensors.items()
        if tensor.dtype.is_floating
    ]


def _sizes(tensors: Tensors, axis: int) -> list[tf.Operation]:
    """Sets are not empty, and their tensors speak of the same examples."""
    checks = []
    first: dict[str, str] = {}
    for name, tensor in tensors.items():
        role = next((r for r in _ROLES if name.startswith(r)), None)
        if role is None:
            continue
        size = tf.shape(tensor)[axis]
        other = first.setdefault(role.partition("_")[0], name)
        if other == name:
            checks.append(
                _require(
                    size >= 1, f"{name} must hold at least one example", size
                )
            )
        else:
            checks.append(
                _require(
                    size == tf.shape(tensors[other])[axis],
                    f"{name} must hold as many examples as {other}",
                    size,
                    tf.shape(tensors[other])[axis],
                )
            )
        if axis == 1:
            tasks = [
                tf.shape(t)[0] for t in (tensor, tensors["support_targets"])
            ]
            checks.append(
                _require(
                    tasks[0] == tasks[1],
                    f"{name} must hold as many tasks as support_targets",
                    *tasks,
                )
            )
    return checks


_ROLES = ("support_inputs", "support_targets", "query_inputs")


def _require(condition: tf.Tensor, message: str, *values: tf.Tensor):
    return tf.debugging.Assert(condition, [f"{message}. Received:", *values])
