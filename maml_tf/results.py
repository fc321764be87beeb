"""What evaluation found, and the files that say it."""

import dataclasses
import io
import json
import pathlib
from typing import Any

import numpy as np

from maml_tf.evaluation import NUM_TASKS, Summary, summarize
from maml_tf.experiment import Experiment
from maml_tf.files import write_atomically
from maml_tf.run_directory import versions

# Predicting 0 costs at most 25 on a sinusoid of amplitude 5.
DIVERGED_ABOVE = 100.0


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One network on the held-out tasks with K points each.

    Attributes:
        num_shots: K, points of the support set and of the query set.
        alpha: the step size.
        alpha_searched: whether it was searched on the validation tasks.
        losses: query losses, float32 [num_tasks, updates + 1].
    """

    num_shots: int
    alpha: float
    alpha_searched: bool
    losses: np.ndarray

    @property
    def summaries(self) -> list[Summary]:
        return summarize(self.losses, DIVERGED_ABOVE)


@dataclasses.dataclass(frozen=True)
class Results:
    """What evaluation found for one network.

    Attributes:
        name: `maml`, `pretrained`, `oracle`, `random`, ...
        experiment: its network, holding the evaluated weights.
        iteration: iterations that it was trained for.
        evaluations: one for each number of shots.
        split: `validation` or `test`.
        tag: what was asked for other than the standard evaluation; names of
            files end in it.
    """

    name: str
    experiment: Experiment
    iteration: int
    evaluations: list[Evaluation]
    split: str
    tag: str = ""

    @property
    def complete(self) -> bool:
        return self.iteration == self.experiment.config.num_iterations

    def at(self, num_shots: int) -> Evaluation:
        return next(e for e in self.evaluations if e.num_shots == num_shots)


def write_results(directory: pathlib.Path, results: Results) -> None:
    """Writes results.json, and for each evaluation a CSV like the original's.

    The CSV has the columns update0, update1, ... and the rows mean, standard
    deviation and confidence interval; update0 is the query set before
    adaptation. The losses of every task lie beside it as .npy.
    """
    for evaluation in results.evaluations:
        stem = (
            f"{results.split}_ubs{evaluation.num_shots}"
            f"_stepsize{evaluation.alpha}"
        )
        if "iteration" in results.tag:
            stem += f"_iteration{results.iteration}"
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
        np.save(content, evaluation.losses)
        write_atomically(directory / f"{stem}.npy", content.getvalue())
    write_atomically(
        directory / f"results{results.tag}.json",
        json.dumps(as_json(results), indent=2),
    )


def as_json(results: Results) -> dict[str, Any]:
    """Results without the losses of single tasks; None for what is infinite."""

    def numbers(summary: Summary) -> dict[str, Any]:
        return {
            name: value if np.isfinite(value) else None
            for name, value in dataclasses.asdict(summary).items()
        }

    return {
        "name": results.name,
        "iteration": results.iteration,
        "complete": results.complete,
        "split": results.split,
        "num_tasks": NUM_TASKS,
        "metric": (
            "mean squared error on the query set, update 0 included; mean, "
            "ci95 and sd over tasks at or below diverged_above"
        ),
        "diverged_above": DIVERGED_ABOVE,
        "evaluations": [
            {
                "num_shots": e.num_shots,
                "alpha": e.alpha,
                "alpha_searched": e.alpha_searched,
                "updates": [numbers(s) for s in e.summaries],
            }
            for e in results.evaluations
        ],
        "config": dataclasses.asdict(results.experiment.config),
        "versions": versions(),
    }
