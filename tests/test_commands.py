"""The command maml-tf: its sub-commands, their help, how they end."""

import re
import runpy
import subprocess
import sys

import pytest
from absl import flags
from conftest import REPOSITORY

from maml_tf.cli import main as command_line
from maml_tf.cli.command import errors_as_exits, parse
from maml_tf.cli.flags import GROUPS
from maml_tf.cli.main import SUB_COMMANDS, main
from maml_tf.errors import ConfigError, DataError


def run(*command):
    """Runs Python in a clone, as a user does."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )


def help_of(capsys, *arguments):
    """The help that a command prints, in this process."""
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert not stop.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("name", SUB_COMMANDS)
def test_a_sub_command_says_how_to_use_it(name, capsys):
    said = help_of(capsys, *name.split())
    assert f"    maml-tf {name} " in said
    assert "\nflags:\n  --" in said
    assert "datasource" not in said.partition("\nflags:\n")[2]


def test_the_command_lists_its_sub_commands_and_flags(capsys):
    said = help_of(capsys)
    assert all(
        f"    maml-tf {name} " in said and command.about in said
        for name, command in SUB_COMMANDS.items()
    )
    assert "  --datasource: the tasks: sinusoid;" in said
    assert help_of(capsys, "data").startswith("Sub-commands")


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "maml_tf"),
        ("-m", "data.omniglot"),
        ("-m", "data.miniimagenet"),
        ("-m", "data.image_folder"),
    ],
)
def test_help_exits_with_0_and_is_all_there_is(command):
    done = run(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    first = "Experiment" if command[-1] == "maml_tf" else "flags"
    assert f"\n{first}:\n  --" in done.stdout


def test_the_script_of_a_clone_has_the_help_of_the_command(monkeypatch, capfd):
    script = str(REPOSITORY / "run_experiment.py")
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(script, run_name="__main__")
    assert not stop.value.code
    said, error = capfd.readouterr()
    assert error == ""
    groups = re.findall(r"^(\w.*):\n  --", said, re.MULTILINE)
    assert groups == list(GROUPS)


@pytest.mark.parametrize("words", ["data", "data mnist", "fit", "litert2 a b"])
def test_an_unknown_sub_command_ends_in_one_line(words):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert str(stop.value) == (
        f"error: unknown sub-command: {words}. Expected one of: "
        f"{', '.join(SUB_COMMANDS)}; or flags alone, such as "
        "--datasource=glyphs."
    )


def imported_by(*command):
    """Packages that a process imports, by what Python says of them."""
    said = run("-X", "importtime", "-m", *command).stderr
    lines = [x for x in said.splitlines() if x.startswith("import time:")]
    assert len(lines) > 10
    return {x.rpartition("|")[2].strip() for x in lines}


def test_an_unknown_sub_command_does_not_wait_for_tensorflow():
    assert run("-m", "maml_tf", "nope").stderr.startswith(
        "error: unknown sub-command: nope"
    )
    heavy = {"tensorflow", "keras", "numpy", "rich"}
    assert not heavy & imported_by("maml_tf", "nope")


@pytest.mark.parametrize("name", ["omniglot", "miniimagenet", "image_folder"])
def test_help_on_data_does_not_wait_for_tensorflow(name):
    heavy = {"tensorflow", "keras"}
    assert not heavy & imported_by("maml_tf", "data", name, "--help")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("DIR", "error: FILE missing"),
        ("", "error: DIRECTORY and FILE missing"),
        ("a b c", "error: unexpected arguments: c"),
        ("a b --num_query=0", "error: flag --num_query=0: .*--help lists"),
        ("a b --num_querry=1", "error: Unknown command line flag 'num_querry'"),
        (
            "nowhere b",
            "error: nowhere is not an exported model: it has no saved_model.pb",
        ),
    ],
)
def test_a_wrong_line_ends_in_one_line(arguments, message, tmp_path):
    with pytest.raises(SystemExit, match=f"^{message}.*$") as stop:
        main(["litert", *arguments.split()])
    assert "\n" not in str(stop.value)


def test_arguments_that_are_no_flags_are_refused():
    with pytest.raises(SystemExit, match="error: unexpected arguments: here"):
        parse(["command", "here"], flags.FlagValues(), "", __name__)


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name="matplotlib.figure")

    monkeypatch.setattr(command_line.importlib, "import_module", missing)
    with pytest.raises(SystemExit) as stop:
        main([])
    assert str(stop.value) == (
        "error: This needs the Python package matplotlib, which is not "
        "installed. Run: pip install 'maml_tf[experiments]'"
    )


def test_a_missing_package_that_no_extra_has_is_a_fault(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name="maml_tf.nothing")

    monkeypatch.setattr(command_line.importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        main([])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("bad data"), "error: bad data"),
        (ConfigError("bad setting"), "error: bad setting"),
        (
            OSError(28, "No space left", "x"),
            "error: [Errno 28] No space left: 'x'. Choose another.",
        ),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exits(error, code):
    with (
        pytest.raises(SystemExit) as stop,
        errors_as_exits("Choose another.", "Interrupted."),
    ):
        raise error
    assert stop.value.code == code
