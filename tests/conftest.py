"""Starts TensorFlow as the command line does, and finds reference data."""

import os
import pathlib

import keras
import pytest

from maml_tf.runtime import start_tensorflow

start_tensorflow()

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(
    os.environ.get("MAML_TF_SHARED", REPOSITORY.parent / "shared")
)


@pytest.fixture
def float64():
    """Keras models built in the test compute in float64."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)
