"""The command line on images: glyphs, and real data where available."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from conftest import REPOSITORY, SHARED, command, error_of, parse
from PIL import Image
from rich.console import Console

from maml_tf.cli import settings as command_line
from maml_tf.datasets.image_folder import import_image_folder
from maml_tf.experiments.images import ImageConfig
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.tasks.few_shot import Episodes

# The image commands at the top of the original's main.py.
_LOG = "--logdir=logs/"
ORIGINAL_COMMANDS = {
    "omniglot 5-way": (
        "--datasource=omniglot --metatrain_iterations=60000 "
        "--meta_batch_size=32 --update_batch_size=1 --update_lr=0.4 "
        f"--num_updates=1 {_LOG}omniglot5way/"
    ),
    "omniglot 20-way": (
        "--datasource=omniglot --metatrain_iterations=60000 "
        "--meta_batch_size=16 --update_batch_size=1 --num_classes=20 "
        f"--update_lr=0.1 --num_updates=5 {_LOG}omniglot20way/"
    ),
    "miniimagenet 1-shot": (
        "--datasource=miniimagenet --metatrain_iterations=60000 "
        "--meta_batch_size=4 --update_batch_size=1 --update_lr=0.01 "
        f"--num_updates=5 --num_classes=5 {_LOG}miniimagenet1shot/ "
        "--num_filters=32 --max_pool=True"
    ),
    "miniimagenet 5-shot": (
        "--datasource=miniimagenet --metatrain_iterations=60000 "
        "--meta_batch_size=4 --update_batch_size=5 --update_lr=0.01 "
        f"--num_updates=5 --num_classes=5 {_LOG}miniimagenet5shot/ "
        "--num_filters=32 --max_pool=True"
    ),
}
# The same settings in the paper's words.
EXPECTED = {
    "omniglot 5-way": ImageConfig(),
    "omniglot 20-way": find_source("omniglot").configure(num_ways=20),
    "miniimagenet 1-shot": find_source("miniimagenet").configure(),
    "miniimagenet 5-shot": find_source("miniimagenet").configure(num_shots=5),
}

SMALL = (
    "--datasource=glyphs",
    "--num_filters=4",
    "--meta_batch_size=2",
    "--test_tasks=12",
)
RUN = (
    "glyphs.cls_5.conv4.maml.mbs_2.ubs_1.numstep1.updatelr0.4.metalr0.001"
    ".batchnorm.seed_0"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run with a small network."""
    logdir = tmp_path_factory.mktemp("images")
    command(f"--logdir={logdir}", "--metatrain_iterations=505", *SMALL)
    return logdir


@pytest.fixture
def logdir(trained, tmp_path):
    return pathlib.Path(shutil.copytree(trained, tmp_path / "logs"))


@pytest.mark.parametrize("name", ORIGINAL_COMMANDS)
def test_commands_of_the_original_ask_for_the_papers_settings(name):
    parse(*ORIGINAL_COMMANDS[name].split())
    assert command_line.config_from_flags() == EXPECTED[name]


def test_the_papers_settings():
    five, twenty = ImageConfig(), EXPECTED["omniglot 20-way"]
    assert (five.meta_batch_size, five.alpha, five.num_steps) == (32, 0.4, 1)
    assert (twenty.meta_batch_size, twenty.alpha) == (16, 0.1)
    assert (twenty.num_steps, twenty.num_ways) == (5, 20)
    assert five.num_queries == twenty.num_queries == 1
    assert five.clip is None
    mini = EXPECTED["miniimagenet 5-shot"]
    assert (mini.num_queries, mini.clip, mini.num_filters) == (15, 10, 32)
    assert mini.max_pool
    assert mini.meta_batch_size == 4


def test_runs_of_different_settings_have_different_names():
    configs = [
        *EXPECTED.values(),
        ImageConfig(conv=False),
        ImageConfig(max_pool=True),
        ImageConfig(norm="layer_norm"),
        ImageConfig(num_filters=32),
        ImageConfig(num_queries=15),
        ImageConfig(clip=1.0),
        ImageConfig(head_init=0.02),
        ImageConfig(first_order=True),
        ImageConfig(datasource="glyphs"),
    ]
    assert len({config.run_name for config in configs}) == len(configs)


def test_filters_do_not_tell_networks_without_convolutions_apart():
    one, other = (ImageConfig(conv=False, num_filters=n) for n in (64, 32))
    assert (one.run_name, one.identity) == (other.run_name, other.identity)


