"""Moving statistics of batch normalization, taken from a pass over examples.

Training leaves them alone (`prediction.predict`): most methods normalize a set
by its own statistics.
"""

from collections.abc import Iterable
from typing import Any

import keras

from maml_tf.layers.normalization import all_layers, statistics_of_batch
from maml_tf.layers.randomness import generators_of


def take_statistics(model: keras.Model, batches: Iterable[Any]) -> None:
    """Assigns mean and variance of batches, averaged, as the moving ones.

    Frozen layers keep theirs.

    Args:
        model: its layers' moving statistics are assigned.
        batches: inputs of the model [examples, ...].
    """
    layers = [
        x
        for x in all_layers(model)
        if isinstance(x, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in layers]
    try:
        for i, inputs in enumerate(batches):
            for layer in layers:
                layer.momentum = i / (i + 1)
            # Random layers are off in evaluation, whose statistics these are.
            with statistics_of_batch():
                model(inputs, training=not generators_of(model))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
