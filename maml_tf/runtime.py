"""How TensorFlow is started; this module alone must not need it to import."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_startup() -> Iterator[None]:
    """Holds back what TensorFlow's C++ side prints while it loads.

    It tells of missing GPU drivers on every machine without one and honours
    no setting in doing so. If the body fails, all of it is shown.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(stderr, 2)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def start_tensorflow() -> None:
    """Sets TensorFlow's threads for tasks in parallel; starts devices and XLA.

    One thread for each op and as many ops at once as there are cores: small
    ops of many tasks gain more from running side by side than from being
    split (benchmarks/). Must come before the first op.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count())
    warm_up = tf.function(
        lambda x: tf.gradients(tf.nn.relu(x), x), jit_compile=True
    )
    warm_up(tf.zeros([]))
