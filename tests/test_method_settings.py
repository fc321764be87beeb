"""Settings of a method's own: flags, configurations and names of runs."""

import dataclasses
from typing import ClassVar

import pytest
from conftest import command, error_of

from maml_tf.cli.flags import FLAGS
from maml_tf.errors import ConfigError
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.methods import registry
from maml_tf.methods.joint import JointTraining
from maml_tf.methods.method import setting

TINY = (
    "--metatrain_iterations=2",
    "--meta_batch_size=2",
    "--compare=False",
    "--test_tasks=2",
    "--log=False",
)


@dataclasses.dataclass(frozen=True)
class Decaying(JointTraining):
    """A method with settings, and defaults of its own for sinusoids."""

    name: ClassVar[str] = "decaying"

    length: int = setting(3, "iterations of the decay")
    shape: str = setting("linear", "kind of decay", ("linear", "cosine"))

    @classmethod
    def defaults(cls, datasource, settings):
        if datasource != "sinusoid":
            return {}
        return {"alpha": 0.5, "length": settings["metatrain_iterations"]}


@pytest.fixture
def decaying(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "decaying", Decaying)


def configured(source="sinusoid", **given):
    given = {"metatrain_iterations": 7, "method": "decaying"} | given
    return find_source(source).configure(**given)


def test_defaults_of_a_method_go_before_those_of_the_data(decaying):
    config = configured()
    assert config.alpha == 0.5
    assert config.method_settings == {"length": 7, "shape": "linear"}
    assert config.meta_method == Decaying(0.5, length=7)
    assert configured("glyphs").method_settings["length"] == 3


def test_what_is_asked_for_goes_before_all(decaying):
    config = configured(alpha=0.1, method_settings={"length": 2})
    assert (config.alpha, config.meta_method.length) == (0.1, 2)


def test_joint_training_has_no_use_for_them(decaying):
    config = configured(metatrain_iterations=0, pretrain_iterations=1)
    assert config.alpha == 0.01
    assert "method_settings" not in config.identity
    assert "length" not in config.run_name


def test_runs_that_differ_in_them_have_names_that_differ(decaying):
    plain = configured("glyphs")
    names = {
        configured("glyphs", method_settings=own).run_name
        for own in ({}, {"length": 3}, {"length": 4}, {"shape": "cosine"})
    }
    assert plain.run_name in names
    assert len(names) == 3
    assert plain.identity["method_settings"] == plain.method_settings


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"width": 1}, "width does not go with method=decaying"),
        ({"shape": "step"}, "shape must be one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(decaying, own, message):
    with pytest.raises(ConfigError, match=message):
        configured(method_settings=own)


def test_the_flag_of_a_setting_reaches_the_run(tmp_path):
    command(
        f"--logdir={tmp_path}",
        "--method=reptile",
        "--inner_optimizer=sgd",
        *TINY,
    )
    (run,) = tmp_path.iterdir()
    assert ".inner_optimizer_sgd." in run.name
    assert RunDirectory.open(run).config.meta_method.inner_optimizer == "sgd"
    text = error_of(
        "--train=False", f"--run_dir={run}", "--inner_optimizer=adam"
    )
    assert "--inner_optimizer does not go with --run_dir" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--inner_batch_size=2"], "--inner_batch_size does not go with"),
        (
            ["--method=reptile", "--inner_optimizer=none"],
            "--inner_optimizer must be one of",
        ),
        (
            ["--datasource=point", "--inner_batch_size=2"],
            "--inner_batch_size is for",
        ),
    ],
)
def test_flags_that_make_no_sense_end_in_one_line(flags, message, tmp_path):
    assert message in error_of(f"--logdir={tmp_path}", *flags)


def test_help_says_whose_a_setting_is():
    assert FLAGS["inner_optimizer"].help.startswith("reptile: optimizer of")


def test_training_may_have_other_tasks_than_evaluation():
    given = {"train_ways": 6, "train_shots": 3, "num_queries": 2}
    source = find_source("glyphs")
    config = source.configure(method="protonet", num_filters=2, **given)
    assert ".trainways_6.trainshots_3" in config.run_name
    experiment = source.build(config, None)
    for split, sizes in (("train", (18, 12)), ("validation", (5, 10))):
        task = experiment.tasks(split).tasks(0, 1)
        assert [batch.inputs.shape[1] for batch in task] == list(sizes)
    task = experiment.tasks("test", 5).tasks(0, 1)
    assert [b.targets.shape for b in task] == [(1, 25, 5)] * 2


def test_outputs_for_each_class_fix_their_number_in_training():
    with pytest.raises(ConfigError, match="train_ways and num_ways must agree"):
        find_source("glyphs").configure(train_ways=6)


def test_too_many_classes_in_training_are_called_by_their_flag(tmp_path):
    text = error_of(
        f"--logdir={tmp_path}",
        "--datasource=glyphs",
        "--method=protonet",
        "--train_classes=2000",
    )
    assert "Set --train_classes to" in text
