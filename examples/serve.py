"""Serves an exported model: adapts once, predicts many times.

    python examples/serve.py DIRECTORY

Needs TensorFlow and NumPy, but neither maml_tf nor Keras. DIRECTORY was written
by `run_experiment.py --export_dir` or `Learner.export`. A support set of random
inputs stands in for the data of a new task; each further line of standard
output is one query, answered with the weights adapted to that set.
"""

import sys
import time

import numpy as np
import tensorflow as tf

NUM_SUPPORT, NUM_UPDATES, NUM_QUERIES = 5, 3, 5


class AdaptedModel:
    """A model adapted to a new task; many threads may call it."""

    def __init__(self, signatures, inputs, targets, num_updates):
        """
        Args:
            signatures: of the loaded SavedModel.
            inputs, targets: the support set.
            num_updates: inner updates.
        """
        support = {"support_inputs": inputs, "support_targets": targets}
        self._predict = signatures["predict_adapted"]
        self._kept = signatures["adapt"](
            num_updates=tf.constant(num_updates), **support
        )
        # Batch normalization may need to see the support set again.
        if "support_inputs" in self._predict.structured_input_signature[1]:
            self._kept["support_inputs"] = inputs

    def __call__(self, inputs):
        """Predictions for any number of inputs, by name."""
        answers = self._predict(query_inputs=inputs, **self._kept)
        return {name: value.numpy() for name, value in answers.items()}


def random_like(spec, count, rng):
    """`count` examples that a signature can take."""
    shape = (count, *spec.shape[1:])
    if spec.dtype.is_integer:
        return tf.constant(np.arange(count) % 2, spec.dtype)
    return tf.constant(rng.random(shape), spec.dtype)


def main(directory):
    try:
        signatures = tf.saved_model.load(directory).signatures
    except OSError:
        sys.exit(f"error: {directory} holds no SavedModel")
    if "adapt_and_predict" not in signatures:
        sys.exit(
            f"error: {directory} is not an exported network; its signatures "
            f"are {', '.join(signatures)}"
        )
    specs = signatures["adapt_and_predict"].structured_input_signature[1]
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    model = AdaptedModel(
        signatures,
        random_like(specs["support_inputs"], NUM_SUPPORT, rng),
        random_like(specs["support_targets"], NUM_SUPPORT, rng),
        NUM_UPDATES,
    )
    print(f"adapted in {1e3 * (time.perf_counter() - start):.0f} ms")
    for _ in range(NUM_QUERIES):
        query = random_like(specs["query_inputs"], 1, rng)
        start = time.perf_counter()
        answers = model(query)
        milliseconds = 1e3 * (time.perf_counter() - start)
        shown = ", ".join(
            f"{name} {np.round(value[0], 3)}" for name, value in answers.items()
        )
        print(f"{shown} in {milliseconds:.1f} ms")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: give one argument, the exported directory")
    main(sys.argv[1])
