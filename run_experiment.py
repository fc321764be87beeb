"""Trains and evaluates the experiments of the paper.

    python run_experiment.py

meta-learns sinusoid regression, trains the networks that the paper compares
it with, and ends with a table and figures. Flags have the names and meanings
of the original code's main.py; a flag that is not given takes the value that
the paper uses for the experiment. README.md lists both.
"""

import math
import pathlib
import re
import sys

from absl import app, flags, logging
from rich.console import Console

from maml_tf.baselines import baseline_configs, evaluate_random
from maml_tf.configs import SinusoidConfig
from maml_tf.errors import ConfigError, ExperimentError
from maml_tf.report import report
from maml_tf.run_directory import RunDirectory
from maml_tf.runs import evaluate_run, open_run, train_run
from maml_tf.runtime import start_tensorflow

FLAGS = flags.FLAGS

# What the experiment is
flags.DEFINE_string("datasource", "sinusoid", "the tasks: sinusoid")
flags.DEFINE_integer(
    "num_classes", None, "N-way: classes of a task (images only)"
)
flags.DEFINE_string(
    "baseline",
    None,
    "oracle: give the network amplitude and phase of its sinusoid; trained "
    "on all tasks jointly unless --metatrain_iterations is given",
)

# Training
flags.DEFINE_integer(
    "pretrain_iterations",
    None,
    "iterations of ordinary training on all tasks jointly, before "
    "meta-training [0; oracle: 70000]",
)
flags.DEFINE_integer(
    "metatrain_iterations", None, "meta-training iterations [70000; oracle: 0]"
)
flags.DEFINE_integer("meta_batch_size", None, "tasks of a meta-update [25]")
flags.DEFINE_float("meta_lr", None, "outer step size beta, of Adam [0.001]")
flags.DEFINE_integer(
    "update_batch_size",
    None,
    "K: points of a task's support set, and of its query set [training 10; "
    "evaluation 5, 10 and 20]",
)
flags.DEFINE_float("update_lr", None, "inner step size alpha [0.01]")
flags.DEFINE_integer(
    "num_updates", None, "inner updates in training [1]; evaluation takes 10"
)
flags.DEFINE_integer("seed", None, "of initial weights and training tasks [0]")

# Network
flags.DEFINE_string("norm", None, "batch_norm, layer_norm or None [None]")
flags.DEFINE_integer(
    "num_filters", None, "filters of a convolution (images only)"
)
flags.DEFINE_bool("conv", None, "convolutional network (images only)")
flags.DEFINE_bool("max_pool", None, "max-pool, not stride (images only)")
flags.DEFINE_bool(
    "stop_grad", None, "first-order MAML: leave out second derivatives [False]"
)

# Runs
flags.DEFINE_bool("log", True, "write TensorBoard events")
flags.DEFINE_string("logdir", "logs", "directory of the run directories")
flags.DEFINE_bool(
    "resume",
    True,
    "go on with a run that is there; False moves it aside and begins anew",
)
flags.DEFINE_bool("train", True, "False: only evaluate")
flags.DEFINE_integer(
    "test_iter", -1, "iteration to evaluate; -1 for the newest"
)
flags.DEFINE_bool(
    "test_set",
    True,
    "evaluate on test tasks; False for validation tasks (sinusoids of "
    "training are never among either)",
)
flags.DEFINE_integer(
    "train_update_batch_size",
    -1,
    "K of the run to evaluate, if --update_batch_size asks for another",
)
flags.DEFINE_float(
    "train_update_lr",
    -1,
    "alpha of the run to evaluate, if --update_lr asks for another",
)
flags.DEFINE_string(
    "run_dir", None, "with --train=False: the run directory, by its path"
)
flags.DEFINE_bool(
    "compare",
    True,
    "after meta-training, train (if need be) and evaluate the pretrained and "
    "oracle networks, too",
)

# Flags of settings -> fields of the configuration, in the paper's words
FIELDS = {
    "baseline": "baseline",
    "pretrain_iterations": "pretrain_iterations",
    "metatrain_iterations": "metatrain_iterations",
    "meta_batch_size": "meta_batch_size",
    "meta_lr": "beta",
    "update_batch_size": "num_shots",
    "update_lr": "alpha",
    "num_updates": "num_steps",
    "norm": "norm",
    "stop_grad": "first_order",
    "seed": "seed",
}
IMAGE_FLAGS = ("num_classes", "num_filters", "conv", "max_pool")
ORACLE_DEFAULTS = {
    "pretrain_iterations": SinusoidConfig.metatrain_iterations,
    "metatrain_iterations": 0,
}


