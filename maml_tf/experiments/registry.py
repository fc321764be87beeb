"""The data sources by name."""

from maml_tf.errors import ConfigError
from maml_tf.experiments.image_sources import IMAGE_SOURCES, own_images
from maml_tf.experiments.policy_source import PolicySource
from maml_tf.experiments.sinusoid_source import SinusoidSource
from maml_tf.experiments.source import DataSource
from maml_tf.rl.environments.registry import ENVIRONMENTS

_sources: dict[str, DataSource] = {}


def register(source: DataSource) -> None:
    """Adds a data source.

    Raises:
        ConfigError: if its name is taken.
    """
    if source.name in datasources():
        raise ConfigError(
            f"There is a data source {source.name} already. Choose another "
            "name.",
        )
    _sources[source.name] = source


def datasources() -> dict[str, DataSource]:
    """All data sources by name, environments included."""
    policies = {spec.name: PolicySource(spec) for spec in ENVIRONMENTS.values()}
    return _sources | policies


def find_source(name: str) -> DataSource:
    """The data source of that name; an unknown one is a user's own images."""
    known = datasources()
    return known.get(name) or own_images(name, tuple(known))


for _source in (SinusoidSource(), *IMAGE_SOURCES):
    register(_source)
