"""Pictures of a running body, drawn without OpenGL.

MuJoCo's own renderer needs a graphics driver, and may end the process if there
is none or it is broken. The bodies consist of capsules and balls, which look
like lines with round ends and like discs from every side.
"""

import io
import pathlib

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from maml_tf.files import write_atomically
from maml_tf.rl.environments.spec import Demonstration

_WIDTH, _HEIGHT = 320, 200  # pixels of a picture
_SCALE = 110.0  # pixels per metre
_FLOOR = 0.72  # where z = 0 is, as a share of the height
_FINER = 3  # drawn this much larger, then reduced: smooth edges
# Seen from the side, and slightly from above and the right: how far right and
# up a metre into the depth (y) goes.
_DEPTH = np.array([0.3, 0.2])
_FLOOR_DEPTH = 1.5  # m to either side
_TILE = 1.0  # m between the lines on the floor, which show the motion
_SKY, _GROUND, _LINE = "#ffffff", "#e8e8e4", "#b8b8b0"
_EDGE = "#5a4632"
_FRAMES_PER_SECOND = 25
_COLORS = 32  # of an animation: small files


def draw_adaptation(
    stem: pathlib.Path, model: mujoco.MjModel, shown: Demonstration
) -> None:
    """Writes one rollout before and one after the first update.

    Each is a strip of pictures, `<stem>_before.png`, and an animation,
    `<stem>_before.gif`; after the update, `_after`.

    Args:
        stem: the start of the files' paths.
        model: of the body.
        shown: a policy whose poses are generalized positions [steps, nq].
    """
    goal = shown.environment.test_tasks(1)
    stages = shown.episodes(goal, 1)
    for when, stage in zip(("before", "after"), stages, strict=False):
        positions = stage[0][0]
        path = stem.with_name(f"{stem.name}_{when}.png")
        save_strip(path, model, positions)
        save_animation(path.with_suffix(".gif"), model, positions)


def save_strip(
    path: pathlib.Path,
    model: mujoco.MjModel,
    positions: np.ndarray,
    count: int = 6,
) -> None:
    """Writes evenly spaced moments of a rollout side by side as a PNG file.

    Args:
        path: the file.
        model: of the body.
        positions: generalized positions at each step, [steps, nq].
        count: how many moments; they include the first and the last step.
    """
    moments = np.linspace(0, len(positions) - 1, count).round().astype(int)
    frames = _draw(model, positions[moments])
    strip = Image.new("RGB", (_WIDTH * count, _HEIGHT))
    for i, frame in enumerate(frames):
        strip.paste(frame, (i * _WIDTH, 0))
    _write(path, strip, "PNG")


def save_animation(
    path: pathlib.Path, model: mujoco.MjModel, positions: np.ndarray
) -> None:
    """Writes a rollout at its true speed as a GIF file.

    Args:
        path: the file.
        model: of the body.
        positions: generalized positions at each step, [steps, nq].
    """
    time_step = model.opt.timestep
    stride = max(1, round(1 / (_FRAMES_PER_SECOND * time_step)))
    first, *others = [
        frame.quantize(_COLORS, dither=Image.Dither.NONE)
        for frame in _draw(model, positions[::stride])
    ]
    _write(
        path,
        first,
        "GIF",
        save_all=True,
        append_images=others,
        duration=round(1000 * stride * time_step),
        loop=0,
    )


def _draw(model: mujoco.MjModel, positions: np.ndarray) -> list[Image.Image]:
    """Draws each pose, following the body along x."""
    data = mujoco.MjData(model)
    frames = []
    for pose in positions:
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        frames.append(_draw_pose(model, data))
    return frames


def _draw_pose(model: mujoco.MjModel, data: mujoco.MjData) -> Image.Image:
    scale = _SCALE * _FINER
    size = np.array([_WIDTH, _HEIGHT]) * _FINER
    centre = data.body("torso").subtree_com[0]

    def project(points):
        points = np.asarray(points)
        across = points[..., 0] - centre + _DEPTH[0] * points[..., 1]
        up = points[..., 2] + _DEPTH[1] * points[..., 1]
        return np.stack(
            [size[0] / 2 + scale * across, size[1] * _FLOOR - scale * up], -1
        )

    picture = Image.new("RGB", tuple(size), _SKY)
    draw = ImageDraw.Draw(picture)
    _draw_floor(draw, project, centre)
    # Far parts first, so that near ones hide them.
    for geom in np.argsort(-data.geom_xpos[:, 1], kind="stable"):
        kind = model.geom_type[geom]
        if kind == mujoco.mjtGeom.mjGEOM_PLANE:
            continue
        radius, half_length, _ = model.geom_size[geom]
        if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
            half_length = 0.0
        axis = half_length * data.geom_xmat[geom].reshape(3, 3)[:, 2]
        ends = project(data.geom_xpos[geom] + np.array([[-1.0], [1.0]]) * axis)
        color = tuple((255 * model.geom_rgba[geom, :3]).astype(int))
        _draw_capsule(draw, ends, scale * radius, _EDGE)
        _draw_capsule(draw, ends, scale * radius - _FINER, color)
    label = f"{round(centre, 1) + 0.0:.1f} m"  # Not -0.0.
    draw.text((4 * _FINER, 2 * _FINER), label, _EDGE, font_size=14 * _FINER)
    return picture.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)


def _draw_floor(draw: ImageDraw.ImageDraw, project, centre: float) -> None:
    """Draws a strip of floor with a line across it at each metre."""
    reach = 1.5 * _WIDTH / _SCALE
    near, far = -_FLOOR_DEPTH, _FLOOR_DEPTH
    corners = project(
        [
            (centre + side * reach, depth, 0.0)
            for side, depth in ((-1, near), (1, near), (1, far), (-1, far))
        ]
    )
    draw.polygon([tuple(corner) for corner in corners], _GROUND)
    for x in np.arange(np.floor(centre - reach), centre + reach, _TILE):
        ends = project([(x, near, 0.0), (x, far, 0.0)])
        draw.line([tuple(end) for end in ends], _LINE, width=_FINER)


def _draw_capsule(
    draw: ImageDraw.ImageDraw, ends: np.ndarray, radius: float, color
) -> None:
    draw.line([tuple(end) for end in ends], color, width=round(2 * radius))
    for end in ends:
        draw.circle(tuple(end), radius, color)


def _write(path: pathlib.Path, picture: Image.Image, kind: str, **options):
    content = io.BytesIO()
    picture.save(content, kind, **options)
    write_atomically(path, content.getvalue())
