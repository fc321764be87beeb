"""A run and its results name the code that made them."""

import json

import pytest
from conftest import command

from maml_tf import provenance
from maml_tf.errors import RunDirectoryError
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.experiments.sinusoids import SinusoidConfig
from maml_tf.training.files import TrainingFiles


def train(logdir, iterations):
    command(
        f"--logdir={logdir}",
        f"--metatrain_iterations={iterations}",
        "--meta_batch_size=2",
        "--compare=False",
        "--log=False",
        "--test_tasks=5",
    )
    (run,) = logdir.iterdir()
    return run


def read(path):
    return json.loads(path.read_text())


@pytest.fixture
def code(monkeypatch):
    """The code's description of itself; tests may change it."""
    found = {
        "commit": "a" * 40,
        "dirty": False,
        "versions": {"python": "3.11.0", "maml_tf": "1.0"},
    }
    monkeypatch.setattr(
        provenance, "_checkout", lambda: {k: found[k] for k in list(found)[:2]}
    )
    monkeypatch.setattr(provenance, "versions", lambda: found["versions"])
    return found


def test_a_directory_of_a_learner_names_it_too(code, tmp_path):
    files = TrainingFiles(tmp_path, {"weights": []}, tensorboard=False)
    assert files.begin_stretch(0) == ""
    assert files.begin_stretch(10) == ""
    code["commit"] = "b" * 40
    assert files.begin_stretch(20) == "commit aaaaaaa, now bbbbbbb"
    stretches = read(tmp_path / "provenance.json")["stretches"]
    assert [s["from_iteration"] for s in stretches] == [0, 10, 20]
    assert stretches[-1]["versions"] == code["versions"]
    (tmp_path / "provenance.json").write_text('{"stretches": 3}')
    with pytest.raises(RunDirectoryError, match="damaged"):
        files.begin_stretch(30)


@pytest.mark.slow
def test_stretches_and_results_name_the_code(code, tmp_path, capsys):
    run = train(tmp_path, 1)
    capsys.readouterr()
    train(tmp_path, 2)
    assert "other code" not in capsys.readouterr().out
    before = dict(code, versions=dict(code["versions"]))
    code["commit"], code["dirty"] = "b" * 40, True
    code["versions"] = code["versions"] | {"maml_tf": "1.1"}
    train(tmp_path, 3)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "earlier stretches used other code: commit aaaaaaa, now bbbbbbb; "
        "maml_tf 1.0, now 1.1." in said
    )
    stretches = read(run / "config.json")["stretches"]
    assert [s["from_iteration"] for s in stretches] == [0, 1, 2]
    for stretch, ran in zip(stretches, (before, before, code), strict=True):
        assert ran.items() <= stretch.items()
        assert stretch.keys() - ran == {"date", "command", "from_iteration"}
    results = read(run / "results_tasks5.json")
    assert results["trained_by"] == stretches
    assert results["evaluated_by"] == code


def test_without_a_checkout_the_commit_is_unknown():
    before = {"commit": "a" * 40, "versions": {"keras": "3"}}
    now = {"commit": None, "versions": {"keras": "3"}}
    assert provenance.difference(before, before) == ""
    assert provenance.difference(before, now) == "commit aaaaaaa, now unknown"


def test_an_older_config_is_read(code, tmp_path):
    """It has versions of one stretch, and no method."""
    config = SinusoidConfig(metatrain_iterations=10)
    run = RunDirectory.for_training(tmp_path, config, resume=True)
    old = read(run.path / "config.json")
    del old["stretches"], old["config"]["method"]
    old["versions"] = {"python": "3.11.0"}
    (run.path / "config.json").write_text(json.dumps(old))
    again = RunDirectory.for_training(tmp_path, config, resume=True)
    assert again.config == config
    assert again.stretches == [
        {"from_iteration": 0, "versions": {"python": "3.11.0"}}
    ]
    assert again.begin_stretch(5) == (
        "commit unknown, now aaaaaaa; maml_tf unknown, now 1.0"
    )
