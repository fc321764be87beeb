"""Code in the documentation does what the text says."""

import contextlib
import io
import re

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image


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


def test_the_readmes_engine():
    _, block = python_blocks("README.md")
    assert "second order" in run(block)


def test_the_page_on_serving(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export, use = python_blocks("docs/serving.md")
    run(export)
    assert run(use).count("tf.Tensor") == 3


def test_the_readmes_folder_of_images(tmp_path, monkeypatch):
    """As it stands, but for the number of iterations and of filters."""
    block, _ = python_blocks("README.md")
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    rng = np.random.default_rng(0)
    for c in range(30):
        (tmp_path / "images" / f"{c}").mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(256, size=(40, 30, 3), dtype=np.uint8)
            path = tmp_path / "images" / f"{c}" / f"{i}.jpg"
            Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    for old, new in (
        ("iterations=3000", "iterations=2"),
        ("num_ways=5)", "num_ways=5, num_filters=4)"),
        ("evaluate(test)", "evaluate(test, 10)"),
    ):
        assert block.count(old) == 1
        block = block.replace(old, new)
    output = run(block)
    assert "10 tasks, mean ± 95 % interval" in output
    assert re.search(r"\[\d \d \d \d \d\]$", output.strip())


@pytest.mark.parametrize(
    "name", ["docs/my_data.md", "docs/my_model.md", "docs/one_image.md"]
)
def test_the_pages_on_own_data_and_models(name, tmp_path, monkeypatch):
    """The blocks of a page are one program."""
    monkeypatch.chdir(tmp_path)
    assert run("\n".join(python_blocks(name)))
