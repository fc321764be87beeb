"""The results of an evaluation, and their files."""

import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from maml_tf.experiments.evaluation import Evaluation, Published
from maml_tf.experiments.experiment import Experiment
from maml_tf.experiments.settings import EvaluationSettings
from maml_tf.files import write_atomically
from maml_tf.learner.scores import Summary
from maml_tf.provenance import code

ExperimentT = TypeVar("ExperimentT", bound=Experiment, covariant=True)

# The set that the statistics of an evaluation are computed on.
NORM_BY: dict[str | None, str] = {
    "transductive": "query",
    "support": "support",
    "appended": "support + 1",
    "joint": "jointly",
    "population": "population",
}


@dataclasses.dataclass(frozen=True)
class Results(Generic[ExperimentT]):
    """The results of evaluating one network.

    Attributes:
        label: `maml`, `pretrained`, `oracle`, `random`, ...
        experiment: its network, holding the evaluated weights.
        iteration: iterations that it was trained for.
        evaluations: one for each number of shots.
        settings: the evaluation's settings.
        trained_by: what ran in each stretch of training
            (`RunDirectory.stretches`).
        published: the paper's numbers for such a network, by K and number of
            updates.
    """

    label: str
    experiment: ExperimentT
    iteration: int
    evaluations: list[Evaluation]
    settings: EvaluationSettings
    trained_by: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    published: Mapping[int, Mapping[int, Published]] = dataclasses.field(
        default_factory=dict
    )

    @property
    def split(self) -> str:
        """`validation` or `test`."""
        return self.settings.split

    @property
    def shots(self) -> list[int]:
        """The evaluated numbers of shots K."""
        return list(dict.fromkeys(e.num_shots for e in self.evaluations))

    @property
    def complete(self) -> bool:
        return self.iteration == self.experiment.config.num_iterations

    @property
    def num_tasks(self) -> int:
        return len(self.evaluations[0].values)

    def at(self, num_shots: int, statistics: str | None = None) -> Evaluation:
        """The evaluation with K shots (and of these statistics, if given)."""
        return next(
            e
            for e in self.evaluations
            if e.num_shots == num_shots and statistics in (None, e.statistics)
        )


def write_results(directory: pathlib.Path, results: Results) -> None:
    """Writes results.json, and for each evaluation a CSV like the original's.

    The CSV has the columns update0, update1, ... and the rows mean, standard
    deviation and confidence interval; update0 is the query set before
    adaptation. The values of every task are in an .npy file beside it.
    """
    for evaluation in results.evaluations:
        stem = f"{results.split}_ubs{evaluation.num_shots}"
        if evaluation.alpha is not None:
            stem += f"_stepsize{evaluation.alpha}"
        if evaluation.statistics not in (None, "transductive"):
            stem += f"_{evaluation.statistics}"
        stem += results.settings.values_tag
        summaries = evaluation.summaries
        rows = [
            [f"update{s.update}" for s in summaries],
            [str(s.mean) for s in summaries],
            [str(s.sd) for s in summaries],
            [str(s.ci95) for s in summaries],
        ]
        write_atomically(
            directory / f"{stem}.csv",
            "".join(",".join(row) + "\n" for row in rows),
        )
        content = io.BytesIO()
        np.save(content, evaluation.values)
        write_atomically(directory / f"{stem}.npy", content.getvalue())
    write_atomically(
        directory / f"results{results.settings.tag}.json",
        json.dumps(as_json(results), indent=2),
    )


def as_json(results: Results) -> dict[str, Any]:
    """Results without the values of single tasks; None if not finite."""

    def numbers(summary: Summary) -> dict[str, Any]:
        return {
            name: value if np.isfinite(value) else None
            for name, value in dataclasses.asdict(summary).items()
        }

    metric = results.experiment.reports
    return {
        "name": results.label,
        "iteration": results.iteration,
        "complete": results.complete,
        "split": results.split,
        "num_tasks": results.num_tasks,
        "metric": (
            f"{metric.name} {metric.measured_on}, update 0 included; mean, "
            "ci95 and sd over tasks that did not diverge"
        ),
        "diverged_above": (
            metric.largest if np.isfinite(metric.largest) else None
        ),
        "evaluations": [
            {
                "num_shots": e.num_shots,
                "num_queries": e.num_queries,
                "alpha": e.alpha,
                "alpha_searched": e.alpha_searched,
                "batch_norm_statistics": e.statistics,
                "updates": [numbers(s) for s in e.summaries],
                **e.counts,
            }
            for e in results.evaluations
        ],
        "config": dataclasses.asdict(results.experiment.config),
        "trained_by": results.trained_by,
        "evaluated_by": code(),
    }
