"""Settings of the reinforcement learning experiments (section 5.3).

Defaults are those of the runs behind the paper's figures, as the original's
scripts record them. The paper's text differs in places; docs/rl.md has both.
"""

import dataclasses
import math
from typing import Any, ClassVar

from maml_tf.errors import ConfigError
from maml_tf.rl.environments.registry import environment_spec
from maml_tf.training.config import TrainingConfig

OUTER_STEPS = ("trpo", "vpg")
CURVATURES = ("exact", "finite_differences")

# Rollouts of one iteration of joint training, each with a goal of its own.
JOINT_ROLLOUTS = 100


@dataclasses.dataclass(frozen=True)
class RLConfig(TrainingConfig):
    """Meta-reinforcement learning; `for_environment` has the paper's values.

    Raises:
        ConfigError: at construction, if a value is invalid.
    """

    pretrain_iterations: int = 0
    metatrain_iterations: int = 500
    # Goals of an iteration.
    meta_batch_size: int = 40
    # K, rollouts of each goal before and after each update.
    num_shots: int = 20
    alpha: float = 0.1
    num_steps: int = 1
    norm: str | None = None
    # Name of the environment.
    datasource: str = "point"
    # `oracle` shows the goal to the policy; else None.
    baseline: str | None = None
    # Steps of the longest episode.
    horizon: int = 200
    # `trpo`, or `vpg`: the gradient of the outer objective by Adam.
    outer_step: str = "trpo"
    # Bound of the mean KL divergence of an outer step by TRPO.
    max_kl: float = 0.01
    # How products with the curvature of the KL divergence are computed.
    curvature: str = "exact"
    # Every n-th time step enters the curvature.
    curvature_stride: int = 1

    MINIMA: ClassVar[dict[str, int]] = {
        **TrainingConfig.MINIMA,
        "horizon": 1,
        "curvature_stride": 1,
    }

    @classmethod
    def for_environment(cls, datasource: str, **given: Any) -> "RLConfig":
        """The settings of an environment, except for those given.

        Raises:
            ConfigError: if there is no such environment, or a value is
                invalid.
        """
        settings = dict(environment_spec(datasource).settings)
        joint = given.get("metatrain_iterations") == 0
        if joint:
            settings |= {"meta_batch_size": JOINT_ROLLOUTS, "num_shots": 1}
        return cls(datasource=datasource, **(settings | given))

    def __post_init__(self):
        super().__post_init__()
        environment_spec(self.datasource)
        for name, choices in (
            ("outer_step", OUTER_STEPS),
            ("curvature", CURVATURES),
            ("norm", (None,)),
            ("method", ("maml",)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(
                    f"{name} must be one of {choices}. Received: "
                    f"{name}={value!r}",
                    name,
                )
        if not (math.isfinite(self.max_kl) and self.max_kl > 0):
            raise ConfigError(
                "max_kl must be a positive number. Received: "
                f"max_kl={self.max_kl}",
                "max_kl",
            )
        if self.curvature != "exact" and self.curvature_stride > 1:
            raise ConfigError(
                "curvature_stride needs curvature=exact. Received: "
                f"curvature={self.curvature}",
                "curvature",
                "curvature_stride",
            )

    @property
    def identity(self) -> dict[str, Any]:
        unused = {"norm"} | (
            {"beta"}
            if self.outer_step == "trpo"
            else {"max_kl", "curvature", "curvature_stride"}
        )
        fields = super().identity.items()
        return {name: value for name, value in fields if name not in unused}

    @property
    def run_name(self) -> str:
        """Name of the run's directory: everything that training depends on."""
        parts = [
            self.datasource,
            self.label,
            f"mbs_{self.meta_batch_size}",
            f"fbs_{self.num_shots}",
            f"horizon_{self.horizon}",
        ]
        if self.metatrain_iterations:
            parts += [f"numstep{self.num_steps}", f"flr_{self.alpha}"]
        if self.outer_step == "trpo":
            parts.append(f"trpo_{self.max_kl}")
            if self.curvature != "exact":
                parts.append(self.curvature)
            if self.curvature_stride > 1:
                parts.append(f"stride_{self.curvature_stride}")
        else:
            parts.append(f"vpg_{self.beta}")
        return ".".join([*parts, f"seed_{self.seed}"])


def joint_iterations(config: RLConfig) -> int:
    """Iterations of the pretrained and the oracle policy beside a run.

    As many as in the original where the run has the paper's length, else in
    proportion.
    """
    meta = RLConfig.for_environment(config.datasource).metatrain_iterations
    joint = environment_spec(config.datasource).joint_iterations
    return math.ceil(joint * config.metatrain_iterations / meta)
