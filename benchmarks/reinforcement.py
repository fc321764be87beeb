"""Times an iteration of meta-reinforcement learning, and its physics.

    python -m benchmarks.reinforcement --environment=cheetah_dir

Trains for a few iterations of the paper's size, with checkpoints and log, and
prints the median seconds per iteration (after the first, which compiles), those
spent in the environment, and the peak memory of the process.
"""

import resource
import statistics
import sys
import tempfile
import time

from absl import app, flags

from maml_tf.rl.config import RLConfig
from maml_tf.rl.environments.registry import ENVIRONMENTS
from maml_tf.runtime import start_tensorflow
from maml_tf.training.files import TrainingFiles

FLAGS = flags.FLAGS

_GIGABYTE = 1e9
# ru_maxrss is in kilobytes, on macOS in bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Timed:
    """An environment whose calls are timed."""

    def __init__(self, environment):
        self._environment = environment
        self.seconds = 0.0

    def __getattr__(self, name: str):
        value = getattr(self._environment, name)
        if not callable(value):
            return value

        def timed(*arguments):
            began = time.perf_counter()
            result = value(*arguments)
            self.seconds += time.perf_counter() - began
            return result

        return timed


def measure(name: str, iterations: int, **settings) -> dict[str, float]:
    """Medians over `iterations`, after a first one that is not counted.

    Returns:
        Seconds of an iteration (`iteration`), of the environment's part
        (`environment`), and the peak memory in GB (`memory`).
    """
    from maml_tf.rl.learner import PolicyLearner
    from maml_tf.rl.training import LOG_FIELDS, PolicyTraining

    config = RLConfig.for_environment(
        name, metatrain_iterations=iterations + 1, **settings
    )
    learner = PolicyLearner(config)
    timed = learner.environment = Timed(learner.environment)
    moments = []

    def on_progress(iteration, _):
        moments.append((time.perf_counter(), timed.seconds))
        print(f"iteration {iteration}", file=sys.stderr)

    with tempfile.TemporaryDirectory() as directory:
        training = PolicyTraining(learner)
        files = TrainingFiles(
            directory, training.state, LOG_FIELDS, tensorboard=False
        )
        training.run(files, 0, on_progress)
    iteration, environment = (
        statistics.median(
            after[i] - before[i]
            for before, after in zip(moments, moments[1:], strict=False)
        )
        for i in range(2)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
    return {
        "iteration": iteration,
        "environment": environment,
        "memory": peak / _GIGABYTE,
    }


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments: {' '.join(argv[1:])}")
    found = measure(FLAGS.environment, FLAGS.iterations)
    print(
        f"{FLAGS.environment}: {found['iteration']:.1f} s per iteration, of "
        f"which {found['environment']:.1f} s in the environment; peak memory "
        f"{found['memory']:.1f} GB (median of {FLAGS.iterations} iterations)"
    )


if __name__ == "__main__":
    flags.DEFINE_enum("environment", "cheetah_dir", ENVIRONMENTS, "which tasks")
    flags.DEFINE_integer("iterations", 3, "how many to time", lower_bound=2)
    start_tensorflow(large_ops=True)
    app.run(main)
