"""Numbers of the paper to stand beside ours (arXiv 1703.03400v3)."""

from typing import NamedTuple

from maml_tf.experiments.configs import ImageConfig, TrainingConfig
from maml_tf.experiments.rl_config import RLConfig


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

# Figures 4 and 5 and the tables of appendix C: mean return over 40 goals
# after 0, 1, ... updates and the half width of its 95 % interval, by
# environment and method. Means and spreads are those of the result files in
# the authors' repository (cbfinn/maml_rl, icml/), from which the figures were
# drawn.
RETURNS = {
    ("point", "maml"): (
        (-40.41, 4.06), (-11.68, 2.19), (-3.33, 0.56), (-3.23, 0.58),
        (-3.35, 0.60),
    ),
    ("point", "pretrained"): (
        (-40.81, 4.09), (-19.73, 3.03), (-11.72, 1.67), (-8.47, 0.54),
        (-7.49, 0.38),
    ),
    ("point", "random"): (
        (-82.66, 2.19), (-57.96, 1.86), (-53.84, 1.64), (-46.81, 1.30),
        (-42.91, 1.29),
    ),
    ("point", "oracle"): ((-2.29, 0.14),),
    ("cheetah_vel", "maml"): (
        (-129.53, 16.75), (-78.57, 9.98), (-66.62, 9.05), (-60.78, 8.73),
    ),
    ("cheetah_vel", "pretrained"): (
        (-158.00, 17.57), (-135.39, 15.24), (-128.47, 14.15), (-133.61, 16.65),
    ),
    ("cheetah_vel", "random"): (
        (-254.83, 36.17), (-254.33, 35.08), (-246.79, 35.82), (-230.83, 34.60),
    ),
    ("cheetah_vel", "oracle"): ((-54.47, 7.02),),
    ("cheetah_dir", "maml"): (
        (-50.69, 5.82), (293.19, 17.23), (313.48, 15.97), (315.65, 14.02),
    ),
    # Two distinct values over the 40 goals: an interval would mean nothing.
    ("cheetah_dir", "pretrained"): (
        (-43.03, None), (-24.75, None), (-12.85, None), (19.57, None),
    ),
    ("cheetah_dir", "random"): (
        (-35.74, None), (21.83, None), (62.32, None), (86.19, None),
    ),
    ("cheetah_dir", "oracle"): ((442.69, 8.48),),
    ("ant_vel", "maml"): (
        (30.58, 30.41), (96.74, 21.00), (100.06, 21.73), (101.41, 21.31),
    ),
    ("ant_vel", "pretrained"): (
        (-1.83, 34.63), (6.11, 34.79), (8.47, 34.89), (9.47, 36.98),
    ),
    ("ant_vel", "random"): (
        (-78.64, 34.83), (-62.81, 35.16), (-48.55, 34.51), (-35.56, 30.28),
    ),
    ("ant_vel", "oracle"): ((107.89, 20.22),),
    ("ant_dir", "maml"): (
        (8.66, 14.40), (499.15, 32.51), (500.68, 31.94), (499.11, 32.94),
    ),
    ("ant_dir", "pretrained"): (
        (3.16, None), (1.27, None), (6.51, None), (6.86, None),
    ),
    ("ant_dir", "random"): (
        (3.11, None), (9.25, None), (15.96, None), (26.11, None),
    ),
    ("ant_dir", "oracle"): ((524.80, 12.56),),
}  # fmt: skip


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
        values = RETURNS.get((config.datasource, method), ())
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
