"""Starts TensorFlow; importing this module must not import TensorFlow."""

import contextlib
import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator

from maml_tf.errors import ConfigError

# Printed by TensorFlow's C++ code while it loads and compiles, whatever the
# settings: missing GPU drivers, instruction sets, XLA devices.
_STARTUP_NOISE = re.compile(
    rb"[IWE]\d{4} \d\d:\d\d:|WARNING: All log messages before absl|"
    rb"To enable the following instructions"
)


@contextlib.contextmanager
def quiet_startup() -> Iterator[None]:
    """Drops TensorFlow's startup messages from standard error.

    Other output is passed on at the end; if the body fails, TensorFlow's
    messages are, too.
    """
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # no standard error to silence
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if failed or not _STARTUP_NOISE.match(line):
                    os.write(2, line)


def start_tensorflow(large_ops: bool = False) -> None:
    """Sets TensorFlow's threads; starts devices and XLA.

    Runs as many ops at once as there are cores, each on one thread: small ops
    of many tasks gain more from running in parallel than from being split
    (benchmarks/). Call it before the first op.

    Args:
        large_ops: split each op over all cores, too. Policies run few ops, one
            after another, each on the samples of all tasks.

    Raises:
        ConfigError: if TensorFlow runs already, with other threads.
    """
    with quiet_startup():
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(
                os.cpu_count() if large_ops else 1
            )
            tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count())
        except RuntimeError as e:
            raise ConfigError(
                "start_tensorflow comes too late: TensorFlow has started, and "
                "its threads cannot change any more. Call it right after the "
                "imports, before any model or tensor is made, or leave it out: "
                "everything works without it, images more slowly."
            ) from e
        warm_up = tf.function(
            lambda x: tf.gradients(tf.nn.relu(x), x), jit_compile=True
        )
        warm_up(tf.zeros([]))


def check_backend() -> None:
    """Checks that Keras uses TensorFlow, without importing either.

    Raises:
        ImportError: if it uses, or would use, another backend.
    """
    if "keras" in sys.modules:
        backend = sys.modules["keras"].backend.backend()
    else:
        backend = os.environ.get("KERAS_BACKEND") or _configured_backend()
    if backend != "tensorflow":
        raise ImportError(
            f"maml_tf needs the TensorFlow backend of Keras, but Keras is set "
            f"to {backend}. Set KERAS_BACKEND=tensorflow in the environment, "
            'or "backend": "tensorflow" in ~/.keras/keras.json, and start '
            "Python again."
        )


def _configured_backend() -> str:
    """The backend in keras.json, where Keras looks for it."""
    home = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    try:
        return json.loads((home / "keras.json").read_text())["backend"]
    except (OSError, ValueError, KeyError):
        return "tensorflow"  # Keras' default, or Keras reports the error
