"""The bodies are those of the paper, and their sensors tell the truth."""

import mujoco
import numpy as np
import pytest

from maml_tf.rl.environments import mujoco_models
from maml_tf.rl.environments.mujoco_models import (
    ant,
    contact_forces,
    half_cheetah,
)


@pytest.fixture(scope="module")
def the_ant():
    return ant()


@pytest.fixture(scope="module")
def the_cheetah():
    return half_cheetah()


def moving(model, seed=0, steps=60):
    """Simulation data of a body that has moved for some steps."""
    rng = np.random.default_rng(seed)
    data = mujoco.MjData(model.physics)
    data.qpos[:] = model.start
    data.qvel[:] = 0.1 * rng.normal(size=model.physics.nv)
    for _ in range(steps):
        data.ctrl[:] = rng.uniform(-1, 1, model.physics.nu)
        mujoco.mj_step(model.physics, data)
    return data


def readings(model, data):
    """What the sensing model reads in the state of some data."""
    sensed = mujoco.MjData(model.sensing)
    sensed.qpos[:], sensed.qvel[:] = data.qpos, data.qvel
    sensed.ctrl[:] = data.ctrl
    mujoco.mj_forward(model.sensing, sensed)
    return sensed.sensordata[None].copy()


def test_the_cheetah_is_that_of_the_paper(the_cheetah):
    physics = the_cheetah.physics
    assert (physics.nq, physics.nv, physics.nu) == (9, 9, 6)
    np.testing.assert_allclose(physics.body_mass.sum(), 14.0, rtol=1e-12)
    # Capsules of one density and radius: torso and head, a thigh, a foot.
    volumes = [
        np.pi * 0.046**2 * length + 4 / 3 * np.pi * 0.046**3 * capsules
        for length, capsules in ((1.3, 2), (0.29, 1), (0.14, 1))
    ]
    masses = physics.body_mass[[1, 2, 7]]
    np.testing.assert_allclose(
        masses / masses[0], np.divide(volumes, volumes[0])
    )
    assert physics.opt.timestep == 0.01
    assert physics.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    np.testing.assert_array_equal(
        physics.actuator_gear[:, 0], [120, 90, 60, 120, 60, 30]
    )
    np.testing.assert_array_equal(physics.actuator_ctrlrange, [[-1, 1]] * 6)
    np.testing.assert_array_equal(the_cheetah.start, np.zeros(9))
    assert physics.body("torso").pos[2] == 0.7


def test_the_ant_is_that_of_the_paper(the_ant):
    physics = the_ant.physics
    assert (physics.nq, physics.nv, physics.nu) == (15, 14, 8)
    assert physics.opt.timestep == 0.02
    assert physics.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    # Torque is gear times control: 150 Nm, as rllab's 1 times 150.
    np.testing.assert_array_equal(physics.actuator_gear[:, 0], [150] * 8)
    np.testing.assert_array_equal(physics.actuator_ctrlrange, [[-1, 1]] * 8)
    np.testing.assert_array_equal(physics.dof_armature[6:], np.ones(8))
    np.testing.assert_array_equal(physics.dof_damping[6:], np.ones(8))
    np.testing.assert_array_equal(
        physics.geom_solimp[:, :3], [[0.8, 0.8, 0.01]] * physics.ngeom
    )
    # Density 5 in the torso, a ball of radius 0.25.
    np.testing.assert_allclose(
        physics.body("torso").mass, 5 * 4 / 3 * np.pi * 0.25**3, rtol=1e-12
    )
    assert the_ant.start[2] == 0.55
    np.testing.assert_array_equal(the_ant.start[3:7], [1, 0, 0, 0])
    np.testing.assert_array_equal(the_ant.start[8::2], [1, -1, -1, 1])


@pytest.mark.parametrize("body", ["the_ant", "the_cheetah"])
def test_sensing_measures_the_state_it_is_given(body, request):
    model = request.getfixturevalue(body)
    data = moving(model)
    mujoco.mj_forward(model.physics, data)
    found = readings(model, data)[0]
    np.testing.assert_allclose(
        found[mujoco_models.COM], data.body("torso").subtree_com, atol=1e-12
    )
    # rllab's definition of the velocity: the mass-weighted mean of the links.
    jacobian = np.zeros((3, model.physics.nv))
    momentum = np.zeros(3)
    for body, mass in enumerate(model.physics.body_mass):
        mujoco.mj_jacBodyCom(model.physics, data, jacobian, None, body)
        momentum += mass * jacobian @ data.qvel
    velocity = momentum / model.physics.body_mass.sum()
    np.testing.assert_allclose(
        found[mujoco_models.COM_VELOCITY], velocity, atol=1e-12
    )
    assert np.abs(velocity).max() > 0.01


def test_axes_are_the_columns_of_the_torso_rotation(the_ant):
    data = moving(the_ant)
    mujoco.mj_forward(the_ant.physics, data)
    axes = readings(the_ant, data)[0, mujoco_models.AXES].reshape(3, 3)
    rotation = data.body("torso").xmat.reshape(3, 3)
    np.testing.assert_allclose(axes.T, rotation, atol=1e-12)
    assert np.abs(rotation - rotation.T).max() > 0.01  # Order matters.


def test_contact_forces_are_those_of_the_post_constraint_pass(the_ant):
    """Where the ant stands on its feet, against mj_rnePostConstraint."""
    touching = 0
    for steps in range(1, 60, 3):
        data = moving(the_ant, seed=steps, steps=steps)
        mujoco.mj_forward(the_ant.physics, data)
        mujoco.mj_rnePostConstraint(the_ant.physics, data)
        found = contact_forces(readings(the_ant, data))[0]
        assert found.shape == (14, 6)
        np.testing.assert_allclose(found, data.cfrc_ext, atol=1e-12)
        touching += np.abs(data.cfrc_ext[:, 3:]).max() > 0.1  # N
    assert touching >= 5
