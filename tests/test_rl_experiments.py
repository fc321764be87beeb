"""Reinforcement learning from the command line, at tiny size."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import command, error_of, parse, train

from maml_tf.cli import settings as command_line
from maml_tf.errors import ConfigError
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.rl.config import RLConfig
from maml_tf.training.checkpoints import Checkpoints

TINY = (
    "--datasource=point",
    "--meta_batch_size=3",
    "--update_batch_size=2",
    "--horizon=10",
)
MAML = "point.maml.mbs_3.fbs_2.horizon_10.numstep1.flr_0.5.trpo_0.01.seed_0"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """A run of two iterations with its baselines."""
    logdir = tmp_path_factory.mktemp("logs")
    command(
        *TINY,
        "--metatrain_iterations=2",
        "--test_tasks=4",
        f"--logdir={logdir}",
    )
    return logdir


def weights(path):
    run = RunDirectory.open(path)
    experiment = run.source.build(run.config, path)
    Checkpoints(run.checkpoints, experiment.learned).restore_latest()
    return [v.numpy() for v in experiment.learned["weights"]]


def test_one_command_trains_and_compares(logdir):
    names = sorted(p.name.split(".")[1] for p in logdir.iterdir())
    assert names == ["maml", "oracle", "pretrained"]
    run = logdir / MAML
    table = (run / "comparison_tasks4.md").read_text()
    rows = [line.split(" | ")[0].strip("| ") for line in table.splitlines()]
    assert rows[2:10] == [
        "MAML", "paper", "pretrained", "paper", "oracle", "paper", "random",
        "paper",
    ]  # fmt: skip
    assert "-40.4±4.1" in table
    assert "-2.3±0.1" in table
    for figure in ("return_by_updates", "training", "paths"):
        assert (run / f"comparison_tasks4_{figure}.png").stat().st_size > 5000


def test_results_hold_returns_of_each_goal(logdir):
    run = logdir / MAML
    (evaluation,) = json.loads((run / "results_tasks4.json").read_text())[
        "evaluations"
    ]
    assert [u["update"] for u in evaluation["updates"]] == [0, 1, 2, 3, 4]
    assert evaluation["transitions_per_goal"] == 40 * 10
    assert evaluation["episodes"][0] >= 4 * 40
    values = np.load(run / "test_ubs40_stepsize0.5_tasks4.npy")
    assert values.shape == (4, 5)
    assert evaluation["updates"][2]["mean"] == pytest.approx(
        values[:, 2].mean()
    )
    # In ten steps of 0.1 nobody strays farther than 2 from a goal.
    assert (values < 0).all()
    assert (values > -20).all()


def test_the_log_has_a_row_for_each_iteration(logdir):
    with open(logdir / MAML / "train.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["1", "2"]
    for row in rows:
        assert 0 <= float(row["kl"]) <= 0.01
        assert -20 < float(row["post_return"]) < 0
        assert float(row["unstable"]) == 0
    best = int(np.argmax([float(row["post_return"]) for row in rows]))
    assert [p.name for p in (logdir / MAML / "best").iterdir()] == [
        f"{best:08d}"
    ]


def test_a_resumed_run_equals_an_uninterrupted_one(logdir, tmp_path):
    for iterations in (1, 2):
        train(tmp_path, *TINY, f"--metatrain_iterations={iterations}")
    for through, resumed in zip(
        weights(logdir / MAML), weights(tmp_path / MAML), strict=True
    ):
        np.testing.assert_array_equal(through, resumed)
    assert (tmp_path / MAML / "train.csv").read_text() == (
        logdir / MAML / "train.csv"
    ).read_text()


def test_the_policy_with_the_best_return_can_be_evaluated(logdir):
    command(
        "--train=False",
        f"--run_dir={logdir / MAML}",
        "--test_best",
        "--test_tasks=2",
        "--update_batch_size=3",
        "--update_lr=0.1",
    )
    tag = "_ubs3_stepsize0.1_best_tasks2"
    report = (logdir / MAML / f"report{tag}.md").read_text()
    assert "the best in training" in report
    results = json.loads((logdir / MAML / f"results{tag}.json").read_text())
    assert results["evaluations"][0]["num_shots"] == 3


def test_the_runners_learn_by_the_gradient_and_adam(tmp_path):
    pytest.importorskip("mujoco")
    command(
        "--datasource=cheetah_dir",
        "--outer_step=vpg",
        "--meta_lr=0.01",
        "--metatrain_iterations=1",
        "--meta_batch_size=2",
        "--update_batch_size=2",
        "--horizon=5",
        "--test_tasks=2",
        "--compare=False",
        f"--logdir={tmp_path}",
    )
    (run,) = tmp_path.iterdir()
    opened = RunDirectory.open(run)
    before = opened.source.build(opened.config, tmp_path).learned["weights"]
    moved = [
        np.abs(after - v.numpy()).max()
        for after, v in zip(weights(run), before, strict=True)
    ]
    # The first step of Adam moves whatever has a gradient by its step size.
    np.testing.assert_allclose(moved, 0.01, rtol=1e-2)
    for when in ("before", "after"):
        for kind in ("png", "gif"):
            picture = run / f"report_tasks2_{when}.{kind}"
            assert picture.stat().st_size > 1000


def test_a_policy_that_is_not_finite_stops_training(tmp_path):
    said = error_of(
        *TINY,
        "--metatrain_iterations=2",
        "--update_lr=1e38",
        f"--logdir={tmp_path}",
    )
    assert "In 60 episodes the simulation broke down." in said
    assert "Lower the step sizes" in said


@pytest.mark.parametrize(
    ("datasource", "expected"),
    [
        ("point", dict(alpha=0.5, meta_batch_size=20, num_shots=20)),
        ("cheetah_vel", dict(alpha=0.1, meta_batch_size=40, num_shots=10)),
        ("cheetah_dir", dict(alpha=0.1, max_kl=0.02, num_shots=20)),
        ("ant_vel", dict(max_kl=0.01, num_shots=20, horizon=200)),
        ("ant_dir", dict(num_shots=40, metatrain_iterations=500)),
    ],
)
def test_settings_are_the_papers(datasource, expected):
    parse(f"--datasource={datasource}")
    config = command_line.config_from_flags()
    for name, value in expected.items():
        assert getattr(config, name) == value
    pretrained, oracle = find_source(config.datasource).baselines(config)
    assert pretrained.meta_batch_size * pretrained.num_shots == 100
    assert (pretrained.label, oracle.label) == ("pretrained", "oracle")
    assert find_source("point").published("maml", config, 20)[1].mean > -80
    parse(f"--datasource={datasource}", "--baseline=oracle")
    assert command_line.config_from_flags() == oracle


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--datasource=point --horizon=0", "--horizon must be a whole number"),
        (
            "--datasource=point --update_batch_size=0",
            "--update_batch_size must be a whole number",
        ),
        ("--datasource=point --outer_step=sgd", "--outer_step must be one of"),
        ("--datasource=point --max_kl=0", "--max_kl must be a positive"),
        (
            "--datasource=point --norm=batch_norm",
            "--norm is for sinusoids",
        ),
        ("--datasource=point --meta_lr=0.1", "--meta_lr is the step size of"),
        ("--datasource=point --conv", "--conv is for images"),
        ("--horizon=5", "--horizon is for policies"),
        (
            "--datasource=point --curvature=finite_differences"
            " --curvature_stride=2",
            "--curvature_stride needs --curvature=exact",
        ),
        ("--datasource=walker", "walker"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    assert message in error_of(*arguments.split())


def test_a_run_of_another_task_is_refused(logdir, tmp_path):
    moved = tmp_path / MAML.replace("point", "cheetah_dir")
    shutil.copytree(logdir / MAML, moved)
    content = (moved / "config.json").read_text()
    (moved / "config.json").write_text(content.replace('"point"', '"points"'))
    assert "settings of an experiment" in error_of(
        "--train=False", f"--run_dir={moved}"
    )


def test_settings_that_make_no_sense_are_refused_at_construction():
    with pytest.raises(ConfigError, match="curvature must be one of"):
        RLConfig(curvature="none")
