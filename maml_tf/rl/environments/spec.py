"""Descriptions of environments, as the experiments need them."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from maml_tf.errors import ConfigError
from maml_tf.rl.environments.base import Environment
from maml_tf.rl.environments.recording import Episode

# A mean return, and the half width of its 95 % interval where there is one.
PublishedReturn = tuple[float, float | None]


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """A policy for a figure to show.

    Attributes:
        label: the name of the policy in figures.
        color: the color of the policy in figures.
        environment: the policy's environment.
        episodes: (goals [n, task_dim], number of updates) -> the episodes of
            each goal, after 0, 1, ... updates. A policy that does not adapt
            yields those after 0 updates only.
    """

    label: str
    color: str
    environment: Environment
    episodes: Callable[[np.ndarray, int], Iterable[list[list[Episode]]]]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EnvironmentSpec:
    """One environment.

    Attributes:
        name: its name, as in `RLConfig.datasource`.
        make: builds the environment. Import heavy packages in here.
        joint_iterations: iterations of the pretrained and the oracle policy
            beside a meta-training of full length.
        settings: fields of `RLConfig` that differ from its defaults.
        evaluation_rollouts: rollouts of a goal before and after each update
            in evaluation.
        evaluation_updates: number of updates in evaluation.
        published: the published returns after 0, 1, ... updates, by method.
        draw: writes figures of a policy to files whose paths start with a
            stem; None draws nothing.
        packages: Python packages that `make` and `draw` import and maml_tf
            does not require.
    """

    name: str
    make: Callable[[], Environment]
    joint_iterations: int
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluation_rollouts: int = 20
    evaluation_updates: int = 3
    published: Mapping[str, Sequence[PublishedReturn]] = dataclasses.field(
        default_factory=dict
    )
    draw: Callable[[pathlib.Path, Demonstration], None] | None = None
    packages: Sequence[str] = ()

    def build(self) -> Environment:
        """Builds the environment.

        Raises:
            ConfigError: if one of `packages` is not installed.
        """
        missing = [p for p in self.packages if not importlib.util.find_spec(p)]
        if missing:
            raise ConfigError(
                f"Expected the Python packages {', '.join(self.packages)}, "
                f"which the environment {self.name} needs. Not installed: "
                f"{', '.join(missing)}. Run `pip install {' '.join(missing)}`."
            )
        return self.make()
