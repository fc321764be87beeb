"""Model-Agnostic Meta-Learning in TensorFlow 2 and Keras 3.

The public names are those of `maml_tf.api`. They are imported on first use:
TensorFlow takes seconds to load, and commands that do not need it should not
wait. If Keras is loaded already, the layers are registered at once, so that
`keras.models.load_model` finds them.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from maml_tf.runtime import check_backend
from maml_tf.version import __version__ as __version__

if TYPE_CHECKING:
    from maml_tf.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name == "__all__" or not name.startswith("__"):
        api = importlib.import_module("maml_tf.api")
        if name == "__all__" or name in api.__all__:
            return getattr(api, name)
        if name in globals():  # a package that the import above has bound
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]


check_backend()
if "keras" in sys.modules:
    importlib.import_module("maml_tf.api")
