"""Your own folder of images and your own network with batch normalization.

    python -m examples.own_images

A folder of drawn characters, made on the spot, stands in for yours. Keras'
BatchNormalization is replaced with the exact layer, and a log line says so.
Prints the accuracy on classes that training never saw, with the statistics of
the support set and of the query set.
"""

import pathlib
import tempfile

import keras
from PIL import Image

import maml_tf
from maml_tf.datasets.glyphs.images import glyphs


def write_images(folder, num_classes, each=20):
    """A folder for each class, with PNG files in it."""
    classes = glyphs().splits["train"]
    for c in range(num_classes):
        (folder / f"class{c:03}").mkdir(parents=True)
        for i in range(each):
            image = classes.images[classes.firsts[c] + i, ..., 0]
            Image.fromarray(image).save(folder / f"class{c:03}" / f"{i}.png")


def network(num_ways=5, filters=32):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((28, 28, 1))]
    for _ in range(3):
        layers += [
            keras.layers.Conv2D(filters, 3, strides=2, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    return keras.Sequential(
        [*layers, keras.layers.Flatten(), keras.layers.Dense(num_ways)]
    )


def main(iterations=400, num_tasks=300, num_classes=200, filters=32):
    with tempfile.TemporaryDirectory() as folder:
        write_images(pathlib.Path(folder), num_classes)
        train, test = (
            maml_tf.tasks_from_folder(
                folder, 5, 1, size=28, channels=1, split=split
            )
            for split in ("train", "test")
        )
    learner = maml_tf.Learner(
        network(filters=filters),
        "sparse_categorical_crossentropy",
        0.1,
        num_steps=2,
        metrics=["accuracy"],
    )
    learner.fit(train, iterations, meta_batch_size=8)
    for statistics in ("support", "transductive"):
        scores = learner.evaluate(test, num_tasks, statistics=statistics)
        print(scores)
    return scores


if __name__ == "__main__":
    maml_tf.start_tensorflow()
    main()
