"""Random numbers of layers, as values: dropout, noise, augmentation.

Keras' layers draw from seed generators, whose state a call moves on. A loss is
a function, so here the state is given to each call: it follows from the layer's
own seed, the task and the number of the call in the task, which tells apart
updates and sets. The same numbers come in whatever order tasks are computed and
after a resume, and a call's gradient is differentiated with its numbers held.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.layers.normalization import all_layers

_RATES = ("rate", "dropout", "recurrent_dropout", "stddev")
_LARGEST = tf.int32.max


class Draws:
    """The random numbers of one task.

    Attributes:
        task: the number of the task, an integer scalar.
        calls: how often the model was called.
    """

    def __init__(self, task: int | tf.Tensor):
        self.task = task
        self.calls = 0

    def states(
        self, generators: list[keras.random.SeedGenerator]
    ) -> list[tuple[keras.Variable, tf.Tensor]]:
        """The state of each generator in the next call of the model."""
        call, self.calls = self.calls, self.calls + 1
        states = []
        for i, generator in enumerate(generators):
            # Layers of equal seeds draw different numbers, too.
            seed = _int32(generator.state.value) + [0, i]
            for part in (_int32(self.task), call):
                seed = tf.random.fold_in(seed, part)
            states.append(
                (generator.state, tf.cast(seed, generator.state.dtype))
            )
        return states


_draws: contextvars.ContextVar[Draws | None] = contextvars.ContextVar(
    "draws", default=None
)


@contextlib.contextmanager
def drawing_for(task: int | tf.Tensor) -> Iterator[None]:
    """Within it, random layers draw; outside of it they do nothing.

    Args:
        task: the number of the task that the model is called for.
    """
    token = _draws.set(Draws(task))
    try:
        yield
    finally:
        _draws.reset(token)


def current_draws() -> Draws | None:
    """The random numbers to use; None outside of `drawing_for`."""
    return _draws.get()


def generators_of(
    model: keras.Model,
) -> list[keras.random.SeedGenerator]:
    """The seed generators of layers that draw; none if all rates are 0."""
    return [
        generator
        for layer in all_layers(model)
        if _draws_numbers(layer)
        for generator in layer._seed_generators
    ]


def check_own_generators(
    model: keras.Model, scope: keras.StatelessScope
) -> None:
    """Checks that a call drew from no seed generator outside of the model.

    Args:
        model: what was called.
        scope: the scope in which it was.

    Raises:
        ConfigError: if it drew from Keras' global one.
    """
    own = {id(variable) for variable in model.variables}
    for key, value in scope.state_mapping.items():
        if key not in own and _is_seed(value):
            raise ConfigError(
                f"A layer of {model.name} draws random numbers without a seed "
                "generator of its own, so they would be the same in every "
                "call. Let it make one, self.seed_generator = "
                "keras.random.SeedGenerator(), and draw with "
                "seed=self.seed_generator."
            )


def _is_seed(value: tf.Tensor) -> bool:
    return value.shape == (2,) and value.dtype == tf.int64


def _draws_numbers(layer: keras.layers.Layer) -> bool:
    rates = [
        value
        for name in _RATES
        if isinstance(value := getattr(layer, name, None), int | float)
    ]
    return not rates or any(rates)


def _int32(x: int | tf.Tensor) -> tf.Tensor:
    x = tf.convert_to_tensor(x)
    return tf.cast(tf.math.floormod(x, tf.cast(_LARGEST, x.dtype)), tf.int32)
