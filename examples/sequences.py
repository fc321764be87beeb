"""A recurrent network on sequences.

    python -m examples.sequences

Each task is a sensor with a gain and a lag of its own. From the true values of
the last eight seconds the network predicts what the sensor shows, after
adapting to ten such readings. With unroll=True all tasks are computed at once.
Prints a table.
"""

import keras
import numpy as np

import maml_tf

WINDOW = 8


def sensor(seed):
    """Support and query readings of a sensor: [10, WINDOW, 1] and [10, 1]."""
    rng = np.random.default_rng(seed)
    gain, lag = rng.uniform(-2, 2), rng.uniform(0.3, 3)
    weights = np.exp(-np.arange(WINDOW)[::-1] / lag)
    x = rng.standard_normal((20, WINDOW))
    y = gain * (x @ weights) / weights.sum()
    x, y = x[..., None], y[:, None]
    return (x[:10], y[:10]), (x[10:], y[10:])


def network(units=16):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((WINDOW, 1)),
            keras.layers.SimpleRNN(units, unroll=True),
            keras.layers.Dense(1),
        ]
    )


def main(iterations=3000, num_tasks=600, units=16):
    learner = maml_tf.Learner(network(units), "mse", 0.05, metrics=["mae"])
    learner.fit(maml_tf.tasks_from_function(sensor), iterations)
    test = maml_tf.tasks_from_function(sensor, split="test")
    scores = learner.evaluate(test, num_tasks, num_steps=3)
    print(scores)
    return scores


if __name__ == "__main__":
    maml_tf.start_tensorflow()
    main()
