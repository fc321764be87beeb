"""Trains and evaluates the experiments of the paper.

    maml-tf                          (in a clone: python run_experiment.py)
    maml-tf --datasource=glyphs
    maml-tf --datasource=point

meta-learn sinusoid regression, the classification of characters from one
example, and 2D navigation; each ends with a table and figures. Flags have the
names and meanings of the original code's main.py; a flag that is not given
takes the value that the paper uses for the experiment. README.md lists both.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import app, flags, logging
from rich.console import Console

from maml_tf.cli.command import asks_for_help, print_help
from maml_tf.cli.flags import FLAGS, GROUPS
from maml_tf.cli.settings import (
    config_from_flags,
    evaluation_settings,
    in_flags,
    names_with_flags,
    original_network,
)
from maml_tf.errors import ExperimentError
from maml_tf.experiments.evaluate import (
    check_evaluation,
    evaluate_original,
    evaluate_random,
    evaluate_run,
)
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.report import report
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.experiments.settings import EvaluationSettings
from maml_tf.experiments.train import open_run, train_run
from maml_tf.experiments.trained_networks import of_original, of_run
from maml_tf.runtime import start_tensorflow
from maml_tf.training.config import TrainingConfig


def start(argv: Sequence[str]) -> None:
    """Runs the command line `argv`."""
    if asks_for_help(argv[1:]):
        print_help(__doc__, FLAGS, {name: name for name in GROUPS})
        sys.exit()
    # Before app.run, which starts devices and prints while it does.
    start_tensorflow(large_ops=_takes_large_ops(argv))
    app.run(main, list(argv))


def main(argv: list[str]) -> None:
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    console = Console()
    if len(argv) > 1:
        sys.exit(
            f"error: unexpected arguments: {' '.join(argv[1:])}. Write flags "
            "as --datasource=glyphs."
        )
    try:
        run(console)
    except ExperimentError as e:
        sys.exit(f"error: {in_flags(e)}")
    except OSError as e:
        sys.exit(f"error: {e}")
    except KeyboardInterrupt:
        print(
            "\nInterrupted. The same command, without --resume=False, resumes "
            "from the last checkpoint, or starts over if there is none yet.",
            file=sys.stderr,
        )
        sys.exit(130)


def run(console: Console) -> None:
    """Trains and evaluates what the flags ask for."""
    logdir = pathlib.Path(FLAGS.logdir)
    data_dir = pathlib.Path(FLAGS.data_dir)
    config = config_from_flags()
    settings = evaluation_settings()
    if FLAGS.export_dir is not None:
        export(config, settings, console)
        return
    original = original_network()
    if original is not None:
        name = f"original.{config.datasource}.{original.name}"
        directory = _results_directory(logdir / name)
        with console.status("evaluating"):
            networks = [
                evaluate_original(
                    original, config, directory, data_dir, settings
                )
            ]
    elif not FLAGS.train:
        found = find_run(config)
        directory = _results_directory(found.path)
        with console.status("evaluating"):
            networks = [evaluate_run(found, data_dir, settings, directory)]
    else:
        check_evaluation(config, data_dir, settings)
        configs = [config]
        if FLAGS.compare and config.is_plain:
            configs += find_source(config.datasource).baselines(config)
        runs = [open_run(logdir, c, data_dir, FLAGS.resume) for c in configs]
        directory = runs[0].path
        for r in runs:
            train_run(r, data_dir, FLAGS.log, console, names_with_flags())
        with console.status("evaluating"):
            networks = [
                evaluate_run(r, data_dir, settings, r.path) for r in runs
            ]
            if len(networks) > 1:
                networks.append(evaluate_random(config, settings))
    report(directory, networks, console)
    console.print(
        f"Results and figures are in {directory}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def find_run(config: TrainingConfig) -> RunDirectory:
    """The run to evaluate or export, found by its path or its settings."""
    return RunDirectory.open(
        pathlib.Path(FLAGS.run_dir)
        if FLAGS.run_dir
        else pathlib.Path(FLAGS.logdir) / config.run_name
    )


def _results_directory(default: pathlib.Path) -> pathlib.Path:
    """The directory of results: the one that a flag names, or the default."""
    return (
        default if FLAGS.output_dir is None else pathlib.Path(FLAGS.output_dir)
    )


def export(
    config: TrainingConfig, settings: EvaluationSettings, console: Console
) -> None:
    """Exports the network that the flags name, and says how to call it."""
    path, data_dir = FLAGS.export_dir, pathlib.Path(FLAGS.data_dir)
    with console.status("exporting"):
        original = original_network()
        if original is not None:
            network = of_original(original, config, None)
        else:
            network = of_run(
                find_run(config), data_dir, settings.iteration, settings.best
            )
        network.experiment.export(
            pathlib.Path(path),
            settings.alpha,
            settings.statistics[0] if settings.statistics else None,
        )
    call = network.experiment.example_call
    console.print(
        f"A SavedModel of iteration {network.iteration} is in {path}. Call "
        f'tf.saved_model.load("{path}").signatures{call}; docs/serving.md has '
        "the others.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _takes_large_ops(argv: Sequence[str]) -> bool:
    """Whether the data source that the command line names has large ops."""
    try:
        FLAGS(list(argv), known_only=True)
    except flags.Error:
        return False  # app.run says what is wrong
    return find_source(FLAGS.datasource).large_ops
