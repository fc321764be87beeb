"""Times `Learner.fit` against the experiments' training loop.

    PYTHONPATH=. python benchmarks/learner.py

Both train the same network on the same stream of tasks, in one process and in
turn. Prints the ratio of the medians over the rounds; at most 1.05 is asked of
the learner, which neither logs nor saves.
"""

import statistics
import time

from absl import app, flags, logging
from with_maml_tf import TrainingLoop, build_network, make_adam
from workloads import WORKLOADS, Workload

from maml_tf.learner.learner import Learner

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum(
    "workload",
    ["sinusoid", "omniglot"],
    ["sinusoid", "omniglot"],
    "what to time; repeatable",
)
flags.DEFINE_integer("rounds", 7, "turns of each", 1)

LOSSES = {"sinusoid": "mse", "omniglot": "categorical_crossentropy"}
ITERATIONS = {"sinusoid": 1000, "omniglot": 50}  # of a turn


class Fitting:
    """A learner on a workload; a turn is a call of `fit`."""

    def __init__(self, workload: Workload, stream):
        model, _ = build_network(workload)
        self._learner = Learner(
            model, LOSSES[workload.name], workload.alpha, workload.num_steps
        )
        self._options = {
            "meta_batch_size": workload.meta_batch_size,
            "optimizer": make_adam(model, workload),
            "progress": False,
        }
        self._stream = stream

    def time_steps(self, count: int) -> float:
        """Seconds for one of `count` meta-steps."""
        began = time.perf_counter()
        self._learner.fit(self._stream, count, **self._options)
        return (time.perf_counter() - began) / count


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    TrainingLoop.start("maml_tf", "float32")
    for name in FLAGS.workload:
        workload = WORKLOADS[name]
        loop = TrainingLoop(workload)
        loop.first_call()
        fitting = Fitting(workload, loop.stream)
        fitting.time_steps(1)
        seconds = {"training": [], "fit": []}
        for _ in range(FLAGS.rounds):
            seconds["training"].append(loop.time_steps(ITERATIONS[name]))
            seconds["fit"].append(fitting.time_steps(ITERATIONS[name]))
        training, fit = (statistics.median(x) for x in seconds.values())
        print(
            f"{name}: training {1e3 * training:.3f} ms, fit {1e3 * fit:.3f} "
            f"ms a meta-step, ratio {fit / training:.3f}"
        )


if __name__ == "__main__":
    app.run(main)