def config_from_flags() -> SinusoidConfig:
    """The settings that the flags ask for.

    Raises:
        ConfigError: in the words of the flags.
    """
    if FLAGS.baseline == "oracle" and FLAGS.datasource != "sinusoid":
        raise ConfigError(
            "--baseline=oracle tells the network amplitude and phase of a "
            "sinusoid; it does not go with "
            f"--datasource={FLAGS.datasource}."
        )
    if FLAGS.datasource != "sinusoid":
        raise ConfigError(
            "--datasource must be sinusoid. Received: "
            f"--datasource={FLAGS.datasource}"
        )
    for name in IMAGE_FLAGS:
        if FLAGS[name].present:
            raise ConfigError(
                f"--{name} is for images; the sinusoid's network has none. "
                "Leave it out."
            )
    _check_run_flags()
    given = {name: FLAGS[name].value for name in FIELDS if FLAGS[name].present}
    if given.get("norm") == "None":
        given["norm"] = None
    if not FLAGS.train:
        if FLAGS.train_update_batch_size != -1:
            given["update_batch_size"] = FLAGS.train_update_batch_size
        if FLAGS.train_update_lr != -1:
            given["update_lr"] = FLAGS.train_update_lr
    if FLAGS.baseline == "oracle" and not set(ORACLE_DEFAULTS) & set(given):
        given |= ORACLE_DEFAULTS
    try:
        return SinusoidConfig(**{FIELDS[n]: v for n, v in given.items()})
    except ConfigError as e:
        raise ConfigError(_in_flags(str(e))) from e


def _check_run_flags() -> None:
    """Refuses flags that would be ignored."""
    if FLAGS.train:
        for name in ("run_dir", "train_update_batch_size", "train_update_lr"):
            if FLAGS[name].present:
                raise ConfigError(f"--{name} goes with --train=False.")
    if FLAGS.run_dir is not None:
        for name in set(FIELDS) - {"update_batch_size", "update_lr"}:
            if FLAGS[name].present:
                raise ConfigError(
                    f"--{name} does not go with --run_dir: the settings of "
                    "the run are stored there."
                )
    if FLAGS.test_iter == 0 or FLAGS.test_iter < -1:
        raise ConfigError(
            "--test_iter must be an iteration, or -1 for the newest. "
            f"Received: --test_iter={FLAGS.test_iter}"
        )


def _in_flags(message: str) -> str:
    for flag, field in FIELDS.items():
        message = re.sub(rf"\b{field}\b", f"--{flag}", message)
    return message


def evaluation_settings() -> dict:
    """What the flags say about evaluating a run."""
    settings = {"split": "test" if FLAGS.test_set else "validation"}
    if FLAGS.test_iter > 0:
        settings["iteration"] = FLAGS.test_iter
    if not FLAGS.train:
        if FLAGS["update_batch_size"].present:
            if FLAGS.update_batch_size < 1:
                raise ConfigError(
                    "--update_batch_size must be at least 1. Received: "
                    f"--update_batch_size={FLAGS.update_batch_size}"
                )
            settings["shots"] = (FLAGS.update_batch_size,)
        if FLAGS["update_lr"].present:
            if not (math.isfinite(FLAGS.update_lr) and FLAGS.update_lr >= 0):
                raise ConfigError(
                    "--update_lr must not be negative. Received: "
                    f"--update_lr={FLAGS.update_lr}"
                )
            settings["alpha"] = FLAGS.update_lr
    return settings


def main(argv: list[str]) -> None:
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    console = Console()
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments: {' '.join(argv[1:])}")
    try:
        run(console)
    except ExperimentError as e:
        sys.exit(f"error: {e}")
    except OSError as e:
        sys.exit(f"error: {e}")
    except KeyboardInterrupt:
        print(
            "\nInterrupted. The same command, without --resume=False, goes on "
            "from the last checkpoint.",
            file=sys.stderr,
        )
        sys.exit(130)


def run(console: Console) -> None:
    """Trains and evaluates what the flags ask for."""
    logdir = pathlib.Path(FLAGS.logdir)
    config = config_from_flags()
    settings = evaluation_settings()
    if not FLAGS.train:
        path = pathlib.Path(FLAGS.run_dir or logdir / config.run_name)
        found = RunDirectory.open(path)
        networks = [evaluate_run(found, **settings)]
    else:
        configs = [config]
        if FLAGS.compare and config.method in ("maml", "first-order"):
            configs += baseline_configs(config)
        runs = [open_run(logdir, c, FLAGS.resume) for c in configs]
        found = runs[0]
        for r in runs:
            train_run(r, FLAGS.log, console)
        with console.status("evaluating"):
            networks = [evaluate_run(r, **settings) for r in runs]
            if len(networks) > 1:
                split = settings["split"]
                networks.append(evaluate_random(config, split))
    report(found.path, networks, console)
    console.print(f"Results and figures are in {found.path}", soft_wrap=True)


if __name__ == "__main__":
    start_tensorflow()
    app.run(main)
