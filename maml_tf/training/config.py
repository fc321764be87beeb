"""Settings of every experiment, by the paper's names."""

import abc
import dataclasses
import math
from typing import Any, ClassVar

import keras

from maml_tf.errors import ConfigError
from maml_tf.methods.method import Method
from maml_tf.methods.registry import (
    METHODS,
    make_method,
    own_settings,
    setting_names,
)

NORMS = ("batch_norm", "layer_norm", None)
SCHEDULES = (None, "cosine")
LAST_BETA = 1e-5  # of MAML++

# Fields that say how long to train: a run can be resumed with larger ones.
ITERATIONS = ("pretrain_iterations", "metatrain_iterations")


@dataclasses.dataclass(frozen=True)
class TrainingConfig(abc.ABC):
    """The settings that every experiment is trained with.

    Raises:
        ConfigError: at construction, if a value is invalid.
    """

    # Iterations of ordinary training on all tasks jointly, before MAML.
    pretrain_iterations: int
    # Iterations of meta-training.
    metatrain_iterations: int
    # Tasks in a meta-batch.
    meta_batch_size: int
    # K, examples of the support set (of each class, in classification).
    num_shots: int
    # Inner step size.
    alpha: float
    # Inner updates in training.
    num_steps: int
    # Normalization of the hidden layers.
    norm: str | None
    # Outer step size beta, of Adam (code: 0.001 everywhere).
    beta: float = 0.001
    # Leave out second derivatives.
    first_order: bool = False
    # Seed of initial weights and training tasks.
    seed: int = 0
    # How beta changes in meta-training: `cosine` lowers it to beta_end by half
    # a cosine over metatrain_iterations; None keeps it.
    beta_schedule: str | None = None
    # Its last value; None takes 1e-5 for a schedule.
    beta_end: float | None = None
    # Name of the method of meta-training.
    method: str = "maml"
    # Settings of that method alone; those not given have its defaults.
    method_settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    MINIMA: ClassVar[dict[str, int]] = {
        "pretrain_iterations": 0,
        "metatrain_iterations": 0,
        "meta_batch_size": 1,
        "num_shots": 1,
        "num_steps": 1,
        "seed": 0,
    }

    def __post_init__(self):
        for name, minimum in self.MINIMA.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole and minimum <= value < 2**31):
                raise ConfigError(
                    f"{name} must be a whole number, at least {minimum} and "
                    f"below 2**31. Received: {name}={value!r}",
                    name,
                )
        for name in ("beta", "alpha"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(
                    f"{name} must be a positive number. Received: "
                    f"{name}={value}",
                    name,
                )
        if self.num_iterations == 0:
            raise ConfigError(
                "There is nothing to train: pretrain_iterations and "
                "metatrain_iterations are both 0.",
                *ITERATIONS,
            )
        for name, known in (
            ("baseline", (None, "oracle")),
            ("norm", NORMS),
            ("method", tuple(METHODS)),
            ("beta_schedule", SCHEDULES),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"{name} must be one of {known}. Received: "
                    f"{name}={value!r}",
                    name,
                )
        if self.pretrain_iterations and not METHODS[self.method].fixed_outputs:
            raise ConfigError(
                "pretrain_iterations needs a network whose outputs are the "
                f"predictions; those of method={self.method} are embeddings. "
                "Leave out one of them.",
                "pretrain_iterations",
                "method",
            )
        if self.first_order:
            if not self.metatrain_iterations:
                raise ConfigError(
                    "first_order concerns meta-training, but "
                    "metatrain_iterations is 0.",
                    "first_order",
                    "metatrain_iterations",
                )
            if "first_order" not in setting_names(METHODS[self.method]):
                raise ConfigError(
                    f"first_order does not go with method={self.method}, "
                    "which takes no second derivatives.",
                    "first_order",
                    "method",
                )
        self._check_method_settings()
        self._check_schedule()

    def _check_schedule(self) -> None:
        """Completes the schedule of beta, and checks it."""
        if self.beta_schedule is None:
            if self.beta_end is not None:
                raise ConfigError(
                    "beta_end is the last value of beta_schedule, but there is "
                    "none.",
                    "beta_end",
                    "beta_schedule",
                )
            return
        if not self.metatrain_iterations:
            raise ConfigError(
                "beta_schedule concerns meta-training, but "
                "metatrain_iterations is 0.",
                "beta_schedule",
                "metatrain_iterations",
            )
        if self.meta_method.outer_rate(self.beta) != self.beta:
            raise ConfigError(
                f"beta_schedule does not go with method={self.method}, which "
                "has a schedule of its own.",
                "beta_schedule",
                "method",
            )
        end = min(LAST_BETA, self.beta)
        if self.beta_end is not None:
            end = self.beta_end
        if not 0 <= end <= self.beta:
            raise ConfigError(
                "beta_end must be between 0 and beta. Received: "
                f"beta_end={end}, beta={self.beta}",
                "beta_end",
                "beta",
            )
        object.__setattr__(self, "beta_end", end)

    @property
    def changed(self) -> dict[str, Any]:
        """The settings of the method that are not its defaults."""
        own = own_settings(METHODS[self.method])
        return {
            name: value
            for name, value in self.method_settings.items()
            if value != own[name].default
        }

    def _check_method_settings(self) -> None:
        """Completes the settings of the method, and checks them."""
        own = own_settings(METHODS[self.method])
        for name in self.method_settings:
            if name not in own:
                raise ConfigError(
                    f"{name} does not go with method={self.method}. It has "
                    f"{', '.join(own) or 'no settings of its own'}.",
                    name,
                    "method",
                    *own,
                )
        complete = {name: field.default for name, field in own.items()}
        object.__setattr__(
            self, "method_settings", complete | self.method_settings
        )
        _ = self.meta_method  # checks its settings

    @property
    @abc.abstractmethod
    def datasource(self) -> str:
        """Name of the source of the tasks."""

    @property
    @abc.abstractmethod
    def run_name(self) -> str:
        """Name of the run's directory: everything that training depends on.

        Two runs that differ in anything but the number of iterations have
        different names.
        """

    @property
    def baseline(self) -> str | None:
        """`oracle` if the network is told its task; else None."""
        return None

    @property
    def num_iterations(self) -> int:
        return self.pretrain_iterations + self.metatrain_iterations

    @property
    def meta_method(self) -> Method:
        """The method of meta-training, with its settings."""
        settings = dataclasses.asdict(self) | self.method_settings
        return make_method(self.method, settings)

    @property
    def outer_rate(
        self,
    ) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """The outer optimizer's learning rate in meta-training."""
        if self.beta_schedule is None or self.beta_end is None:
            return self.meta_method.outer_rate(self.beta)
        return keras.optimizers.schedules.CosineDecay(
            self.beta, self.metatrain_iterations, self.beta_end / self.beta
        )

    @property
    def joint_method(self) -> Method:
        """Ordinary training on all tasks jointly."""
        return make_method("joint", dataclasses.asdict(self))

    @property
    def label(self) -> str:
        """The kind of training: `maml`, `first-order`, `pretrained`, ..."""
        oracle = self.baseline == "oracle"
        if not self.metatrain_iterations:
            return "oracle" if oracle else "pretrained"
        trained = self.method
        if self.first_order:
            trained = "first-order"
            if self.method != "maml":
                trained += f"-{self.method}"
        if self.pretrain_iterations:
            trained += f".pretrained_{self.pretrain_iterations}"
        return f"oracle.{trained}" if oracle else trained

    @property
    def is_plain(self) -> bool:
        """Whether it is meta-training alone, which baselines compare with."""
        return not self.pretrain_iterations and self.baseline is None

    @property
    def identity(self) -> dict[str, Any]:
        """What training depends on, except its length."""
        unused = {*ITERATIONS, *self._unused}
        if self.beta_schedule is not None:
            unused.remove("metatrain_iterations")
        fields = dataclasses.asdict(self).items()
        return {name: value for name, value in fields if name not in unused}

    @property
    def _unused(self) -> set[str]:
        """Settings of meta-training that have no effect."""
        settings = {"alpha", "num_steps"}
        if not self.metatrain_iterations:
            return {*settings, "method", "method_settings"}
        return settings - setting_names(METHODS[self.method])

    def _name_parts(self) -> list[str]:
        """Parts of a run's name, spelled as in the original."""
        parts = [
            self.label,
            f"mbs_{self.meta_batch_size}",
            f"ubs_{self.num_shots}",
        ]
        if "alpha" not in self._unused:
            parts += [f"numstep{self.num_steps}", f"updatelr{self.alpha}"]
        norms = {None: "nonorm", "batch_norm": "batchnorm"}
        if "method_settings" not in self._unused:
            parts += [f"{k}_{value}" for k, value in self.changed.items()]
        beta = f"metalr{self.beta}"
        if self.beta_schedule is not None:
            beta += f"_{self.beta_schedule}_{self.beta_end:g}"
            beta += f"_in_{self.metatrain_iterations}"
        return [
            *parts,
            beta,
            norms.get(self.norm, "layernorm"),
            f"seed_{self.seed}",
        ]
