"""Loss and metrics on held-out tasks after 0, 1, ..., n updates."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.batch import inputs_of, weights_of
from maml_tf.core.comparison import ObjectiveFn, weighted_mean
from maml_tf.core.maml import Params, StepSize, Task
from maml_tf.core.network import Network
from maml_tf.core.prediction import References, references
from maml_tf.core.task_loops import TaskLoop, loops_for, trace_with_best_loop
from maml_tf.core.task_stream import TaskStream
from maml_tf.methods.method import Method, State

NUM_TASKS = 600  # as in the paper's evaluations
CHUNK = 50  # tasks that are adapted at once: bounds memory


class Evaluator:
    """Adapts to tasks and measures predictions for their query sets.

    All updates of `CHUNK` tasks are one call of a compiled function, which
    serves any number of updates and any step size.
    """

    def __init__(
        self,
        network: Network,
        method: Method,
        objectives: Sequence[ObjectiveFn],
        statistics: str,
    ):
        """
        Args:
            network: the model with the loss that updates descend.
            method: bound to the network.
            objectives: what to measure, functions of (targets, outputs).
            statistics: whose statistics normalize a query set, one of
                `prediction.STATISTICS`.
        """
        self._network = network
        self._method = method
        self._objectives = objectives
        self._statistics = statistics
        # By number of tasks: the loop that runs one may not run several.
        self._measure: dict[int, Callable[..., tf.Tensor]] = {}

    def __call__(
        self,
        params: Params,
        stream: TaskStream,
        alpha: StepSize | None,
        num_tasks: int,
        num_updates: int,
    ) -> np.ndarray:
        """Measures each task after each number of updates.

        Args:
            params: everything that is meta-learned.
            stream: its first tasks are evaluated.
            alpha: the step size, or a list of them (`maml.inner_update`); None
                where the method has none.
            num_tasks: number of tasks.
            num_updates: number of updates.

        Returns:
            [num_objectives, num_tasks, num_updates + 1], float64 if theta is
            and else float32; column 0 is the query set before adaptation (the
            original reports the support set there).
        """
        values = []
        for first in range(0, num_tasks, CHUNK):
            count = min(CHUNK, num_tasks - first)
            tasks = stream.tasks(first, count)
            values.append(self._evaluate(params, tasks, alpha, num_updates))
        return np.concatenate(values, axis=1)

    def _evaluate(
        self,
        params: Params,
        tasks: Task,
        alpha: StepSize | None,
        num_updates: int,
    ) -> np.ndarray:
        sizes = () if alpha is None else alpha
        sizes = tf.nest.map_structure(
            lambda a: tf.convert_to_tensor(a, params[0].dtype), sizes
        )
        arguments = params, tasks, sizes, tf.constant(num_updates)
        count = len(tf.nest.flatten(tasks)[0])
        if count not in self._measure:
            self._measure[count] = trace_with_best_loop(
                self._build,
                *arguments,
                loops=loops_for(self._network.model),
            ).function
        return self._measure[count](*arguments).numpy().transpose(1, 2, 0)

    def _build(self, loop: TaskLoop):
        method, network = self._method, self._network

        def normalizing(task: Task) -> References:
            return references(
                self._statistics, inputs_of(task.support), inputs_of(task.query)
            )

        def measure_one(params: Params, state: State, task: Task) -> tf.Tensor:
            outputs = method.predict(
                network,
                params,
                state,
                inputs_of(task.query),
                normalizing(task).query,
            )
            targets, weights = task.query.targets, weights_of(task.query)
            values = (
                tf.reduce_mean(objective(targets, outputs))
                if weights is None
                else weighted_mean(objective, targets, outputs, weights)
                for objective in self._objectives
            )
            return tf.stack([tf.cast(x, _dtype_of(params)) for x in values])

        def measure(params, tasks, alpha, num_updates):
            def begin(task: Task) -> State:
                return method.begin(
                    network, params, task.support, normalizing(task).support
                )

            def measure_state(pair: tuple[State, Task]) -> tf.Tensor:
                return measure_one(params, *pair)

            def update(pair: tuple[State, Task]) -> tuple[State, tf.Tensor]:
                state, task = pair
                state, _ = method.update(network, state, task.support, alpha)
                return state, measure_one(params, state, task)

            states = loop.each(begin, tasks)
            before = loop.each(measure_state, (states, tasks))
            if method.test_steps == 0:
                return tf.transpose(before)[tf.newaxis]

            def body(i, states, values):
                states, measured = loop.each(update, (states, tasks))
                return i + 1, states, values.write(i, tf.transpose(measured))

            columns = num_updates + 1
            values = tf.TensorArray(_dtype_of(params), columns)
            _, _, values = tf.while_loop(
                lambda i, *_: i < columns,
                body,
                (1, states, values.write(0, tf.transpose(before))),
            )
            return values.stack()

        return measure


def _dtype_of(params: Params) -> str:
    """The dtype of measured values."""
    found: str = keras.backend.result_type(params[0].dtype.name, "float32")
    return found
