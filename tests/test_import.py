"""What `import maml_tf` does, and does not, each in a process of its own."""

import json
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

import maml_tf


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY), "HOME": "/nonexistent"}
        | environment,
        capture_output=True,
        text=True,
    )


def test_it_imports_nothing_heavy():
    done = python(
        "import json, sys, maml_tf; print(json.dumps(list(sys.modules)))"
    )
    assert done.stderr == ""
    imported = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "maml_tf" in imported
    assert not imported & {
        *("tensorflow", "keras", "tensorflow_probability", "tf_keras"),
        *("matplotlib", "PIL", "mujoco", "gymnasium", "rich", "numpy"),
    }


def test_the_first_name_imports_what_the_names_need_and_no_more():
    """And standard error stays where it is."""
    done = python(
        "import json, os, sys\n"
        "dup2, os.dup2 = os.dup2, None  # a redirection would fail\n"
        "import maml_tf; maml_tf.Learner\n"
        "print(json.dumps(list(sys.modules)))"
    )
    imported = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "keras" in imported
    assert not imported & {
        *("tensorflow_probability", "tf_keras", "mujoco", "gymnasium"),
    }


WITHOUT_EXTRAS = """
import sys
for name in (
    "tensorflow_probability", "tf_keras", "mujoco", "gymnasium", "matplotlib",
    "tensorboard",
):
    sys.modules[name] = None  # as if it were not installed
import keras
import numpy as np
import maml_tf
print(keras.saving.get_registered_object("maml_tf>Conv2D").__name__)
x = np.zeros((2, 1), np.float32)
learner = maml_tf.Learner(maml_tf.dense_net(1, (4,), 1), "mse")
tasks = maml_tf.tasks_from_function(lambda seed: ((x, x), (x, x)))
learner.fit(tasks, 2, progress=False)
learner.export(sys.argv[1])
"""


def test_no_extra_is_needed_to_fit_and_export(tmp_path):
    """And layers are registered with a Keras that is there before maml_tf."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, str(tmp_path / "exported")],
        env={"PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exported" / "saved_model.pb").is_file()
    assert done.stdout.startswith("Conv2D\n")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_is_refused_in_one_line(backend, tmp_path):
    said = (
        f"ImportError: maml_tf needs the TensorFlow backend .* {backend}. Set"
    )
    by_variable = python("import maml_tf", KERAS_BACKEND=backend)
    (tmp_path / "keras.json").write_text(json.dumps({"backend": backend}))
    by_file = python("import maml_tf", KERAS_HOME=str(tmp_path))
    for done in (by_variable, by_file):
        assert done.returncode == 1
        *_, last = done.stderr.splitlines()
        assert re.match(said, last)
    overruled = python(
        "import maml_tf",
        KERAS_HOME=str(tmp_path),
        KERAS_BACKEND="tensorflow",
    )
    assert overruled.returncode == 0


def test_the_public_names_are_the_packages():
    assert "Learner" in maml_tf.__all__
    assert all(hasattr(maml_tf, name) for name in maml_tf.__all__)
    assert set(maml_tf.__all__) <= set(dir(maml_tf))
    with pytest.raises(AttributeError, match="has no attribute 'Lerner'"):
        _ = maml_tf.Lerner
