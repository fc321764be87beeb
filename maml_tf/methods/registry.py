"""Methods by name."""

from collections.abc import Collection, Mapping
from dataclasses import Field, fields
from typing import Any

from maml_tf.errors import ConfigError
from maml_tf.methods.averages import ParameterAverages
from maml_tf.methods.classifier import FineTuning, NearestNeighbor
from maml_tf.methods.context import ContextVector
from maml_tf.methods.imaml import ImplicitMAML
from maml_tf.methods.joint import JointTraining
from maml_tf.methods.maml import MAML
from maml_tf.methods.matching import MatchingNetworks
from maml_tf.methods.meta_sgd import MetaSGD
from maml_tf.methods.method import Method
from maml_tf.methods.prototypical import PrototypicalNetworks
from maml_tf.methods.reptile import Reptile
from maml_tf.methods.siamese import SiameseNetworks

METHODS: dict[str, type[Method]] = {}


def register(method: type[Method]) -> type[Method]:
    """Registers a method under its name; returns it.

    Raises:
        ConfigError: if the name is taken.
    """
    if method.name in METHODS:
        raise ConfigError(
            f"There is a method {method.name} already. Choose another name."
        )
    METHODS[method.name] = method
    return method


def method_class(name: str) -> type[Method]:
    """The method with this name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in METHODS:
        raise ConfigError(
            f"method must be one of {', '.join(METHODS)}. Received: "
            f"method={name!r}"
        )
    return METHODS[name]


def make_method(name: str, settings: Mapping[str, Any]) -> Method:
    """A method with those of `settings` that it has.

    Raises:
        ConfigError: if there is no such method, or a value is invalid.
    """
    found = method_class(name)
    return found(
        **{k: v for k, v in settings.items() if k in setting_names(found)}
    )


def setting_names(method: type[Method]) -> set[str]:
    """Names of a method's settings."""
    return {field.name for field in fields(method) if field.init}


def own_settings(method: type[Method]) -> dict[str, Field]:
    """The settings that no experiment has but by this method, by name."""
    return {f.name: f for f in fields(method) if "about" in f.metadata}


def with_method_defaults(
    datasource: str,
    known: Collection[str],
    settings: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings of an experiment, with its method's defaults among them.

    Args:
        datasource: the data set, for `Method.defaults`.
        known: the settings that the experiment has; other defaults of the
            method are left out.
        settings: the defaults of the experiment; the method's go before.
        given: settings that were asked for; they go before all.

    Returns:
        Settings by name; the method's own are in `method_settings`.
    """
    merged = {**settings, **given}
    method = METHODS.get(merged.get("method", "maml"))
    if method is None or merged.get("metatrain_iterations") == 0:
        return merged  # the configuration refuses unknown methods
    defaults = dict(method.defaults(datasource, merged))
    own = {n: defaults.pop(n) for n in own_settings(method) if n in defaults}
    own |= given.get("method_settings", {})
    defaults = {name: x for name, x in defaults.items() if name in known}
    return {**settings, **defaults, **given, "method_settings": own}


for _method in (
    MAML,
    JointTraining,
    ParameterAverages,
    MetaSGD,
    ImplicitMAML,
    ContextVector,
    Reptile,
    PrototypicalNetworks,
    MatchingNetworks,
    SiameseNetworks,
    NearestNeighbor,
    FineTuning,
):
    register(_method)
