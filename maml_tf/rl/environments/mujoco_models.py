"""The half-cheetah and the ant of the paper, made from Gymnasium's files.

The paper used the models of rllab on MuJoCo 1.31. Gymnasium's half-cheetah
compiles to the same model; its ant differs in the three constants below.
"""

import copy
import importlib.util
import pathlib
from typing import NamedTuple

import mujoco
import numpy as np

# rllab's half_cheetah.xml, and Gymnasium's.
CHEETAH_MASS = 14.0  # kg
# rllab's ant.xml; Gymnasium has 0.01 s, softer contacts, and keeps the pose
# in a number that MuJoCo does not read. Height 0.55 m, upright, legs bent.
ANT_TIME_STEP = 0.02  # s
ANT_SOLIMP = (0.8, 0.8, 0.01)
ANT_START = (0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1)

# Where each quantity lies in the readings of a sensing model. Only the ant has
# the last two: the axes of the torso's frame, and contacts, body by body.
COM = slice(0, 3)
COM_VELOCITY = slice(3, 6)
AXES = slice(6, 15)
CONTACTS = slice(15, None)

_TORSO_SENSORS = (
    mujoco.mjtSensor.mjSENS_SUBTREECOM,
    mujoco.mjtSensor.mjSENS_SUBTREELINVEL,
)
_AXIS_SENSORS = (
    mujoco.mjtSensor.mjSENS_FRAMEXAXIS,
    mujoco.mjtSensor.mjSENS_FRAMEYAXIS,
    mujoco.mjtSensor.mjSENS_FRAMEZAXIS,
)
_CONTACT_READINGS = 9
_CONTACT_DATA = sum(
    1 << int(field)
    for field in (
        mujoco.mjtConDataField.mjCONDATA_FORCE,
        mujoco.mjtConDataField.mjCONDATA_TORQUE,
        mujoco.mjtConDataField.mjCONDATA_POS,
    )
)
_NET_FORCE = 3  # `reduce` of a contact sensor: one force for all contacts.


class Model(NamedTuple):
    """A body to simulate.

    MuJoCo reads sensors before it moves the body, so after a step they still
    show the state before it. Hence two models of a body.

    Attributes:
        physics: makes a time step and reads no sensors.
        sensing: reads the sensors of the state that it is given. The step
            that it then makes is cheap and not used.
        start: generalized positions [nq] of the body at rest.
    """

    physics: mujoco.MjModel
    sensing: mujoco.MjModel
    start: np.ndarray


def half_cheetah() -> Model:
    """The half-cheetah: 9 positions, 9 velocities, 6 motors."""
    spec = _read("half_cheetah.xml")
    # MuJoCo 4 calls the attribute `settotalmass` deprecated.
    spec.compiler.settotalmass = -1
    _add_sensors(spec, _TORSO_SENSORS, "torso")
    model = spec.compile()
    mujoco.mj_setTotalmass(model, CHEETAH_MASS)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    # Sensors of the centre of mass do not depend on forces.
    forces = mujoco.mjtDisableBit
    return _pair(
        model,
        np.zeros(model.nq),
        forces.mjDSBL_CONSTRAINT
        | forces.mjDSBL_CONTACT
        | forces.mjDSBL_ACTUATION
        | forces.mjDSBL_SPRING
        | forces.mjDSBL_DAMPER
        | forces.mjDSBL_GRAVITY,
    )


def ant() -> Model:
    """The ant: 15 positions, 14 velocities, 8 motors, 13 bodies."""
    spec = _read("ant.xml")
    spec.option.timestep = ANT_TIME_STEP
    for geom in spec.geoms:
        geom.solimp[:3] = ANT_SOLIMP
    _add_sensors(spec, _TORSO_SENSORS + _AXIS_SENSORS, "torso")
    for index, body in enumerate(spec.bodies[1:], start=1):
        body.name = body.name or f"body_{index}"
        (sensor,) = _add_sensors(
            spec, [mujoco.mjtSensor.mjSENS_CONTACT], body.name
        )
        sensor.intprm[:3] = (_CONTACT_DATA, _NET_FORCE, 1)
    return _pair(spec.compile(), np.array(ANT_START, float), 0)


def contact_forces(readings: np.ndarray) -> np.ndarray:
    """Forces on each body from its contacts, MuJoCo's cfrc_ext.

    Args:
        readings: [n, sensors] of the ant's sensing model.

    Returns:
        [n, bodies, 6], the first body being the world, all 0: torque about
        the centre of mass (Nm), then force (N).
    """
    count = len(readings)
    contacts = readings[:, CONTACTS].reshape(count, -1, _CONTACT_READINGS)
    # A sensor shows the force that its body exerts on others.
    force, torque = -contacts[..., :3], -contacts[..., 3:6]
    lever = contacts[..., 6:] - readings[:, None, COM]
    found = np.zeros((count, contacts.shape[1] + 1, 6))
    found[:, 1:, :3] = torque + np.cross(lever, force)
    found[:, 1:, 3:] = force
    return found


def _read(file: str) -> mujoco.MjSpec:
    """Reads one of Gymnasium's files for editing, without importing Gymnasium.

    Raises:
        ModuleNotFoundError: if Gymnasium is not installed.
    """
    gymnasium = importlib.util.find_spec("gymnasium")
    if gymnasium is None or gymnasium.origin is None:
        raise ModuleNotFoundError("Gymnasium is not installed.")
    _write_no_log()
    folder = pathlib.Path(gymnasium.origin).parent / "envs/mujoco/assets"
    spec = mujoco.MjSpec.from_file(str(folder / file))
    # A simulation that breaks down must be seen, not restart by itself.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return spec


def _write_no_log() -> None:
    """Keeps MuJoCo's warnings off standard output and out of MUJOCO_LOG.TXT.

    They say that a simulation is unstable, which environments report.
    """
    config = mujoco.MjLogConfig.get()
    config.logto_console = False
    config.logto_file = False
    config.set()


def _add_sensors(spec, types, body: str) -> list:
    """Adds sensors of a body to a specification and returns them."""
    added = [spec.add_sensor() for _ in types]
    for sensor, kind in zip(added, types, strict=True):
        sensor.type = kind
        sensor.objtype = mujoco.mjtObj.mjOBJ_BODY
        sensor.objname = body
    return added


def _pair(model: mujoco.MjModel, start: np.ndarray, unneeded: int) -> Model:
    """Splits a model in two; the sensing one disables what is `unneeded`."""
    physics, sensing = model, copy.copy(model)
    physics.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
    sensing.opt.disableflags |= unneeded | mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    sensing.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    return Model(physics, sensing, start)
