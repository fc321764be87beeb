"""Settings of an experiment, with the paper's values as defaults.

Names are the paper's; `run_experiment.py` maps the original's flags to them.
"""

import dataclasses
import math
import re
from typing import Any, ClassVar

from maml_tf.errors import ConfigError

NORMS = ("batch_norm", "layer_norm", None)

# Fields that say how long to train: a run may be continued with larger ones.
ITERATIONS = ("pretrain_iterations", "metatrain_iterations")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What every experiment is trained by.

    Raises:
        ConfigError: at construction, if a value makes no sense.
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
    # Of initial weights and training tasks.
    seed: int = 0

    # `oracle` tells the network its task, where an experiment has that.
    baseline: ClassVar[str | None] = None

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
                    f"{name} must be at least {minimum} and below 2**31, and "
                    f"whole. Received: {name}={value!r}"
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
        if self.baseline not in (None, "oracle"):
            raise ConfigError(
                "baseline must be 'oracle' or None. Received: "
                f"baseline={self.baseline!r}"
            )
        if self.norm not in NORMS:
            raise ConfigError(
                f"norm must be one of {NORMS}. Received: norm={self.norm!r}"
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
        """What the run is: `maml`, `first-order`, `pretrained`, ..."""
        oracle = self.baseline == "oracle"
        if not self.metatrain_iterations:
            return "oracle" if oracle else "pretrained"
        trained = "first-order" if self.first_order else "maml"
        if self.pretrain_iterations:
            trained += f".pretrained_{self.pretrain_iterations}"
        return f"oracle.{trained}" if oracle else trained

    @property
    def identity(self) -> dict[str, Any]:
        """What training depends on, but for its length."""
        unused = set(ITERATIONS)
        if not self.metatrain_iterations:
            unused |= {"alpha", "num_steps"}
        fields = dataclasses.asdict(self).items()
        return {name: value for name, value in fields if name not in unused}

    def _name_parts(self) -> list[str]:
        """Parts of a run's name, spelled as the original does."""
        parts = [
            self.method,
            f"mbs_{self.meta_batch_size}",
            f"ubs_{self.num_shots}",
        ]
        if self.metatrain_iterations:
            parts += [f"numstep{self.num_steps}", f"updatelr{self.alpha}"]
        norms = {None: "nonorm", "batch_norm": "batchnorm"}
        return [
            *parts,
            f"metalr{self.beta}",
            norms.get(self.norm, "layernorm"),
            f"seed_{self.seed}",
        ]


@dataclasses.dataclass(frozen=True)
class SinusoidConfig(TrainingConfig):
    """Sinusoid regression: section 5.1 of the paper, 10-shot training."""

    pretrain_iterations: int = 0
    metatrain_iterations: int = 70_000  # README
    meta_batch_size: int = 25  # README and code
    num_shots: int = 10
    # Paper; the original's own command leaves its flag at 0.001.
    alpha: float = 0.01
    num_steps: int = 1
    norm: str | None = None  # README
    # `oracle` gives amplitude and phase as inputs; else None.
    baseline: str | None = None

    datasource: ClassVar[str] = "sinusoid"

    @property
    def run_name(self) -> str:
        """Name of the run's directory: whatever training depends on.

        Two runs that differ in anything but the number of iterations have
        different names.
        """
        return ".".join([self.datasource, *self._name_parts()])


@dataclasses.dataclass(frozen=True)
class ImageConfig(TrainingConfig):
    """Few-shot image classification: section 5.2 of the paper.

    The defaults are those of Omniglot, 5-way; `for_images` gives those of
    the others.
    """

    pretrain_iterations: int = 0
    metatrain_iterations: int = 60_000
    meta_batch_size: int = 32
    num_shots: int = 1
    alpha: float = 0.4
    num_steps: int = 1
    norm: str | None = "batch_norm"
    # Name of the data set.
    datasource: str = "omniglot"
    # N, classes of a task.
    num_ways: int = 5
    # Q, query images of a class in training; None takes K.
    num_queries: int | None = None
    # Convolutional network; else the non-convolutional one of appendix A.1.
    conv: bool = True
    # Filters of a convolution.
    num_filters: int = 64
    # Max-pool rather than stride.
    max_pool: bool = False
    # Bound of each element of the meta-gradient, or None.
    clip: float | None = None

    MINIMA: ClassVar[dict[str, int]] = {
        **TrainingConfig.MINIMA,
        "num_ways": 2,
        "num_queries": 1,
        "num_filters": 1,
    }

    @classmethod
    def for_images(
        cls, datasource: str, num_ways: int = 5, **given: Any
    ) -> "ImageConfig":
        """The paper's settings of a data set, but for what is given.

        Data sets that the paper does not have take those of mini-ImageNet.

        Raises:
            ConfigError: if a value makes no sense.
        """
        settings = dict(_SETTINGS.get(datasource, _SETTINGS["miniimagenet"]))
        if not given.get("conv", True):
            settings.pop("max_pool", None)
            if "num_filters" in given:
                raise ConfigError(
                    "num_filters is for convolutional networks; leave it out, "
                    "or set conv."
                )
        if num_ways > 5:
            settings |= _MANY_WAYS.get(datasource, {})
        return cls(
            datasource=datasource, num_ways=num_ways, **(settings | given)
        )

    def __post_init__(self):
        if self.num_queries is None:
            object.__setattr__(self, "num_queries", self.num_shots)
        super().__post_init__()
        if not re.fullmatch(r"[\w-]+", self.datasource, re.ASCII):
            raise ConfigError(
                "datasource must be the name of a data set: letters, digits, "
                f"_ and -. Received: datasource={self.datasource}"
            )
        if self.max_pool and not self.conv:
            raise ConfigError(
                "max_pool is for convolutional networks; leave it out, or set "
                "conv."
            )
        if self.clip is not None and not (
            math.isfinite(self.clip) and self.clip > 0
        ):
            raise ConfigError(
                "clip must be a positive number or None. Received: "
                f"clip={self.clip}"
            )

    @property
    def identity(self) -> dict[str, Any]:
        fields = super().identity
        if not self.conv:
            del fields["num_filters"]
        return fields

    @property
    def run_name(self) -> str:
        """Name of the run's directory: whatever training depends on.

        Two runs that differ in anything but the number of iterations have
        different names.
        """
        network = (
            f"conv{self.num_filters}" + (".maxpool" if self.max_pool else "")
            if self.conv
            else "noconv"
        )
        queries = self.num_queries
        return ".".join(
            [
                self.datasource,
                f"cls_{self.num_ways}",
                network,
                *self._name_parts(),
                *([f"query_{queries}"] if queries != self.num_shots else []),
                *([f"clip{self.clip:g}"] if self.clip else []),
            ]
        )


_SETTINGS: dict[str, dict[str, Any]] = {
    "omniglot": {},
    # Ours: less than two minutes on two cores.
    "glyphs": {
        "metatrain_iterations": 3000,
        "meta_batch_size": 8,
        "num_filters": 32,
    },
    "miniimagenet": {
        "meta_batch_size": 4,
        "alpha": 0.01,
        "num_steps": 5,
        "num_queries": 15,
        "num_filters": 32,
        "max_pool": True,
        "clip": 10.0,
    },
}
# The paper's 20-way settings.
_MANY_WAYS: dict[str, dict[str, Any]] = {
    "omniglot": {"meta_batch_size": 16, "alpha": 0.1, "num_steps": 5},
}
