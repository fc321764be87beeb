"""The interface of reports on one kind of experiment."""

import abc
import pathlib
from collections.abc import Sequence
from typing import ClassVar

from maml_tf.experiments.results import Results


class Reporter(abc.ABC):
    """Title, columns, notes and figures of a report.

    Attributes:
        learns: what is trained: `network` or `policy`.
        chosen_in: where the best weights did best.
    """

    learns: ClassVar[str] = "network"
    chosen_in: ClassVar[str] = "validation"

    @abc.abstractmethod
    def title(self, results: Results) -> str:
        """The title of the table."""

    @abc.abstractmethod
    def updates_in_table(self, results: Results) -> Sequence[int]:
        """The numbers of updates that the table shows."""

    def notes(self, networks: Sequence[Results]) -> list[str]:
        """How the numbers of the table were measured."""
        results = networks[0]
        metric = results.experiment.reports
        return [
            f"{metric.name.capitalize()}{metric.unit} on the query sets of "
            f"{results.num_tasks} {results.split} tasks, ± 95 % interval; 0 "
            "updates is the query set, too."
        ]

    @abc.abstractmethod
    def draw(
        self, directory: pathlib.Path, name: str, networks: Sequence[Results]
    ) -> None:
        """Draws the figures.

        Args:
            directory: takes the files; the run directory of the first network.
            name: prefix of their names.
            networks: in the order of the table.
        """
