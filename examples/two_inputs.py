"""A network with two inputs, and step sizes that are learned.

    python -m examples.two_inputs

Each task is a shop: how much it sells depends on the price and on the day of
the week, each shop in its own way. Inputs are a dictionary, like the model's.
Fits once with a fixed step size and once with learned ones (Meta-SGD), and
prints both tables.
"""

import keras
import numpy as np

import maml_tf


def shop(seed):
    """Twelve days to adapt to, twelve to forecast."""
    rng = np.random.default_rng(seed)
    slope, week = rng.uniform(-2, -0.5), rng.standard_normal(7)
    price = rng.uniform(-1, 1, (24, 1))
    day = np.eye(7)[rng.integers(7, size=24)]
    sales = slope * price + (0.5 * week @ day.T)[:, None] + 0.5 * price**2
    return tuple(
        ({"price": price[part], "day": day[part]}, sales[part])
        for part in (slice(12), slice(12, 24))
    )


def network():
    keras.utils.set_random_seed(0)
    price = keras.Input((1,), name="price")
    day = keras.Input((7,), name="day")
    x = keras.layers.Concatenate()(
        [keras.layers.Dense(16, "tanh")(price), keras.layers.Dense(16)(day)]
    )
    x = keras.layers.Dense(32, "tanh")(x)
    return keras.Model({"price": price, "day": day}, keras.layers.Dense(1)(x))


def main(iterations=2000, num_tasks=600):
    test = maml_tf.tasks_from_function(shop, split="test")
    for learn_alpha in (False, True):
        learner = maml_tf.Learner(
            network(), "mse", 0.05, num_steps=2, learn_alpha=learn_alpha
        )
        learner.fit(maml_tf.tasks_from_function(shop), iterations)
        scores = learner.evaluate(test, num_tasks)
        print("learned step sizes" if learn_alpha else "one step size")
        print(scores)
    return scores


if __name__ == "__main__":
    maml_tf.start_tensorflow()
    main()
