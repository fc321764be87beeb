"""Ways to apply a function to each task of a batch, and the choice of one.

`vectorized` runs all tasks as one batched computation: fastest, but impossible
where TensorFlow cannot batch an op over per-task weights, as in the loops of
recurrent layers without `unroll=True`, and slow or impossible for convolutions.
`mapped` runs as many tasks at once as the machine has cores, one thread each:
works for every model. `unrolled` writes the tasks one after the other into the
graph: for models that neither of the others can trace.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from absl import logging

from maml_tf.layers.normalization import all_layers

Through = Callable[[Callable[[Any], Any], Any], Any]


class TaskLoop(NamedTuple):
    """A way to apply a function of one task to a batch of tasks.

    Attributes:
        each: takes function and tasks, and returns the function's results
            stacked along a new first axis.
        mean: takes the same and returns the mean of the results.
    """

    each: Through
    mean: Through


def vectorized(function: Callable[[Any], Any], tasks: Any) -> Any:
    """`tf.vectorized_map` that refuses to fall back to a slow loop."""
    return tf.vectorized_map(function, tasks, fallback_to_while_loop=False)


def mapped(function: Callable[[Any], Any], tasks: Any) -> Any:
    """`tf.map_fn` over the tasks, a task per core at a time."""
    traced = _traced_for_one(function, tasks)
    return tf.map_fn(
        lambda task: traced(task),
        tasks,
        fn_output_signature=tf.nest.map_structure(
            _spec, traced.structured_outputs
        ),
        parallel_iterations=os.cpu_count(),
    )


def mapped_mean(function: Callable[[Any], Any], tasks: Any) -> Any:
    """The mean of what `mapped` returns, without holding all results."""
    traced = _traced_for_one(function, tasks)
    num_tasks = tf.shape(tf.nest.flatten(tasks)[0])[0]

    def add_one(i: tf.Tensor, sums: Any):
        result = traced(tf.nest.map_structure(lambda x: x[i], tasks))
        return i + 1, tf.nest.map_structure(tf.add, sums, result)

    _, sums = tf.while_loop(
        lambda i, _: i < num_tasks,
        add_one,
        (0, tf.nest.map_structure(_zeros, traced.structured_outputs)),
        parallel_iterations=os.cpu_count(),
    )
    return tf.nest.map_structure(
        lambda x: x / tf.cast(num_tasks, x.dtype), sums
    )


def unrolled(function: Callable[[Any], Any], tasks: Any) -> Any:
    """The function of each task in turn; the number of tasks is static."""
    num_tasks = tf.nest.flatten(tasks)[0].shape[0]
    results = [
        function(tf.nest.map_structure(lambda x, i=i: x[i], tasks))
        for i in range(num_tasks)
    ]
    return tf.nest.map_structure(lambda *xs: tf.stack(xs), *results)


def _mean_of(through: Through) -> Through:
    def mean(function: Callable[[Any], Any], tasks: Any) -> Any:
        return tf.nest.map_structure(
            lambda x: tf.reduce_mean(x, axis=0), through(function, tasks)
        )

    return mean


TASK_LOOPS = {
    "vectorized": TaskLoop(vectorized, _mean_of(vectorized)),
    "mapped": TaskLoop(mapped, mapped_mean),
    "unrolled": TaskLoop(unrolled, _mean_of(unrolled)),
}


_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


class TracedLoop(NamedTuple):
    """A function over a batch of tasks, traced with the loop that fits it.

    Attributes:
        name: the loop, a key of `TASK_LOOPS`.
        function: a `tf.function`, already traced for the example.
        outputs: the structure of its outputs, as `tf.TensorSpec`s.
        graph: what was traced.
    """

    name: str
    function: Callable
    outputs: Any
    graph: tf.Graph


def loops_for(model: keras.Model) -> list[str]:
    """The keys of `TASK_LOOPS` to try for a model, in order.

    Models with convolutions are never `vectorized`: what TensorFlow can batch
    of them was measured to be slower than a task per core. Nor is any model
    while functions run eagerly, which TensorFlow cannot batch.
    """
    maps = tf.config.functions_run_eagerly() or any(
        isinstance(x, _CONVOLUTIONS) for x in all_layers(model)
    )
    return [x for x in TASK_LOOPS if not (maps and x == "vectorized")]


def trace_with_best_loop(
    build: Callable[[TaskLoop], Callable],
    *example: Any,
    loops: Sequence[str] = tuple(TASK_LOOPS),
) -> TracedLoop:
    """Traces a function with the first loop that can trace it.

    Args:
        build: returns the function that runs over the tasks with a given loop.
        example: arguments of that function, or their `tf.TensorSpec`s.
        loops: keys of `TASK_LOOPS`, in the order in which to try them.

    Raises:
        ValueError: if one of `loops` is unknown.
        Exception: what the function itself raises, if no loop can trace it.
    """
    for name in loops:
        if name not in TASK_LOOPS:
            raise ValueError(
                f"task_loop must be one of {tuple(TASK_LOOPS)}. Received: "
                f"task_loop={name!r}"
            )
    specs = tf.nest.map_structure(_spec, example)

    def trace(name: str) -> TracedLoop:
        function = tf.function(build(TASK_LOOPS[name]), autograph=False)
        with _quiet_tensorflow():
            traced = function.get_concrete_function(*specs)
        outputs = tf.nest.map_structure(_spec, traced.structured_outputs)
        return TracedLoop(name, function, outputs, traced.graph)

    *preferred, last = loops
    for name in preferred:
        try:
            return trace(name)
        except (ValueError, TypeError, NotImplementedError, LookupError) as e:
            logging.debug("Task loop %s does not fit: %s", name, e)
    return trace(last)


def _traced_for_one(function: Callable[[Any], Any], tasks: Any):
    """The concrete function of one task."""
    one_task = tf.nest.map_structure(
        lambda x: tf.TensorSpec(x.shape[1:], x.dtype), tasks
    )
    return tf.function(function, autograph=False).get_concrete_function(
        one_task
    )


def _zeros(x: tf.Tensor) -> tf.Tensor:
    return tf.zeros(x.shape, x.dtype)


def _spec(x: Any) -> tf.TensorSpec:
    if isinstance(x, tf.TensorSpec):
        return x
    return tf.TensorSpec(x.shape, x.dtype)


@contextlib.contextmanager
def _quiet_tensorflow():
    """Keeps TensorFlow from printing a graph for each op it cannot batch."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        logger.setLevel(level)