def test_a_run_leaves_everything_behind(trained):
    run = trained / RUN
    names = {p.name for p in run.iterdir()}
    assert names >= {
        "config.json",
        "train.csv",
        "validation.csv",
        "tensorboard",
        "results_tasks12.json",
        "report_tasks12.md",
        "report_tasks12_accuracy_by_updates.png",
        "report_tasks12_training.png",
        "report_tasks12_episode_K1.png",
        "report_tasks12_episode_K5.png",
        "test_ubs1_stepsize0.4_tasks12.csv",
        "test_ubs5_stepsize0.4_tasks12.npy",
    }
    assert RunDirectory.open(run).config.num_filters == 4
    results = json.loads((run / "results_tasks12.json").read_text())
    assert results["num_tasks"] == 12
    assert results["iteration"] == 505
    assert results["metric"].startswith("accuracy")
    shots = [e["num_shots"] for e in results["evaluations"]]
    assert shots == [1, 5]
    for evaluation in results["evaluations"]:
        assert evaluation["batch_norm_statistics"] == "transductive"
        means = [u["mean"] for u in evaluation["updates"]]
        assert len(means) == 11
        assert all(0 <= mean <= 1 for mean in means)
    validated = (run / "validation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in validated[1:]] == ["500", "505"]
    assert len(list((run / "best").iterdir())) == 1


def test_it_learns(trained):
    results = json.loads((trained / RUN / "results_tasks12.json").read_text())
    one, five = (e["updates"] for e in results["evaluations"])
    assert one[0]["mean"] < 0.4  # before any update: chance is 0.2
    assert five[3]["mean"] > 0.27


def test_options_of_evaluation(logdir):
    run = logdir / RUN
    command(
        "--train=False",
        f"--run_dir={run}",
        "--test_best",
        "--test_tasks=3",
        "--test_queries=2",
        "--update_batch_size=3",
        "--batch_norm_statistics=both",
        "--test_set=False",
    )
    tag = "_validation_ubs3_queries2_transductive-support_best_tasks3"
    results = json.loads((run / f"results{tag}.json").read_text())
    assert results["iteration"] == int(next((run / "best").iterdir()).name)
    by_statistics = {
        e["batch_norm_statistics"]: e for e in results["evaluations"]
    }
    assert set(by_statistics) == {"transductive", "support"}
    assert {e["num_queries"] for e in results["evaluations"]} == {2}
    table = (run / f"report{tag}.md").read_text()
    assert table.count("| MAML | 3 |") == 2
    assert "The query sets have 2 examples per class." in table
    # 5 classes x 2 query images: accuracies are tenths.
    stem = "validation_ubs3_stepsize0.4"
    values = np.load(run / f"{stem}_support_queries2_best_tasks3.npy")
    np.testing.assert_allclose(values * 10, np.round(values * 10), atol=1e-4)


@pytest.mark.slow
def test_a_run_can_be_extended(logdir):
    again = ("--metatrain_iterations=510", *SMALL)
    command(f"--logdir={logdir}", *again)
    run = logdir / RUN
    validated = (run / "validation.csv").read_text().splitlines()
    rows = [row.split(",")[0] for row in validated[1:]]
    assert rows == ["500", "505", "510"]
    assert not list(run.glob("*/damaged*"))


@pytest.mark.slow
def test_other_networks_train_and_are_evaluated(tmp_path):
    for arguments in (
        ("--conv=False",),
        ("--num_filters=4", "--max_pool", "--norm=layer_norm", "--stop_grad"),
    ):
        arguments += ("--metatrain_iterations=3", "--update_batch_size=2")
        small = [flag for flag in SMALL if "num_filters" not in flag]
        command(f"--logdir={tmp_path}", "--log=False", *small, *arguments)
    names = {re.sub(r"\.mbs.*", "", p.name) for p in tmp_path.iterdir()}
    assert names == {
        "glyphs.cls_5.noconv.maml",
        "glyphs.cls_5.conv4.maxpool.first-order",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--datasource=omniglot", r"not prepared.*data omniglot"),
        (
            "--datasource=miniimagenet",
            "not prepared.*data miniimagenet",
        ),
        (
            "--datasource=birds",
            "not prepared.*data image_folder.*--name=birds",
        ),
        ("--datasource=../x", "--datasource must be the name"),
        ("--datasource=glyphs --num_classes=61", "61-way.*validation.*60"),
        ("--datasource=glyphs --update_batch_size=11", "needs 22 images"),
        ("--datasource=glyphs --num_classes=1", "--num_classes must be .* at"),
        ("--datasource=glyphs --num_filters=0", "--num_filters must be .* at"),
        ("--datasource=glyphs --max_pool --conv=False", "--max_pool is for"),
        (
            "--datasource=glyphs --num_filters=8 --conv=False",
            "--num_filters is for",
        ),
        (
            "--datasource=glyphs --norm=None --batch_norm_statistics=both",
            "is for networks with batch normalization; this one has none",
        ),
        ("--datasource=glyphs --baseline=oracle", "does not go with"),
        ("--datasource=glyphs --test_queries=0", "--test_queries must be at"),
        (
            "--datasource=glyphs --test_queries=16",
            r"needs 21 images of a class \(5 support and 16 query\)",
        ),
        ("--datasource=glyphs --train_queries=0", "--train_queries must be"),
        (
            "--datasource=glyphs --train_queries=20",
            "needs 21 images .* or --train_queries for training",
        ),
        ("--datasource=glyphs --test_tasks=0", "--test_tasks must be at"),
        (
            "--datasource=glyphs --test_best --test_iter=5",
            "exclude each other",
        ),
        (
            "--datasource=glyphs --original_checkpoint=x",
            "goes with --train=False",
        ),
        ("--train=False --original_checkpoint=x", "name its data set"),
        (
            "--train=False --original_checkpoint=x --datasource=glyphs",
            "x cannot be read as a TensorFlow checkpoint",
        ),
    ],
)
def test_bad_flags_end_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, error_of("--logdir=logs", *arguments.split()))
    assert not list(tmp_path.iterdir())


