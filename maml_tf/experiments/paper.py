"""Numbers of the paper to stand beside ours (arXiv 1703.03400v3)."""

from typing import NamedTuple

from maml_tf.experiments.configs import ImageConfig, TrainingConfig
from maml_tf.experiments.rl_config import RLConfig
from maml_tf.rl.environments.registry import environment_spec


class Published(NamedTuple):
    """A number of the paper; `ci95` is None where it gives no interval."""

    mean: float
    ci95: float | None = None


# Table 2: sinusoid, mean squared error after 1, 5 and 10 updates, by method
# and K.
SINUSOID_MSE = {
    ("maml", 5): {1: 0.67, 5: 0.38, 10: 0.35},
    ("pretrained", 5): {1: 2.41, 5: 2.23, 10: 2.19},
}

# Table 1: accuracy in %, by data set, method and N-way K-shot; of the
# convolutional networks unless it says otherwise.
ACCURACY = {
    ("omniglot", "maml, no conv", 5, 1): (89.7, 1.1),
    ("omniglot", "maml, no conv", 5, 5): (97.5, 0.6),
    ("omniglot", "maml", 5, 1): (98.7, 0.4),
    ("omniglot", "maml", 5, 5): (99.9, 0.1),
    ("omniglot", "maml", 20, 1): (95.8, 0.3),
    ("omniglot", "maml", 20, 5): (98.9, 0.2),
    ("miniimagenet", "maml", 5, 1): (48.70, 1.84),
    ("miniimagenet", "maml", 5, 5): (63.11, 0.92),
    ("miniimagenet", "first-order", 5, 1): (48.07, 1.75),
    ("miniimagenet", "first-order", 5, 5): (63.15, 0.91),
}


def published(
    method: str, config: TrainingConfig, num_shots: int
) -> dict[int, Published]:
    """What the paper reports of a network with K shots, by updates.

    Args:
        method: as `TrainingConfig.method`, or what the network is called.
        config: the settings that it was trained by.
        num_shots: K of the evaluation.
    """
    if isinstance(config, RLConfig):
        values = environment_spec(config.datasource).published.get(method, ())
        return {u: Published(*value) for u, value in enumerate(values)}
    if not isinstance(config, ImageConfig):
        values = SINUSOID_MSE.get((method, num_shots), {})
        return {u: Published(value) for u, value in values.items()}
    if not config.conv:
        method += ", no conv"
    value = ACCURACY.get(
        (config.datasource, method, config.num_ways, num_shots)
    )
    if value is None:
        return {}
    mean, ci95 = value
    return {_updates(config): Published(mean / 100, ci95 / 100)}


def _updates(config: ImageConfig) -> int:
    """After how many updates the paper evaluates (appendix A.1)."""
    if config.datasource == "miniimagenet":
        return 10
    return 3 if config.num_ways == 5 else 5
