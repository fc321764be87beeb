"""A network with a pretrained backbone, of which only the head adapts (ANIL).

    python -m examples.head_only

The backbone first learns to classify many classes, like networks that can be
downloaded. Then the whole network is meta-trained, but inner updates change
only the last layer ("Almost No Inner Loop", Raghu et al. 2020,
https://arxiv.org/abs/1909.09157). Prints the accuracy on new classes before
and after meta-training.
"""

import keras
import numpy as np

import maml_tf
from maml_tf.datasets.glyphs.images import glyphs


def images(split, num_classes):
    """Images in [0, 1] and their classes."""
    classes = glyphs().splits[split]
    counts = classes.counts[:num_classes]
    chosen = np.concatenate(
        [
            first + np.arange(count)
            for first, count in zip(classes.firsts, counts, strict=False)
        ]
    )
    y = np.repeat(np.arange(num_classes), counts)
    return classes.images[chosen] / np.float32(255), y


def pretrained_backbone(x, y, epochs, filters):
    """A convolutional network that has learned to classify the images."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input(x.shape[1:])]
    for _ in range(3):
        layers += [
            keras.layers.Conv2D(filters, 3, strides=2, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    backbone = keras.Sequential(
        [*layers, keras.layers.Flatten()], name="backbone"
    )
    whole = keras.Sequential([backbone, keras.layers.Dense(int(y.max()) + 1)])
    whole.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    whole.fit(x, y, 64, epochs, verbose=0)
    return backbone


def main(iterations=150, num_tasks=300, num_classes=150, epochs=8, filters=32):
    x, y = images("train", num_classes)
    train = maml_tf.tasks_from_arrays(x, y, 5, 1, 3)
    test = maml_tf.tasks_from_arrays(*images("test", num_classes // 2), 5, 1)
    model = keras.Sequential(
        [
            pretrained_backbone(x, y, epochs, filters),
            keras.layers.Dense(5, kernel_initializer="zeros", name="head"),
        ]
    )
    learner = maml_tf.Learner(
        model,
        "sparse_categorical_crossentropy",
        0.1,
        num_steps=3,
        adapts=lambda variable: "head" in variable.path,
        metrics=["accuracy"],
    )
    print(learner)
    print(learner.evaluate(test, num_tasks))
    learner.fit(train, iterations, meta_batch_size=4)
    scores = learner.evaluate(test, num_tasks)
    print(scores)
    return scores


if __name__ == "__main__":
    maml_tf.start_tensorflow()
    main()
