"""Times adaptation through a SavedModel against the training process.

    python -m benchmarks.export
    python -m benchmarks.export --run_dir=trained/omniglot_5way

One 5-way 1-shot Omniglot task, 3 updates, 5 query images: the network's own
functions compiled for just that task and number of updates, the SavedModel's
`adapt_and_predict`, and its `predict_adapted` with weights adapted before. All
are called in turn in one process, so that other load on the machine affects all
alike; inputs are NumPy arrays, outputs are read back. Weights do not change the
time; without --run_dir they are random.
"""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from maml_tf.core.batch import Batch
from maml_tf.core.losses import cross_entropy
from maml_tf.core.losses import cross_entropy_of_labels as by_labels
from maml_tf.core.maml import adapt
from maml_tf.core.prediction import predict
from maml_tf.export.saved_model import export_adaptation
from maml_tf.layers.normalization import which_adapt
from maml_tf.models import conv_net
from maml_tf.runtime import start_tensorflow
from maml_tf.training.checkpoints import Checkpoints

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "take the weights of this run")
flags.DEFINE_integer("calls", 200, "timed calls of each", 1)
flags.DEFINE_enum(
    "batch_norm_statistics",
    "transductive",
    ["transductive", "support"],
    "as in run_experiment.py",
)

IMAGE, WAYS, UPDATES, ALPHA = (28, 28, 1), 5, 3, 0.4
WARM_UP = 10


def in_training(model, by_support: bool) -> Callable:
    """The same with the engine, with sizes known when it is compiled."""
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    loss, adapts = cross_entropy(model, 1), which_adapt(model)

    @tf.function(autograph=False)
    def call(support_inputs, support_targets, query_inputs):
        support = Batch(support_inputs, tf.one_hot(support_targets, WAYS))
        adapted = adapt(
            loss, theta, [support] * UPDATES, ALPHA, adapts=adapts
        ).iterates[-1]
        reference = support_inputs if by_support else None
        return predict(model, adapted, query_inputs, reference=reference)

    return lambda task: call(**to_tensors(task)).numpy()


def to_tensors(task):
    return {name: tf.constant(value) for name, value in task.items()}


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.ERROR)
    start_tensorflow()
    model = conv_net(IMAGE, WAYS)
    if FLAGS.run_dir:
        directory = pathlib.Path(FLAGS.run_dir) / "checkpoints"
        variables = [v.value for v in model.variables]
        Checkpoints(directory, {"weights": variables}).restore_latest()
    rng = np.random.default_rng(0)
    task = {
        "support_inputs": rng.random((WAYS, *IMAGE), np.float32),
        "support_targets": np.arange(WAYS, dtype=np.int32),
        "query_inputs": rng.random((WAYS, *IMAGE), np.float32),
    }
    by_support = FLAGS.batch_norm_statistics == "support"
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "model"
        export = seconds(
            lambda: export_adaptation(
                path,
                model,
                by_labels(model, WAYS),
                ALPHA,
                kind="classification",
                adapts=which_adapt(model),
                statistics=FLAGS.batch_norm_statistics,
            )
        )
        files = [p for p in path.rglob("*") if p.is_file()]
        size = sum(p.stat().st_size for p in files)
        start = time.perf_counter()
        signatures = tf.saved_model.load(path).signatures
        load = time.perf_counter() - start
    report(task, signatures, in_training(model, by_support), by_support)
    print(f"{'export':20} {1e3 * export:8.0f} ms, {size / 1e6:.2f} MB")
    print(f"{'load':20} {1e3 * load:8.0f} ms")


def report(task, signatures, training: Callable, by_support: bool) -> None:
    support = {k: v for k, v in task.items() if k.startswith("support")}
    updates = {"num_updates": tf.constant(UPDATES)}
    first_adapt = time.perf_counter()
    weights = signatures["adapt"](**to_tensors(support), **updates)
    first_adapt = time.perf_counter() - first_adapt
    asked = {"query_inputs": task["query_inputs"]}
    if by_support:
        asked["support_inputs"] = task["support_inputs"]
    calls = {
        "training process": lambda: training(task),
        "adapt_and_predict": lambda: signatures["adapt_and_predict"](
            **to_tensors(task), **updates
        )["logits"].numpy(),
        "adapt": lambda: signatures["adapt"](**to_tensors(support), **updates),
        "predict_adapted": lambda: signatures["predict_adapted"](
            **to_tensors(asked), **weights
        )["logits"].numpy(),
    }
    answers, firsts = {}, {}
    for name, call in calls.items():
        start = time.perf_counter()
        answers[name] = call()
        firsts[name] = time.perf_counter() - start
    firsts["adapt"] = first_adapt
    difference = np.abs(
        answers["training process"] - answers["adapt_and_predict"]
    ).max()
    times = {name: [] for name in calls}
    for turn in range(WARM_UP + FLAGS.calls):
        for name, call in calls.items():
            taken = seconds(call)
            if turn >= WARM_UP:
                times[name].append(taken)
    medians = {name: statistics.median(t) for name, t in times.items()}
    for name, median in medians.items():
        ratio = median / medians["training process"]
        print(
            f"{name:20} {1e3 * median:8.2f} ms, ratio {ratio:.2f}, first call "
            f"{1e3 * firsts[name]:.0f} ms"
        )
    print(f"largest difference of logits: {difference:.1g}")


if __name__ == "__main__":
    app.run(main)
