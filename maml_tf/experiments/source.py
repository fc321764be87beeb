"""What a data source of the command line knows."""

import abc
import dataclasses
import pathlib
from typing import Any, ClassVar

from maml_tf.experiments.evaluation import Published
from maml_tf.experiments.experiment import Experiment
from maml_tf.experiments.reporter import Reporter
from maml_tf.training.config import TrainingConfig


class DataSource(abc.ABC):
    """Where an experiment's tasks come from, and the paper's settings for it.

    A new one is a file with one of these, and a line in registry.py.

    Attributes:
        name: what the command line calls it.
        words: what its kind is called, in messages.
        config_class: the settings that its experiments have.
        evaluation_options: the fields of `EvaluationSettings` that it has
            beyond those of all.
        without: fields of `config_class` that have no choice here.
        reporter: reports on its experiments.
        large_ops: whether TensorFlow should split operations over the cores.
    """

    name: str
    words: ClassVar[str]
    config_class: ClassVar[type[TrainingConfig]]
    evaluation_options: ClassVar[frozenset[str]]
    reporter: ClassVar[Reporter]
    without: ClassVar[frozenset[str]] = frozenset()
    large_ops: ClassVar[bool] = False

    @property
    def fields(self) -> set[str]:
        """The settings that can be given."""
        names = {field.name for field in dataclasses.fields(self.config_class)}
        return names - self.without

    @abc.abstractmethod
    def configure(self, **given: Any) -> TrainingConfig:
        """The paper's settings, but for what is given.

        Raises:
            ConfigError: if a value makes no sense.
        """

    @abc.abstractmethod
    def build(self, config: Any, data_dir: pathlib.Path) -> Experiment:
        """Builds what settings describe.

        Args:
            config: the settings, of `config_class`.
            data_dir: where packed data sets lie.

        Raises:
            DataError: if the data set is missing, damaged or too small.
            ConfigError: if something is needed that is not installed.
        """

    def baselines(self, config: Any) -> list[TrainingConfig]:
        """Settings of what the paper compares such a run with."""
        del config
        return []

    def published(
        self, label: str, config: Any, num_shots: int
    ) -> dict[int, Published]:
        """What the paper reports, by number of updates.

        Args:
            label: as `TrainingConfig.label`, or what the network is called.
            config: the settings that it was trained by.
            num_shots: K of the evaluation.
        """
        del label, config, num_shots
        return {}
