"""Starts TensorFlow and the command line, and finds reference data."""

import io
import os
import pathlib
import subprocess
import sys

import pytest
from rich.console import Console

from maml_tf.cli import experiment, omniglot
from maml_tf.cli.flags import FLAGS
from maml_tf.cli.settings import config_from_flags
from maml_tf.experiments.train import open_run, train_run
from maml_tf.runtime import start_tensorflow

start_tensorflow()

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(
    os.environ.get("MAML_TF_SHARED", REPOSITORY.parent / "shared")
)


@pytest.fixture
def float64():
    """Keras models built in the test compute in float64."""
    import keras  # after maml_tf, which keeps TensorFlow's startup quiet

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def parse(*arguments, flags=FLAGS):
    """Sets the flags as if they were new; returns what is left over."""
    flags.unparse_flags()
    for name in flags:
        flags[name].unparse()
    return flags(["program", *arguments])


def command(*arguments):
    """Runs the command line in this process."""
    experiment.main(parse(*arguments))


def train(logdir, *arguments):
    """Trains as the command line does, and does not evaluate; the run's path.

    For data sets that need no files.
    """
    parse(*arguments)
    config, data_dir = config_from_flags(), pathlib.Path("nowhere")
    run = open_run(logdir, config, data_dir, resume=True)
    train_run(run, data_dir, False, Console(quiet=True), {})
    return run.path


def error_of(*arguments):
    """The one-line error that a command line ends with."""
    with pytest.raises(SystemExit) as stop:
        command(*arguments)
    text = str(stop.value)
    assert text.startswith("error: ")
    assert "\n" not in text
    return text


def start(*arguments):
    """Starts the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "run_experiment.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def prepare(module, *arguments):
    """Runs a command that prepares data in this process; returns its output."""
    parse(*arguments, flags=module.FLAGS)
    console = Console(file=io.StringIO(), width=200)
    module.main(console)
    return console.file.getvalue()


@pytest.fixture(scope="session")
def packed_omniglot(tmp_path_factory):
    """The real Omniglot: a directory of data sets, and the import's output."""
    source = SHARED / "data" / "omniglot"
    if not source.is_dir():
        pytest.skip("Omniglot is not available")
    packed = tmp_path_factory.mktemp("packed")
    output_dir = packed / "omniglot"
    said = prepare(omniglot, f"--source={source}", f"--output_dir={output_dir}")
    return packed, said
