"""The wheel: built, installed where a stranger would, and used."""

import subprocess
import sys
import sysconfig
import textwrap
import venv

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

import maml_tf

USE = """
import sys

import numpy as np

import maml_tf

def task(seed):
    x = np.random.default_rng(seed).uniform(-5, 5, (8, 1))
    return (x[:4], np.sin(x[:4])), (x[4:], np.sin(x[4:]))

tasks = maml_tf.tasks_from_function(task)
learner = maml_tf.Learner(maml_tf.dense_net(1, (8,), 1), "mse")
history = learner.fit(tasks, iterations=5, progress=False)
learner.export("exported")
print(maml_tf.__version__, maml_tf.__file__)
"""


class Installed:
    """A virtual environment that has the wheel, and a user's directory."""

    def __init__(self, root, wheel):
        self._bin = root / "environment" / "bin"
        venv.create(root / "environment", with_pip=False)
        subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "pip",
                    "--python",
                    self._bin / "python",
                ),
                *("install", "--quiet", "--no-index", "--no-deps", wheel),
            ],
            check=True,
        )
        # What maml_tf depends on is taken from the interpreter that runs the
        # tests, for TensorFlow alone is a download of half a gigabyte.
        (site,) = (root / "environment").glob("lib/python*/site-packages")
        paths = sysconfig.get_paths()
        lines = dict.fromkeys((paths["purelib"], paths["platlib"]))
        (site / "dependencies.pth").write_text("\n".join(lines))
        self.directory = root / "user"
        self.directory.mkdir()

    def run(self, program, *arguments):
        return subprocess.run(
            [self._bin / program, *arguments],
            cwd=self.directory,
            env={"HOME": str(self.directory), "PATH": str(self._bin)},
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("package")
    # From a copy of what is in the repository: a build writes beside it.
    copied = root / "source"
    subprocess.run(
        ["git", "clone", "--quiet", "--depth=1", REPOSITORY.as_uri(), copied],
        check=True,
    )
    built = subprocess.run(
        [
            *(sys.executable, "-m", "build", "--wheel", "--outdir", root),
            str(copied),
        ],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = root.glob("*.whl")
    installed = Installed(root, wheel)
    # A folder data/ of the user's own, which would fail if it was imported.
    junk = installed.directory / "data"
    junk.mkdir()
    for name in ("__init__.py", "omniglot.py", "image_folder.py", "notes.txt"):
        (junk / name).write_text("this is not Python")
    return installed


def succeeded(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readers_of_an_index_page_have_links_that_lead_somewhere():
    text = (REPOSITORY / "docs" / "package.md").read_text()
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert links
    assert all(link.startswith("https://") for link in links)


def test_the_page_of_the_index_runs(tmp_path, monkeypatch):
    text = (REPOSITORY / "docs" / "package.md").read_text()
    block = text.split("```python\n")[1].split("```")[0]
    assert block.count("iterations=10_000") == 1
    monkeypatch.chdir(tmp_path)
    exec(block.replace("iterations=10_000", "iterations=2"), {})
    assert (tmp_path / "exported" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_it_imports_fits_and_exports(installed):
    said = succeeded(installed.run("python", "-c", textwrap.dedent(USE)))
    version, file = said.splitlines()[-1].split()
    assert version == maml_tf.__version__
    assert "/environment/" in file
    assert (installed.directory / "exported" / "saved_model.pb").is_file()
    assert version in succeeded(
        installed.run(
            "python",
            "-c",
            "import importlib.metadata as m; print(m.version('maml_tf'))",
        )
    )


@pytest.mark.slow
def test_the_command_runs_an_experiment(installed):
    said = succeeded(
        installed.run(
            "maml-tf",
            "--metatrain_iterations=20",
            "--compare=False",
            "--test_tasks=20",
        )
    )
    assert "Results and figures are in logs/sinusoid.maml." in said
    (run,) = (installed.directory / "logs").iterdir()
    assert list(run.glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("command", [("maml-tf",), ("python", "-m", "maml_tf")])
def test_the_command_packs_images(installed, command):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "eel"):
        folder = installed.directory / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(256, size=(9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "0.png")
    said = succeeded(
        installed.run(
            *command,
            *("data", "image_folder", "--source=images", "--name=animals"),
        )
    )
    assert "animals: 3 classes, 3 images of 84x84x3" in said
    packed = installed.directory / "data" / "packed" / "animals"
    assert (packed / "index.json").is_file()


@pytest.mark.slow
def test_omniglots_splits_come_with_it(installed):
    (installed.directory / "empty").mkdir()
    done = installed.run("maml-tf", "data", "omniglot", "--source=empty")
    assert done.returncode == 1
    assert done.stderr == (
        "error: empty holds no drawings; expected are images_background and "
        "images_evaluation, as zip archives or unpacked.\n"
    )


@pytest.mark.slow
def test_without_trained_networks_it_says_where_they_are(installed):
    done = installed.run(
        "maml-tf", "--train=False", "--run_dir=trained/omniglot_5way"
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: There is no run directory trained/omniglot_5way. Trained "
        "networks are not part of the installed package: they are in the "
        "directory trained/ of its source repository. Give the path of that "
        "directory in a clone, or train a run first.\n"
    )
