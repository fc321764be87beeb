"""Code in the documentation does what the text says."""

import contextlib
import io
import pkgutil
import re

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

import maml_tf
from maml_tf import api

PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for pattern in ("*.md", "docs/*.md", "*/README.md", "maml_tf/**/*.md")
    for path in REPOSITORY.glob(pattern)
)


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
    export, use, images = python_blocks("docs/serving.md")
    run(export)
    assert run(use).count("tf.Tensor") == 3
    assert run(images).count("tf.Tensor") == 3


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
    "name",
    [
        "docs/methods.md",
        "docs/my_data.md",
        "docs/my_model.md",
        "docs/one_image.md",
    ],
)
def test_the_pages_on_own_data_and_models(name, tmp_path, monkeypatch):
    """The blocks of a page are one program."""
    monkeypatch.chdir(tmp_path)
    assert run("\n".join(python_blocks(name)))


def exists(name):
    """Whether a dotted name is a module, or something within one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_names_in_a_page_exist(page):
    text = (REPOSITORY / page).read_text()
    paths = re.findall(
        r"(?<![\w/.-])(?:maml_tf|data|benchmarks|docs|examples|tests)"
        r"/[\w/]+(?:\.(?:py|md|txt|png)\b|/(?=[`)\s]))",
        text,
    )
    # Made by the commands, not part of the repository
    paths = [x for x in paths if not x.startswith("data/packed")]
    paths = [x for x in paths if x != "data/downloads/"]
    # Below MAML_TF_SHARED
    paths = [
        x
        for x in paths
        if x not in ("data/omniglot/", "data/original_checkpoint/")
    ]
    assert [x for x in paths if not (REPOSITORY / x).exists()] == []
    names = re.findall(r"\bmaml_tf(?:\.[a-zA-Z]\w*)+", text)
    assert [x for x in names if not exists(x)] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_in_a_page_lead_somewhere(page):
    path = REPOSITORY / page
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in link:
            continue
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if heading:
            assert heading in headings(target), link


def headings(page):
    """Names by which GitHub links to a page's headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", x).lower().replace(" ", "-") for x in found}


def test_the_readmes_map_names_files_that_exist():
    text = (REPOSITORY / "README.md").read_text()
    section = text.split("## Where things are")[1].split("To add something")[0]
    folders = {0: REPOSITORY}  # by indentation of what they hold
    for line in re.findall(r"^    ( *\S.*)$", section, flags=re.M):
        depth = len(line) - len(line.lstrip())
        first = line.split()[0]
        if first.endswith("/"):
            folders[depth + 2] = folders[depth] / first
            assert folders[depth + 2].is_dir(), line
        for name in re.findall(r"(?<!docs/)\b\w+\.py\b", line):
            inside = folders[depth + 2 if first.endswith("/") else depth]
            places = (inside, folders[depth])
            assert any((p / name).is_file() for p in places), line


def test_every_module_can_be_found_in_the_readmes_map():
    """By its package, or by its name where it lies flat."""
    text = (REPOSITORY / "README.md").read_text()
    section = text.split("## Where things are")[1].split("To add something")[0]
    for path in (REPOSITORY / "maml_tf").iterdir():
        if path.name.startswith("__") or path.suffix not in ("", ".py"):
            continue
        name = f"{path.name}/" if path.is_dir() else path.name
        assert re.search(rf"(?m)(^|\s){re.escape(name)}(\s|$)", section), name


def test_the_list_of_public_names_is_complete():
    text = (REPOSITORY / "docs" / "api.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", text, flags=re.M)
    assert sorted(listed) == sorted(api.__all__)
    for name in listed:
        assert getattr(maml_tf, name) is getattr(api, name)
