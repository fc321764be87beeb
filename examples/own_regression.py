"""Your own curves and your own network: forecasting how things cool down.

    python -m examples.own_regression

Each series is a cup of some size in some room, with a few noisy temperatures.
From five of them the network predicts the whole curve. Prints a table and
draws logs/own_regression.png.
"""

import pathlib

import keras
import matplotlib.figure
import numpy as np

import maml_tf


def cups(num=600, points=30):
    """Pairs of times and temperatures, [points, 1] each, scaled to about 1."""
    rng = np.random.default_rng(0)
    for _ in range(num):
        start, room = rng.uniform(1, 2), rng.uniform(-1, 0.5)
        time = rng.uniform(0, 3, (points, 1))
        warmth = room + (start - room) * np.exp(-rng.uniform(0.3, 3) * time)
        yield time, warmth + 0.03 * rng.standard_normal(warmth.shape)


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(32, "tanh"),
            keras.layers.Dense(32, "tanh"),
            keras.layers.Dense(1),
        ]
    )


def main(iterations=3000, num_tasks=600, directory=pathlib.Path("logs")):
    series = list(cups())
    train, test = (
        maml_tf.tasks_from_series(series, 5, 20, split=split)
        for split in ("train", "test")
    )
    learner = maml_tf.Learner(network(), "mse", 0.05, num_steps=3)
    learner.fit(train, iterations)
    scores = learner.evaluate(test, num_tasks)
    print(scores)
    draw(learner, test, directory)
    return scores


def draw(learner, tasks, directory):
    """Curves through the points of three cups that were never seen."""
    figure = matplotlib.figure.Figure((9, 3), layout="constrained")
    support, query = tasks.tasks(0, 3)
    time = np.linspace(0, 3, 100)[:, None]
    for i, axes in enumerate(figure.subplots(1, 3, sharey=True)):
        x, y = support.inputs[i], support.targets[i]
        for updates in (0, 3):
            curve = learner.adapt(x, y, updates).predict(time)
            axes.plot(time, curve, label=f"{updates} updates")
        axes.plot(query.inputs[i], query.targets[i], ".", label="its points")
        axes.plot(x, y, "o", label="what it was shown")
        axes.set_xlabel("time")
    axes.legend()
    directory.mkdir(exist_ok=True)
    figure.savefig(directory / "own_regression.png")


if __name__ == "__main__":
    maml_tf.start_tensorflow()
    main()
