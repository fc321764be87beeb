"""Code in the documentation does what the text says."""

import contextlib
import io
import re

import pytest
from conftest import REPOSITORY


def python_blocks(name):
    text = (REPOSITORY / name).read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def run(block):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(block, "documentation", "exec"), {})
    return output.getvalue()


@pytest.mark.slow
def test_the_page_on_normalization():
    (block,) = python_blocks("docs/normalization.md")
    before, after = re.split(
        r"(?=^The meta-gradient is second)", run(block), flags=re.M
    )
    assert before.startswith("The meta-gradient is NOT the second-order one")
    assert after.startswith("The meta-gradient is second order")


@pytest.mark.parametrize("block", python_blocks("README.md"))
def test_the_readmes_python(block):
    assert "second order" in run(block)


def test_the_page_on_serving(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export, use = python_blocks("docs/serving.md")
    run(export)
    assert run(use).count("tf.Tensor") == 3
