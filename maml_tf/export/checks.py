"""Checks of an exported function's inputs, inside its graph."""

import tensorflow as tf

Tensors = dict[str, tf.Tensor]

# Name prefixes of tensors that hold examples.
SETS = ("support_inputs", "support_targets", "query_inputs")


def checked(
    tensors: Tensors,
    shapes: dict[str, tf.TensorShape],
    num_ways: int | None = None,
    axis: int = 0,
    any_ways: bool = False,
    sets: tuple[str, ...] = SETS,
) -> Tensors:
    """The same tensors; whatever uses them runs only if they fit.

    A loaded signature does not check shapes, so the graph does.

    Args:
        tensors: those of one signature, by name.
        shapes: the shapes they must have.
        num_ways: N, if targets are class numbers.
        axis: axis of the examples in support and query sets; 1 for sets of
            several tasks.
        any_ways: whether targets are class numbers of as many classes as the
            support set has.
        sets: name prefixes of tensors that hold examples.
    """
    tensors = {
        name: tf.ensure_shape(tensor, shapes[name], name=name)
        for name, tensor in tensors.items()
    }
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(tensor)),
            [f"{name} must be finite, but holds NaN or infinity."],
        )
        for name, tensor in tensors.items()
        if tensor.dtype.is_floating
    ]
    examples = {n: t for n, t in tensors.items() if n.startswith(sets)}
    checks += _examples(examples, axis)
    if axis == 1:
        checks += _tasks(examples)
    if "num_updates" in tensors:
        updates = tensors["num_updates"]
        checks.append(
            require(updates >= 0, "num_updates must be 0 or more", updates)
        )
    if num_ways is not None and "support_targets" in tensors:
        labels = tensors["support_targets"]
        checks.append(
            require(
                tf.reduce_all((labels >= 0) & (labels < num_ways)),
                f"support_targets must be class numbers, 0 to {num_ways - 1}",
                labels,
            )
        )
    if any_ways and "support_targets" in tensors:
        checks.append(_every_class(tensors["support_targets"]))
    with tf.control_dependencies(checks):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}


def _examples(sets: Tensors, axis: int) -> list[tf.Operation]:
    """Asserts that no set is empty and that its tensors agree in length."""
    checks = []
    for role in ("support", "query", "inputs"):
        sizes = {
            name: tf.shape(tensor)[axis]
            for name, tensor in sets.items()
            if name.startswith(role)
        }
        names = list(sizes)
        for name, size in sizes.items():
            first = names[0]
            if name == first:
                check = require(
                    size >= 1, f"{name} must hold at least one example", size
                )
            else:
                check = require(
                    size == sizes[first],
                    f"{name} must hold as many examples as {first}",
                    size,
                    sizes[first],
                )
            checks.append(check)
    return checks


def _every_class(labels: tf.Tensor) -> tf.Operation:
    """Asserts that each class up to the largest has an example in each task.

    Args:
        labels: [examples], or [tasks, examples].
    """
    ordered = tf.sort(labels, axis=-1)
    steps = ordered[..., 1:] - ordered[..., :-1]
    complete = (
        tf.reduce_all(tf.reduce_min(labels, axis=-1) == 0)
        & tf.reduce_all(steps <= 1)
        & tf.reduce_all(tf.reduce_max(labels, axis=-1) == tf.reduce_max(labels))
    )
    return require(
        complete,
        "support_targets must be class numbers 0, 1, ... with an example of "
        "each",
        labels,
    )


def _tasks(sets: Tensors) -> list[tf.Operation]:
    """Asserts that all tensors have the same number of tasks."""
    first, *others = sets
    num_tasks = tf.shape(sets[first])[0]
    return [
        require(
            tf.shape(sets[name])[0] == num_tasks,
            f"{name} must hold as many tasks as {first}",
            tf.shape(sets[name])[0],
            num_tasks,
        )
        for name in others
    ]


def require(
    condition: tf.Tensor, message: str, *values: tf.Tensor
) -> tf.Operation:
    """Stops the graph with the message unless the condition holds."""
    return tf.debugging.Assert(condition, [f"{message}. Received:", *values])
