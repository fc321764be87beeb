"""All environments by name."""

import types
from collections.abc import Mapping

from maml_tf.errors import ConfigError
from maml_tf.rl.environments import locomotion, point
from maml_tf.rl.environments.spec import EnvironmentSpec

_specs: dict[str, EnvironmentSpec] = {}

# A live view: it includes environments registered later.
ENVIRONMENTS: Mapping[str, EnvironmentSpec] = types.MappingProxyType(_specs)


def register(spec: EnvironmentSpec) -> None:
    """Adds an environment.

    Raises:
        ConfigError: if its name is taken or not an identifier.
    """
    if not spec.name.isidentifier():
        raise ConfigError(
            "Expected a name of letters, digits and underscores that does not "
            f"start with a digit. Received: {spec.name!r}."
        )
    if spec.name in _specs:
        raise ConfigError(
            f"There is an environment {spec.name} already. Choose another name."
        )
    _specs[spec.name] = spec


def environment_spec(name: str) -> EnvironmentSpec:
    """The environment of that name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in _specs:
        raise ConfigError(
            f"Expected an environment: one of {', '.join(_specs)}. "
            f"Received: {name!r}. Add your own with "
            "maml_tf.rl.environments.registry.register."
        )
    return _specs[name]


for _spec in (*point.SPECS, *locomotion.SPECS):
    register(_spec)
