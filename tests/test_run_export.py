"""Exporting runs from the command line."""

import io
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import command, error_of
from PIL import Image
from rich.console import Console
from test_original import RELEASED, needs_released

from maml_tf.core.maml import adapt
from maml_tf.core.prediction import predict
from maml_tf.datasets.image_folder import import_image_folder
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.experiments.sinusoids import SinusoidConfig
from maml_tf.experiments.trained_networks import of_run
from maml_tf.training.checkpoints import Checkpoints

CONFIGS = {
    "sinusoid": SinusoidConfig(metatrain_iterations=2, meta_batch_size=2),
    "photos": find_source("photos").configure(
        conv=False,
        metatrain_iterations=2,
        meta_batch_size=2,
        num_queries=1,
    ),
    "pretrained": SinusoidConfig(
        pretrain_iterations=2, metatrain_iterations=0, meta_batch_size=2
    ),
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Random images, five of each class."""
    rng = np.random.default_rng(0)
    photos = tmp_path_factory.mktemp("photos")
    for split in ("train", "val", "test"):
        for c in range(5):
            folder = photos / split / f"{split}{c}"
            folder.mkdir(parents=True)
            for i in range(5):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    packed = tmp_path_factory.mktemp("packed")
    import_image_folder(
        photos, packed / "photos", "photos", 8, Console(file=io.StringIO())
    )
    return packed


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """By name: a run's directory as training leaves it, with other weights."""
    rng = np.random.default_rng(1)
    directories = {}
    for name, config in CONFIGS.items():
        run = RunDirectory(tmp_path_factory.mktemp(name), config)
        run.write_config()
        experiment = run.source.build(config, data_dir)
        for v in experiment.learned["weights"]:
            v.assign_add(0.1 * rng.random(v.shape))
        Checkpoints(run.checkpoints, experiment.learned).save(2)
        directories[name] = run.path
    return directories


@pytest.mark.parametrize(
    ("kind", "statistics"),
    [
        ("sinusoid", None),
        ("photos", "transductive"),
        ("photos", "support"),
    ],
)
def test_an_exported_run_answers_as_the_run(
    trained, data_dir, tmp_path, capsys, kind, statistics
):
    path = tmp_path / "models" / "exported"
    flags = ["--train=False", f"--run_dir={trained[kind]}"]
    flags.append(f"--data_dir={data_dir}")
    if statistics is not None:
        flags.append(f"--batch_norm_statistics={statistics}")
    command(*flags, f"--export_dir={path}")
    said = capsys.readouterr().out
    assert f"A SavedModel of iteration 2 is in {path}" in said

    network = of_run(RunDirectory.open(trained[kind]), data_dir)
    experiment = network.experiment
    task = tf.nest.map_structure(
        lambda x: tf.convert_to_tensor(x[0]),
        experiment.tasks("test", 2, 3).tasks(0, 1),
    )
    learner = experiment.evaluated(2)
    adapted = adapt(
        learner.loss,
        learner.theta,
        [task.support] * 3,
        experiment.config.alpha,
        adapts=learner.method.adapts,
    ).iterates[-1]
    expected = predict(
        experiment.model,
        adapted,
        task.query.inputs,
        reference=task.support.inputs if statistics == "support" else None,
    )
    targets = task.support.targets
    if kind == "photos":
        targets = tf.argmax(targets, -1, tf.int32)
    answers = tf.saved_model.load(path).signatures["adapt_and_predict"](
        support_inputs=task.support.inputs,
        support_targets=targets,
        query_inputs=task.query.inputs,
        num_updates=tf.constant(3),
    )
    found = answers["predictions" if kind == "sinusoid" else "logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("source", ["miniimagenet", "photos"])
@needs_released
def test_the_authors_checkpoint_needs_no_images(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    flags = ["--train=False", f"--original_checkpoint={RELEASED}"]
    flags.append(f"--datasource={source}")
    assert "was not prepared" in error_of(*flags)
    command(*flags, "--export_dir=exported")
    described = json.loads((tmp_path / "exported" / "export.json").read_text())
    assert described["kind"] == "classification"
    assert described["num_updates"] == 5
    loaded = tf.saved_model.load("exported")
    _, inputs = loaded.signatures["predict"].structured_input_signature
    assert inputs["query_inputs"].shape.as_list() == [None, 84, 84, 3]


def test_what_cannot_be_exported_ends_in_one_line(trained, tmp_path):
    run = f"--run_dir={trained['sinusoid']}"
    for flags, message in (
        (["--export_dir=x"], "--export_dir goes with --train=False"),
        (
            [f"--export_dir={tmp_path.parent}", "--train=False", run],
            "already exists",
        ),
        (
            [
                "--export_dir=x",
                "--train=False",
                run,
                "--batch_norm_statistics=both",
            ],
            "takes one --batch_norm_statistics",
        ),
        (
            ["--export_dir=x", "--train=False", run, "--test_tasks=3"],
            "--test_tasks is for evaluation",
        ),
        (
            ["--export_dir=x", "--train=False", run, "--test_iter=7"],
            "7",
        ),
    ):
        assert message in error_of(*flags)
    assert not pathlib.Path("x").exists()


def test_a_pretrained_network_needs_a_step_size(trained, tmp_path):
    export = [
        "--train=False",
        f"--run_dir={trained['pretrained']}",
        f"--export_dir={tmp_path / 'exported'}",
    ]
    assert "Set --update_lr" in error_of(*export)
    command(*export, "--update_lr=0.02")
    assert (tmp_path / "exported" / "saved_model.pb").exists()
