"""The data sources by name."""

from maml_tf.experiments.image_sources import IMAGE_SOURCES, own_images
from maml_tf.experiments.sinusoids import SinusoidSource
from maml_tf.experiments.source import DataSource

DATASOURCES: dict[str, DataSource] = {}


def register(source: DataSource) -> None:
    """Makes a data source known by its name."""
    DATASOURCES[source.name] = source


def find_source(name: str) -> DataSource:
    """The data source of a name; an unknown one is a user's own images."""
    return DATASOURCES.get(name) or own_images(name, tuple(DATASOURCES))


for _source in (SinusoidSource(), *IMAGE_SOURCES):
    register(_source)