def test_splits_of_the_glyphs_share_no_class():
    experiment = find_source("glyphs").build(
        find_source("glyphs").configure(), pathlib.Path("nowhere")
    )
    streams = [experiment.tasks(s) for s in ("train", "validation", "test")]
    assert all(isinstance(stream, Episodes) for stream in streams)
    names = [set(stream.classes.names) for stream in streams]
    assert not names[0] & names[1]
    assert not (names[0] | names[1]) & names[2]


def test_the_meta_gradient_alone_is_clipped():
    config = find_source("glyphs").configure(clip=2.0)
    experiment = find_source("glyphs").build(config, pathlib.Path("nowhere"))
    clips = [o.clipvalue for o in experiment.optimizers]
    assert clips == [None, 2.0]


@pytest.mark.slow
def test_a_command_of_the_original_runs_on_omniglot(tmp_path, packed_omniglot):
    command(
        *ORIGINAL_COMMANDS["omniglot 5-way"]
        .replace("60000", "2")
        .replace("logs/", f"{tmp_path}/")
        .split(),
        f"--data_dir={packed_omniglot[0]}",
        "--test_tasks=5",
        "--log=False",
    )
    (run,) = (tmp_path / "omniglot5way").iterdir()
    assert (run / "results_tasks5.json").exists()


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("omniglot_5way", 0.95),
        ("omniglot_5way_noconv", 0.8),
        ("omniglot_20way", 0.8),
    ],
)
def test_the_trained_weights_know_omniglot(
    name, least, tmp_path, packed_omniglot
):
    run = shutil.copytree(REPOSITORY / "trained" / name, tmp_path / name)
    command(
        "--train=False",
        f"--run_dir={run}",
        f"--data_dir={packed_omniglot[0]}",
        "--update_batch_size=1",
        "--test_tasks=20",
    )
    results = json.loads((run / "results_ubs1_tasks20.json").read_text())
    (evaluation,) = results["evaluations"]
    assert evaluation["updates"][3]["mean"] > least


@pytest.mark.skipif(
    not (SHARED / "data" / "original_checkpoint").is_dir(),
    reason="the authors' checkpoint is not available",
)
def test_the_authors_checkpoint_is_evaluated_on_images_of_its_size(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for c in range(5):
            # A name that is no formula, with a letter that fonts lack.
            folder = tmp_path / "photos" / split / f"{split}{c} ${{\\x 花$"
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (84, 84, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    import_image_folder(
        tmp_path / "photos",
        tmp_path / "data" / "packed" / "photos",
        "photos",
        84,
        Console(),
    )
    prefix = SHARED / "data" / "original_checkpoint" / "model59000"
    command(
        "--train=False",
        f"--original_checkpoint={prefix}",
        "--datasource=photos",
        "--test_tasks=4",
    )
    (run,) = (tmp_path / "logs").glob("original.photos.model59000.*")
    results = json.loads((run / "results_tasks4.json").read_text())
    assert results["name"] == "original"
    assert results["iteration"] == 59000
    assert results["evaluations"][0]["alpha"] == 0.01
    command(
        "--train=False",
        f"--original_checkpoint={prefix}",
        "--datasource=photos",
        "--export_dir=exported",
    )
    assert (tmp_path / "exported" / "saved_model.pb").exists()
