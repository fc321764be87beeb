"""Keras callbacks in a training loop that is not Keras' own."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np


class KerasCallbacks:
    """Calls the hooks of `keras.callbacks.Callback`s.

    A batch is a call of the compiled meta-step, which may take many
    meta-steps; an epoch, the stretch between two validations. Logs are mean
    losses by name, and validation results as `val_<name>`. The callbacks' model
    is the network. While `attached`, its `optimizer` is the outer optimizer,
    and its `stop_training` ends the loop.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        iterations: int,
        steps_per_epoch: int,
    ):
        """
        Args:
            callbacks: the user's callbacks, if any.
            model: the network that is trained.
            optimizer: the outer optimizer.
            iterations: total number of iterations.
            steps_per_epoch: iterations per epoch.
        """
        self._model = model
        self._optimizer = optimizer
        self._steps_per_epoch = steps_per_epoch
        self._epoch = 0
        self._in_epoch = False
        self._list = keras.callbacks.CallbackList(
            list(callbacks),
            model=model,
            verbose=0,
            epochs=-(-iterations // steps_per_epoch),
            steps=steps_per_epoch,
        )

    @property
    def stopped(self) -> bool:
        """Whether a callback asked to stop training."""
        return bool(self._model.stop_training)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Sets the model's attributes that callbacks use; restores them."""
        missing = object()
        before = {
            name: getattr(self._model, name, missing)
            for name in ("optimizer", "stop_training")
        }
        self._model.optimizer = self._optimizer
        self._model.stop_training = False
        try:
            yield
        finally:
            for name, value in before.items():
                if value is missing:
                    delattr(self._model, name)
                else:
                    setattr(self._model, name, value)

    def begin(self, start: int) -> None:
        """Begins training; `start` meta-steps were taken earlier."""
        self._epoch = start // self._steps_per_epoch
        self._list.on_train_begin()

    def step(self, done: int, values: dict[str, np.ndarray]) -> None:
        """Reports a call of the meta-step; `done` were taken in all."""
        if not self._in_epoch:
            self._list.on_epoch_begin(self._epoch)
            self._in_epoch = True
        batch = (done - 1) % self._steps_per_epoch
        logs = {name: float(np.mean(x)) for name, x in values.items()}
        self._list.on_train_batch_begin(batch)
        self._list.on_train_batch_end(batch, logs)

    @contextlib.contextmanager
    def validating(self) -> Iterator[None]:
        """Around validation, for which callbacks may exchange the weights."""
        self._list.on_test_begin()
        try:
            yield
        finally:
            self._list.on_test_end()

    def end_epoch(
        self, means: dict[str, float], measured: dict[str, float]
    ) -> None:
        """Ends an epoch, given its mean losses and its validation results."""
        logs = means | {f"val_{name}": x for name, x in measured.items()}
        self._list.on_epoch_end(self._epoch, logs)
        self._in_epoch = False
        self._epoch += 1

    def end(self) -> None:
        """Ends training."""
        self._list.on_train_end()
