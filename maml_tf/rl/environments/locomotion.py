"""The environments of the half-cheetah and the ant.

Their simulation is in runners.py, which imports MuJoCo.

The published returns, here and in point.py, are those of figures 4 and 5 and
the tables of appendix C: mean return over 40 goals after 0, 1, ... updates and
the half width of its 95 % interval. Means and spreads are those of the result
files in the authors' repository (cbfinn/maml_rl, icml/), from which the figures
were drawn. The settings are those of its scripts and result files (docs/rl.md).
"""

import functools
import pathlib

from maml_tf.rl.environments.base import Environment
from maml_tf.rl.environments.spec import Demonstration, EnvironmentSpec

# MuJoCo simulates; Gymnasium has the files of the bodies.
PACKAGES = ("mujoco", "gymnasium")


def _cheetah(goal_is_direction: bool) -> Environment:
    from maml_tf.rl.environments.runners import Cheetah

    return Cheetah(goal_is_direction)


def _ant(goal_is_direction: bool) -> Environment:
    from maml_tf.rl.environments.runners import Ant

    return Ant(goal_is_direction)


def _draw_cheetah(stem: pathlib.Path, shown: Demonstration) -> None:
    from maml_tf.rl.environments import mujoco_models, rendering

    rendering.draw_adaptation(stem, mujoco_models.half_cheetah().physics, shown)


def _draw_ant(stem: pathlib.Path, shown: Demonstration) -> None:
    from maml_tf.rl.environments import mujoco_models, rendering

    rendering.draw_adaptation(stem, mujoco_models.ant().physics, shown)


CHEETAH_VEL = EnvironmentSpec(
    name="cheetah_vel",
    make=functools.partial(_cheetah, goal_is_direction=False),
    joint_iterations=1000,
    settings={"num_shots": 10},
    published={
        "maml": (
            (-129.53, 16.75), (-78.57, 9.98), (-66.62, 9.05), (-60.78, 8.73),
        ),
        "pretrained": (
            (-158.00, 17.57), (-135.39, 15.24), (-128.47, 14.15),
            (-133.61, 16.65),
        ),
        "random": (
            (-254.83, 36.17), (-254.33, 35.08), (-246.79, 35.82),
            (-230.83, 34.60),
        ),
        "oracle": ((-54.47, 7.02),),
    },
    draw=_draw_cheetah,
    packages=PACKAGES,
)  # fmt: skip

CHEETAH_DIR = EnvironmentSpec(
    name="cheetah_dir",
    make=functools.partial(_cheetah, goal_is_direction=True),
    joint_iterations=1000,
    settings={"max_kl": 0.02},
    published={
        "maml": (
            (-50.69, 5.82), (293.19, 17.23), (313.48, 15.97), (315.65, 14.02),
        ),
        # Two distinct values over the 40 goals: an interval would mean nothing.
        "pretrained": (
            (-43.03, None), (-24.75, None), (-12.85, None), (19.57, None),
        ),
        "random": ((-35.74, None), (21.83, None), (62.32, None), (86.19, None)),
        "oracle": ((442.69, 8.48),),
    },
    draw=_draw_cheetah,
    packages=PACKAGES,
)  # fmt: skip

ANT_VEL = EnvironmentSpec(
    name="ant_vel",
    make=functools.partial(_ant, goal_is_direction=False),
    joint_iterations=2000,
    published={
        "maml": (
            (30.58, 30.41), (96.74, 21.00), (100.06, 21.73), (101.41, 21.31),
        ),
        "pretrained": (
            (-1.83, 34.63), (6.11, 34.79), (8.47, 34.89), (9.47, 36.98),
        ),
        "random": (
            (-78.64, 34.83), (-62.81, 35.16), (-48.55, 34.51), (-35.56, 30.28),
        ),
        "oracle": ((107.89, 20.22),),
    },
    draw=_draw_ant,
    packages=PACKAGES,
)  # fmt: skip

ANT_DIR = EnvironmentSpec(
    name="ant_dir",
    make=functools.partial(_ant, goal_is_direction=True),
    joint_iterations=2000,
    settings={"num_shots": 40},
    evaluation_rollouts=40,  # twice the transitions, as in the original
    published={
        "maml": (
            (8.66, 14.40), (499.15, 32.51), (500.68, 31.94), (499.11, 32.94),
        ),
        "pretrained": ((3.16, None), (1.27, None), (6.51, None), (6.86, None)),
        "random": ((3.11, None), (9.25, None), (15.96, None), (26.11, None)),
        "oracle": ((524.80, 12.56),),
    },
    draw=_draw_ant,
    packages=PACKAGES,
)  # fmt: skip

SPECS = (CHEETAH_VEL, CHEETAH_DIR, ANT_VEL, ANT_DIR)
