"""Pictures of bodies, without a graphics driver."""

import numpy as np
import pytest
from PIL import Image

from maml_tf.rl.environments.mujoco_models import ant, half_cheetah
from maml_tf.rl.environments.rendering import save_animation, save_strip


def box(picture, color, tolerance=3):
    """Left, top, right and bottom of what has a color."""
    distance = np.abs(np.asarray(picture, int) - color).max(-1)
    rows, columns = np.nonzero(distance <= tolerance)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()], int)


def test_a_strip_shows_first_and_last_pose_where_they_are(tmp_path):
    model = half_cheetah().physics
    brown = (204, 153, 102)  # Of the torso.
    poses = np.zeros((11, 9))
    poses[:, 0] = np.linspace(0, 3, 11)  # The picture follows along x,
    poses[-1, 1] = 0.2  # but not up: 0.2 m of 110 pixels.
    save_strip(tmp_path / "strip.png", model, poses, count=3)
    with Image.open(tmp_path / "strip.png") as file:
        strip = file.convert("RGB")
    assert strip.size == (3 * 320, 200)
    first, _, last = (
        box(strip.crop((i * 320, 0, (i + 1) * 320, 200)), brown)
        for i in range(3)
    )
    np.testing.assert_allclose(last - first, [0, -22, 0, -22], atol=1)
    # From the end of the torso to that of the head: about 1.25 m.
    assert 1.2 < (first[2] - first[0]) / 110 < 1.35


@pytest.mark.parametrize(
    ("body", "stride", "frames"), [(half_cheetah, 4, 5), (ant, 2, 9)]
)
def test_an_animation_runs_at_true_speed(body, stride, frames, tmp_path):
    model = body()
    poses = np.tile(model.start, (17, 1))
    poses[:, 2] += np.linspace(0, 0.3, 17)  # Frames alike would be merged.
    save_animation(tmp_path / "run.gif", model.physics, poses)
    with Image.open(tmp_path / "run.gif") as animation:
        assert animation.n_frames == frames
        assert animation.info["duration"] == 40
    assert stride * model.physics.opt.timestep == pytest.approx(0.04)
