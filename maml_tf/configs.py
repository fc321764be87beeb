"""Settings of an experiment, with the paper's values as defaults.

Names are the paper's; `run_experiment.py` maps the original's flags to them.
"""

import dataclasses
import math
from typing import Any

from maml_tf.errors import ConfigError

NORMS = ("batch_norm", "layer_norm", None)

# Fields that say how long to train: a run may be continued with larger ones.
ITERATIONS = ("pretrain_iterations", "metatrain_iterations")


@dataclasses.dataclass(frozen=True)
class SinusoidConfig:
    """Sinusoid regression: section 5.1 of the paper, 10-shot training.

    Raises:
        ConfigError: at construction, if a value makes no sense.
    """

    # `oracle` gives amplitude and phase as inputs; else None.
    baseline: str | None = None
    # Iterations of ordinary training on all tasks jointly, before MAML.
    pretrain_iterations: int = 0
    # Iterations of meta-training (70 000 in the original's README).
    metatrain_iterations: int = 70_000
    # Tasks in a meta-batch (README and code: 25).
    meta_batch_size: int = 25
    # Outer step size beta, of Adam (code: 0.001).
    beta: float = 0.001
    # K, points of the support set and of the query set in training.
    num_shots: int = 10
    # Inner step size (paper: 0.01; the original's README command leaves its
    # flag at 0.001).
    alpha: float = 0.01
    # Inner updates in training (paper: 1).
    num_steps: int = 1
    # Normalization of the hidden layers (README: None).
    norm: str | None = None
    # Leave out second derivatives.
    first_order: bool = False
    # Of initial weights and training tasks.
    seed: int = 0

    def __post_init__(self):
        for name, minimum in (
            ("pretrain_iterations", 0),
            ("metatrain_iterations", 0),
            ("meta_batch_size", 1),
            ("num_shots", 1),
            ("num_steps", 1),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if not minimum <= value < 2**31:
                raise ConfigError(
                    f"{name} must be at least {minimum} and below 2**31. "
                    f"Received: {name}={value}"
                )
        for name in ("beta", "alpha"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(
                    f"{name} must be a positive number. Received: "
                    f"{name}={value}"
                )
        if self.num_iterations == 0:
            raise ConfigError(
                "There is nothing to train: pretrain_iterations and "
                "metatrain_iterations are both 0."
            )
        if self.norm not in NORMS:
            raise ConfigError(
                f"norm must be one of {NORMS}. Received: norm={self.norm!r}"
            )
        if self.baseline not in (None, "oracle"):
            raise ConfigError(
                "baseline must be 'oracle' or None. Received: "
                f"baseline={self.baseline!r}"
            )
        if self.first_order and not self.metatrain_iterations:
            raise ConfigError(
                "first_order concerns meta-training, but "
                "metatrain_iterations is 0."
            )

    @property
    def num_iterations(self) -> int:
        return self.pretrain_iterations + self.metatrain_iterations

    @property
    def method(self) -> str:
        """What the run is: `maml`, `first-order`, `pretrained`, `oracle`."""
        trained = "pretrained"
        if self.metatrain_iterations:
            trained = "first-order" if self.first_order else "maml"
            if self.pretrain_iterations:
                trained += f".pretrained_{self.pretrain_iterations}"
        if self.baseline == "oracle":
            return "oracle" if trained == "pretrained" else f"oracle.{trained}"
        return trained

    @property
    def identity(self) -> dict[str, Any]:
        """What training depends on, but for its length."""
        unused = set(ITERATIONS)
        if not self.metatrain_iterations:
            unused |= {"alpha", "num_steps"}
        fields = dataclasses.asdict(self).items()
        return {name: value for name, value in fields if name not in unused}

    @property
    def run_name(self) -> str:
        """Name of the run's directory: whatever training depends on.

        Two runs that differ in anything but the number of iterations have
        different names. The parts that the original has are spelled its way.
        """
        parts = [
            "sinusoid",
            self.method,
            f"mbs_{self.meta_batch_size}",
            f"ubs_{self.num_shots}",
        ]
        if self.metatrain_iterations:
            parts += [f"numstep{self.num_steps}", f"updatelr{self.alpha}"]
        parts += [
            f"metalr{self.beta}",
            {None: "nonorm", "batch_norm": "batchnorm"}.get(
                self.norm, "layernorm"
            ),
            f"seed_{self.seed}",
        ]
        return ".".join(parts)
