"""Runs that are killed or stopped, in processes of their own."""

import json
import os
import random
import signal
import time

import pytest
import tensorflow as tf
from conftest import command, start

from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.training.checkpoints import Checkpoints

MAML = (
    "sinusoid.maml.mbs_25.ubs_10.numstep1.updatelr0.01.metalr0.001.nonorm"
    ".seed_0"
)


def final_state(logdir):
    """Everything that a run's end depends on, as bytes."""
    run = RunDirectory.open(logdir / MAML)
    state = run.source.build(run.config, logdir).state
    iteration = Checkpoints(run.checkpoints, state).restore_latest()
    values = [v.numpy().tobytes() for vs in state.values() for v in vs]
    log = (run.path / "train.csv").read_text()
    results = json.loads((run.path / "results_tasks20.json").read_text())
    del results["trained_by"]  # dates
    return iteration, values, log, results


@pytest.mark.slow
def test_killed_runs_end_bit_identical(tmp_path):
    kills = (1, 2, 3)  # after so many checkpoints
    arguments = [
        f"--metatrain_iterations={1000 * (kills[-1] + 1)}",
        "--compare=False",
        "--test_tasks=20",
    ]
    command(f"--logdir={tmp_path / 'through'}", *arguments)
    logdir = tmp_path / "killed"
    checkpoints = logdir / MAML / "checkpoints"
    moments = random.Random(0)
    for goal in kills:
        process = start(f"--logdir={logdir}", *arguments)
        deadline = time.monotonic() + 60
        while len(list(checkpoints.glob("0*"))) < goal:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    last = start(f"--logdir={logdir}", *arguments)
    output, error = last.communicate(timeout=120)
    assert last.returncode == 0, error
    assert "resuming from iteration" in output
    assert final_state(logdir) == final_state(tmp_path / "through")


def test_an_interrupted_run_says_how_to_resume(tmp_path):
    process = start(f"--logdir={tmp_path}", "--compare=False")
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("*/checkpoints/0*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "resumes from the last checkpoint" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_killed_image_runs_end_bit_identical(tmp_path):
    def train(logdir):
        return start(
            f"--logdir={logdir}",
            "--metatrain_iterations=1200",
            "--update_batch_size=2",
            "--datasource=glyphs",
            "--num_filters=4",
            "--meta_batch_size=2",
            "--test_tasks=12",
        )

    def end(logdir):
        (run,) = logdir.iterdir()
        weights = {
            path.name: [
                checkpoint.get_tensor(name).tobytes()
                for checkpoint in [tf.train.load_checkpoint(path / "state")]
                for name in sorted(checkpoint.get_variable_to_shape_map())
                if "CHECKPOINTABLE" not in name and "counter" not in name
            ]
            for path in sorted(run.glob("*/0*"))
        }
        logs = [
            (run / f"{name}.csv").read_text()
            for name in ("train", "validation")
        ]
        return weights, logs

    through = train(tmp_path / "through")
    _, error = through.communicate(timeout=300)
    assert through.returncode == 0, error
    killed = tmp_path / "killed"
    for goal in (500, 1000):
        process = train(killed)
        while not list(killed.glob(f"*/checkpoints/*{goal}")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        time.sleep(goal / 1000)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    last = train(killed)
    output, error = last.communicate(timeout=300)
    assert last.returncode == 0, error
    assert "resuming from iteration 1000" in output
    assert end(killed) == end(tmp_path / "through")


@pytest.mark.slow
def test_killed_policies_end_bit_identical(tmp_path):
    arguments = [
        "--datasource=point",
        "--metatrain_iterations=12",
        "--meta_batch_size=4",
        "--update_batch_size=4",
        "--compare=False",
        "--test_tasks=2",
    ]
    ends = []
    for name, kills in (("through", 0), ("killed", 1)):
        logdir = tmp_path / name
        process = start(f"--logdir={logdir}", *arguments)
        for _ in range(kills):
            deadline = time.monotonic() + 120
            while not list(logdir.glob("*/checkpoints/00000005")):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(0.3)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            process = start(f"--logdir={logdir}", *arguments)
        output, error = process.communicate(timeout=200)
        assert process.returncode == 0, error
        assert ("resuming from iteration 5" in output) == bool(kills)
        (run,) = logdir.iterdir()
        results = json.loads((run / "results_tasks2.json").read_text())
        del results["trained_by"]  # dates
        files = [run / "train.csv"]
        files += sorted(run.glob("checkpoints/00000012/state.data*"))
        ends.append([results, *(file.read_bytes() for file in files)])
    assert len(ends[0]) == 3
    assert ends[0] == ends[1]
