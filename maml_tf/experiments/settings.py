"""What to evaluate."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What to evaluate; None stands for the standard evaluation.

    Attributes:
        split: `validation` or `test`.
        shots: numbers of support examples K.
        num_queries: query images per class; None takes K.
        alpha: the step size. None takes that of meta-training; searches it
            on the validation tasks for a network that was not meta-trained;
            and leaves the oracle, which knows the task, as it is.
        statistics: whose statistics normalize query sets, one or more of
            `prediction.STATISTICS`.
        iteration: the checkpoint; None takes the newest.
        best: the weights that did best in validation, instead.
        num_tasks: how many tasks; None takes those of the paper, 600, or 40
            goals.
    """

    split: str = "test"
    shots: Sequence[int] | None = None
    num_queries: int | None = None
    alpha: float | None = None
    statistics: Sequence[str] | None = None
    iteration: int | None = None
    best: bool = False
    num_tasks: int | None = None

    @property
    def tag(self) -> str:
        """Suffix of the names of files; empty for the standard evaluation."""
        parts = [] if self.split == "test" else [self.split]
        if self.shots is not None:
            parts.append("ubs" + "-".join(map(str, self.shots)))
        if self.num_queries is not None:
            parts.append(self._queries)
        if self.alpha is not None:
            parts.append(f"stepsize{self.alpha}")
        if self.statistics is not None:
            parts.append("-".join(self.statistics))
        return "".join(f"_{part}" for part in parts) + self._weights_and_tasks

    @property
    def values_tag(self) -> str:
        """The same for files that name split, K, step and statistics."""
        queries = "" if self.num_queries is None else f"_{self._queries}"
        return queries + self._weights_and_tasks

    @property
    def _queries(self) -> str:
        return f"queries{self.num_queries}"

    @property
    def _weights_and_tasks(self) -> str:
        parts = []
        if self.iteration is not None:
            parts.append(f"iteration{self.iteration}")
        if self.best:
            parts.append("best")
        if self.num_tasks is not None:
            parts.append(f"tasks{self.num_tasks}")
        return "".join(f"_{part}" for part in parts)


STANDARD = EvaluationSettings()
