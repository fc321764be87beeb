"""A data set of images as a data source of the command line."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from maml_tf.datasets.class_splits import SPLITS
from maml_tf.datasets.packed_images import ImageClasses, PackedImages
from maml_tf.errors import ConfigError
from maml_tf.experiments.evaluation import Published
from maml_tf.experiments.images import ImageConfig, ImageExperiment
from maml_tf.experiments.reporter import Reporter
from maml_tf.experiments.results import Results
from maml_tf.experiments.source import DataSource
from maml_tf.methods.registry import with_method_defaults


class ImageReporter(Reporter):
    """Accuracy by updates, the course of training, and an episode."""

    def title(self, results: Results) -> str:
        config = results.experiment.config
        return f"{config.datasource}, {config.num_ways}-way classification"

    def updates_in_table(self, results: Results) -> Sequence[int]:
        shown = [0, 1, 3, 5, 10]
        last = results.evaluations[0].values.shape[1] - 1
        return shown if last <= shown[-1] else [*shown, last]

    def draw(
        self, directory: pathlib.Path, name: str, networks: Sequence[Results]
    ) -> None:
        # Matplotlib takes long to import.
        from maml_tf.experiments.figures.drawing import plot_metric_by_updates
        from maml_tf.experiments.figures.images import (
            plot_episode,
            plot_training,
        )

        plot_metric_by_updates(
            directory / f"{name}_accuracy_by_updates.png", networks
        )
        if (directory / "validation.csv").exists():
            plot_training(
                directory / f"{name}_training.png", directory, networks[0]
            )
        for num_shots in networks[0].shots:
            plot_episode(
                directory / f"{name}_episode_K{num_shots}.png",
                networks[0],
                num_shots,
            )


@dataclasses.dataclass(frozen=True)
class ImageSource(DataSource):
    """A data set of images.

    Attributes:
        name: name of the data source.
        open: opens the data set, given the directory of packed data sets.
        settings: the fields of `ImageConfig` in which the paper's experiment
            differs from Omniglot's, 5-way.
        many_ways: the same for more than five ways.
        letters: whether a rotated image shows another character.
        like: the data set whose settings methods take for it; None: its own.
        accuracies: table 1 of the paper (arXiv 1703.03400v3) in %, with the
            half width of its interval, by network and N-way K-shot.
        published_updates: after how many updates the paper evaluates
            (appendix A.1), by N.
    """

    name: str
    open: Callable[[pathlib.Path], PackedImages]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    many_ways: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    letters: bool = False
    like: str | None = None
    accuracies: Mapping[tuple[str, int, int], tuple[float, float]] = (
        dataclasses.field(default_factory=dict)
    )
    published_updates: Callable[[int], int] = lambda num_ways: 10

    words = "images"
    config_class = ImageConfig
    reporter = ImageReporter()
    evaluation_options = frozenset(
        {"split", "num_queries", "statistics", "best"}
    )

    def configure(self, **given: Any) -> ImageConfig:
        settings = dict(self.settings)
        if not given.get("conv", True) and "num_filters" in given:
            raise ConfigError(
                "num_filters is for convolutional networks; leave it out, "
                "or set conv.",
                "num_filters",
                "conv",
            )
        if given.get("num_ways", ImageConfig.num_ways) > 5:
            settings |= self.many_ways
        settings = with_method_defaults(
            self.like or self.name, self.fields, settings, given
        )
        if not settings.get("conv", True) and "max_pool" not in given:
            settings.pop("max_pool", None)
        return ImageConfig(datasource=self.name, **settings)

    def build(
        self, config: ImageConfig, data_dir: pathlib.Path
    ) -> ImageExperiment:
        return ImageExperiment(config, self.open(data_dir), self.letters)

    def build_without_images(
        self, config: ImageConfig, image_shape: tuple[int, int, int]
    ) -> ImageExperiment:
        """The same without the data set: it has a network, but no tasks."""
        none = ImageClasses(
            np.empty((0, *image_shape), np.uint8),
            (),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
        )
        images = PackedImages(self.name, {}, dict.fromkeys(SPLITS, none))
        return ImageExperiment(config, images, self.letters)

    def published(
        self, label: str, config: ImageConfig, num_shots: int
    ) -> dict[int, Published]:
        if not config.conv:
            label += ", no conv"
        value = self.accuracies.get((label, config.num_ways, num_shots))
        if value is None:
            return {}
        mean, ci95 = value
        updates = self.published_updates(config.num_ways)
        return {updates: Published(mean / 100, ci95 / 100)}
