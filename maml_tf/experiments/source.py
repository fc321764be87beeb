"""The interface of the command line's data sources."""

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

    To add one, write a file with a subclass, and a line in registry.py.

    Attributes:
        name: its name on the command line.
        words: the name of its kind in messages.
        config_class: the settings of its experiments.
        evaluation_options: the fields of `EvaluationSettings` that it has
            beyond those that all have.
        without: fields of `config_class` that cannot be set here.
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
        """The paper's settings, except for those given.

        Raises:
            ConfigError: if a value is invalid.
        """

    @abc.abstractmethod
    def build(self, config: Any, data_dir: pathlib.Path) -> Experiment:
        """Builds the experiment that the settings describe.

        Args:
            config: the settings, of `config_class`.
            data_dir: directory of the packed data sets.

        Raises:
            DataError: if the data set is missing, damaged or too small.
            ConfigError: if a package that is needed is not installed.
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
            label: as `TrainingConfig.label`, or another name of the network.
            config: the settings that it was trained with.
            num_shots: K of the evaluation.
        """
        del label, config, num_shots
        return {}
