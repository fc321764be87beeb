"""The command line, in this process where it can be."""

import csv
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
from conftest import REPOSITORY, command, error_of, parse, start

from maml_tf.cli import flags
from maml_tf.cli import settings as command_line

MAML = (
    "sinusoid.maml.mbs_25.ubs_10.numstep1.updatelr0.01.metalr0.001.nonorm"
    ".seed_0"
)

# The sinusoid commands at the top of the original's main.py.
_SINE = "--datasource=sinusoid --logdir=logs/sine/"
_JOINT = f"{_SINE} --pretrain_iterations=70000 --metatrain_iterations=0"
_10_SHOT = "--norm=None --update_batch_size=10"
ORIGINAL_COMMANDS = {
    "maml": f"{_SINE} --metatrain_iterations=70000 {_10_SHOT}",
    "oracle": f"{_JOINT} {_10_SHOT} --baseline=oracle",
    "pretrained": f"{_JOINT} {_10_SHOT}",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short MAML run with its baselines, as the first command makes it."""
    logdir = tmp_path_factory.mktemp("logs")
    command(f"--logdir={logdir}", "--metatrain_iterations=2000")
    return logdir


@pytest.fixture
def logdir(trained, tmp_path):
    return pathlib.Path(shutil.copytree(trained, tmp_path / "logs"))


def test_the_first_command_leaves_everything_behind(trained):
    names = {path.name.split(".")[1] for path in trained.iterdir()}
    assert names == {"maml", "pretrained", "oracle"}
    run = trained / MAML
    assert {p.name for p in run.iterdir()} >= {
        "config.json",
        "train.csv",
        "tensorboard",
        "results.json",
        "comparison.md",
        "comparison.json",
        "comparison_mse_by_updates.png",
        "comparison_fits_K5.png",
        "comparison_fits_K10.png",
    }
    results = json.loads((run / "results.json").read_text())
    assert results["complete"]
    assert results["num_tasks"] == 600
    assert results["split"] == "test"
    assert [e["num_shots"] for e in results["evaluations"]] == [5, 10, 20]
    for evaluation in results["evaluations"]:
        assert [u["update"] for u in evaluation["updates"]] == list(range(11))
    report = (run / "comparison.md").read_text()
    for row in ("MAML", "pretrained", "oracle", "random", "paper"):
        assert f"| {row}" in report.replace("  ", "")
    for png in run.glob("*.png"):
        assert png.read_bytes().startswith(b"\x89PNG")


def test_meta_training_learns_to_adapt(trained):
    networks = {
        r["name"]: r["evaluations"][1]["updates"]  # K = 10
        for r in json.loads((trained / MAML / "comparison.json").read_text())
    }
    assert set(networks) == {"maml", "pretrained", "oracle", "random"}
    error = {name: updates[1]["mean"] for name, updates in networks.items()}
    assert error["oracle"] < error["maml"] < 1.2
    assert error["maml"] < 0.5 * error["pretrained"]
    assert error["pretrained"] < 3.0 < 4.0 < error["random"]


def test_the_csv_is_like_the_originals(trained):
    path = trained / MAML / "test_ubs5_stepsize0.01.csv"
    with open(path, newline="") as file:
        header, mean, deviation, interval = csv.reader(file)
    assert header == [f"update{i}" for i in range(11)]
    losses = np.load(path.with_suffix(".npy"))
    assert losses.shape == (600, 11)
    np.testing.assert_allclose(np.float64(mean), losses.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        np.float64(interval), 1.96 * np.float64(deviation) / np.sqrt(600)
    )


def test_a_second_time_nothing_is_trained_again(logdir, capsys):
    before = (logdir / MAML / "results.json").read_text()
    command(
        f"--logdir={logdir}", "--metatrain_iterations=2000", "--compare=False"
    )
    output = " ".join(capsys.readouterr().out.split())
    assert "already trained for 2000 iterations" in output
    assert "meta_batch_size 25, num_shots (--update_batch_size) 10" in output
    assert (logdir / MAML / "results.json").read_text() == before


def test_results_can_go_elsewhere(trained, tmp_path):
    run = trained / MAML
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    command(
        f"--run_dir={run}",
        "--train=False",
        "--test_tasks=20",
        f"--output_dir={tmp_path}/elsewhere",
    )
    assert (tmp_path / "elsewhere" / "results_tasks20.json").is_file()
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="Name another .*--output_dir"):
        command(
            f"--run_dir={run}",
            "--train=False",
            f"--output_dir={tmp_path}/file",
        )


@pytest.mark.slow
def test_commands_of_the_original_run_and_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for method, line in ORIGINAL_COMMANDS.items():
        command(
            *re.sub("70000", "100", line).split(),
            "--log=False",
            "--compare=False",
            "--test_tasks=20",
        )
        (run,) = pathlib.Path("logs/sine").glob(f"sinusoid.{method}.*")
        results = json.loads((run / "results_tasks20.json").read_text())
        assert results["name"] == method
        assert results["iteration"] == 100
    assert len(list(pathlib.Path("logs/sine").iterdir())) == 3


@pytest.mark.parametrize("method", ORIGINAL_COMMANDS)
def test_commands_of_the_original_ask_for_the_papers_settings(method):
    parse(*ORIGINAL_COMMANDS[method].split())
    config = command_line.config_from_flags()
    assert config.label == method
    assert config.num_iterations == 70_000
    assert (config.num_shots, config.alpha, config.norm) == (10, 0.01, None)


def test_evaluation_with_another_k_and_step_size(logdir):
    command(
        f"--logdir={logdir}",
        "--train=False",
        "--update_batch_size=7",
        "--update_lr=0.02",
        "--train_update_batch_size=10",
        "--train_update_lr=0.01",
        "--test_set=False",
    )
    standard = (logdir / MAML / "results.json").read_text()
    assert json.loads(standard)["split"] == "test"
    name = "results_validation_ubs7_stepsize0.02.json"
    results = json.loads((logdir / MAML / name).read_text())
    (evaluation,) = results["evaluations"]
    assert (evaluation["num_shots"], evaluation["alpha"]) == (7, 0.02)
    assert results["split"] == "validation"
    assert (logdir / MAML / "validation_ubs7_stepsize0.02.csv").exists()
    table = (
        logdir / MAML / "report_validation_ubs7_stepsize0.02.md"
    ).read_text()
    assert "| MAML | 7 | 0.02 |" in table
    assert "pretrained" not in table


@pytest.mark.parametrize("flag", ["--test_queries=5", "--test_best"])
def test_a_run_refuses_flags_of_other_kinds(logdir, flag):
    with pytest.raises(SystemExit, match="go with --datasource=sinusoid"):
        command("--train=False", f"--run_dir={logdir / MAML}", flag)


def test_a_run_can_be_evaluated_with_step_size_zero(logdir):
    run = logdir / MAML
    command("--train=False", f"--run_dir={run}", "--update_lr=0")
    results = json.loads((run / "results_stepsize0.0.json").read_text())
    means = {u["mean"] for u in results["evaluations"][0]["updates"]}
    assert len(means) == 1
    warning = "The original's code evaluates differently"
    assert warning in (run / "report_stepsize0.0.md").read_text()
    assert warning not in (run / "comparison.md").read_text()


def test_evaluation_needs_the_run_directory_alone(logdir, tmp_path):
    moved = shutil.move(logdir / MAML, tmp_path / "elsewhere")
    shutil.rmtree(logdir)
    before = json.loads((moved / "results.json").read_text())
    (moved / "results.json").unlink()
    command("--train=False", f"--run_dir={moved}")
    after = json.loads((moved / "results.json").read_text())
    assert after["evaluations"] == before["evaluations"]


def test_a_run_can_be_made_longer(logdir):
    command(
        f"--logdir={logdir}", "--metatrain_iterations=2100", "--compare=False"
    )
    results = json.loads((logdir / MAML / "results.json").read_text())
    assert results["iteration"] == 2100


@pytest.mark.slow
def test_the_baselines_serve_runs_of_other_settings(logdir):
    command(
        f"--logdir={logdir}", "--metatrain_iterations=2000", "--num_updates=2"
    )
    methods = [path.name.split(".")[1] for path in logdir.iterdir()]
    assert sorted(methods) == ["maml", "maml", "oracle", "pretrained"]


def test_a_baseline_that_did_more_is_found_before_anything_is_trained(logdir):
    with pytest.raises(SystemExit, match="pretrained.*trained for 2000 iter"):
        command(
            f"--logdir={logdir}",
            "--metatrain_iterations=100",
            "--update_lr=0.02",
        )
    new = logdir / MAML.replace("updatelr0.01", "updatelr0.02")
    assert not (new / "train.csv").exists()


def test_the_oracle_can_be_meta_trained():
    parse("--baseline=oracle", "--metatrain_iterations=5")
    config = command_line.config_from_flags()
    assert (config.pretrain_iterations, config.metatrain_iterations) == (0, 5)


@pytest.mark.slow
def test_other_objectives_and_networks_run(tmp_path):
    command(
        f"--logdir={tmp_path}",
        "--pretrain_iterations=60",
        "--metatrain_iterations=60",
        "--stop_grad",
        "--num_updates=2",
        "--norm=layer_norm",
        "--meta_batch_size=3",
        "--update_batch_size=4",
        "--seed=3",
        "--compare=False",
        "--test_tasks=20",
    )
    (run,) = tmp_path.iterdir()
    assert run.name == (
        "sinusoid.first-order.pretrained_60.mbs_3.ubs_4.numstep2.updatelr0.01"
        ".metalr0.001.layernorm.seed_3"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("extra", "unexpected arguments: extra"),
        ("--seed=99999999999", "--seed must be .* below"),
        (
            "--train=False --update_batch_size=0 --train_update_batch_size=10",
            "--update_batch_size must be at least 1",
        ),
        (
            "--train=False --update_lr=-1 --train_update_lr=0.01",
            "--update_lr must not be negative",
        ),
        ("--num_updates=0", "--num_updates must be .* at least 1"),
        ("--update_lr=-0.1", "--update_lr must be a positive number"),
        ("--meta_lr=-1", "--meta_lr must be a positive number"),
        ("--update_batch_size=0", "--update_batch_size must be .* at least 1"),
        ("--norm=weight_norm", r"--norm must be one of \('batch_norm', "),
        ("--baseline=none", "--baseline must be one of"),
        ("--baseline=oracle --datasource=omniglot", "does not go with"),
        ("--datasource=mnist", "mnist.*python -m maml_tf data image_folder"),
        ("--datasource=../x", "--datasource must be"),
        ("--max_pool", "--max_pool is for images"),
        ("--num_classes=5", "--num_classes is for images"),
        ("--metatrain_iterations=0", "There is nothing to train"),
        (
            "--stop_grad --metatrain_iterations=0 --pretrain_iterations=1",
            "--stop_grad concerns",
        ),
        ("--train=False", "There is no run directory.*train a run first"),
        (
            "--train=False --run_dir=nowhere",
            "There is no run directory nowhere",
        ),
        ("--run_dir=somewhere", "--run_dir goes with --train=False"),
        ("--train=False --run_dir=x --seed=1", "--seed does not go with"),
        (
            "--train=False --run_dir=x --train_update_lr=0.1",
            "--train_update_lr does not go with",
        ),
        ("--train_update_lr=0.1", "--train_update_lr goes with --train=False"),
        (
            "--train_update_batch_size=1",
            "--train_update_batch_size goes with --train=False",
        ),
        (
            "--train=False --run_dir=trained/omniglot_5way",
            "There is no .* in the directory trained/ of its source repository",
        ),
        ("--test_iter=-7", "--test_iter must be"),
    ],
)
def test_bad_flags_end_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, error_of("--logdir=logs", *arguments.split()))
    assert not list(tmp_path.iterdir())


def test_an_unknown_flag_ends_in_one_line(tmp_path):
    process = start("--metatrain_iteration=5", f"--logdir={tmp_path / 'logs'}")
    _, error = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "Unknown command line flag 'metatrain_iteration'" in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_checkpoint_is_not_evaluated(logdir):
    shutil.rmtree(logdir / MAML / "checkpoints")
    with pytest.raises(SystemExit, match="holds no checkpoint; train the run"):
        command(f"--logdir={logdir}", "--train=False")


def test_a_missing_iteration_is_named(logdir):
    with pytest.raises(
        SystemExit, match=r"no checkpoint of iteration 7.*\[1000, 2000\]"
    ):
        command(f"--logdir={logdir}", "--train=False", "--test_iter=7")


def test_a_run_that_did_more_is_not_cut_short(logdir):
    def content():
        return {p: p.read_bytes() for p in logdir.rglob("*") if p.is_file()}

    before = content()
    with pytest.raises(SystemExit, match="already trained for 2000 iterations"):
        command(f"--logdir={logdir}", "--metatrain_iterations=50")
    assert content() == before


def test_only_one_process_trains_in_a_directory(logdir):
    fcntl = pytest.importorskip("fcntl")
    with open(logdir / MAML / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="Another process is training"):
            command(f"--logdir={logdir}", "--metatrain_iterations=2100")


def test_help_describes_every_flag():
    own = flags.FLAGS.get_flags_for_module(flags.__name__)
    assert len(own) >= 24
    assert all(len(f.help) > 10 and "no help" not in f.help for f in own)


def test_readme_commands_name_known_flags():
    text = (REPOSITORY / "README.md").read_text()
    text += (REPOSITORY / "BUILD.md").read_text()
    known = set(flags.FLAGS)
    used = {
        flag.split("=")[0]
        for line in re.findall(r"run_experiment\.py(.*)", text)
        for flag in shlex.split(line.split("`")[0], comments=True)
        if flag.startswith("--")
    }
    assert {name[2:] for name in used} - {"help"} <= known
