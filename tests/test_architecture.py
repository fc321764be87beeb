"""Imports between packages, their sizes, and where flags are named."""

import ast
import collections
import functools
import graphlib
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Imports go to a floor further up in this table. A package, or a module beside
# the packages; those of the first floor may import each other.
FLOORS = (
    (
        "errors",
        "files",
        "plotting",
        "progress",
        "provenance",
        "runtime",
        "uniforms",
        "version",
    ),
    ("layers", "datasets"),
    ("core", "models"),
    ("methods", "tasks"),
    ("export", "objectives", "training"),
    ("learner", "rl"),
    ("experiments", "api", ""),  # "" is maml_tf/__init__.py
    ("cli",),
    ("__main__",),
)
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}
MOST_FLOORS = 8
MOST_LINES = 3000

FLAG = re.compile(r"(?<![\w-])--[a-z]")
# A command that the user is to type; options of another program.
COMMAND = "python -m maml_tf "
OPTIONS_OF_GIT = {"--porcelain", "--untracked-files=no"}


class Import(NamedTuple):
    """An import of `target` by `module`; both are full names of modules."""

    module: str
    target: str
    for_types: bool  # below `if TYPE_CHECKING`


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The parsed modules of the package, by name."""
    found = {}
    for path in sorted((ROOT / "maml_tf").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(), path)
    return found


@functools.cache
def imports() -> list[Import]:
    return [
        Import(module, target, for_types)
        for module, tree in trees().items()
        for target, for_types in _imports_below(tree, False)
    ]


def _imports_below(
    node: ast.AST, for_types: bool
) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, for_types) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports name the package in full"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield (whole if whole in trees() else node.module), for_types
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.body:
            yield from _imports_below(child, True)
        for child in node.orelse:
            yield from _imports_below(child, for_types)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imports_below(child, for_types)


def own_imports() -> list[Import]:
    """The imports of modules of the package."""
    return [i for i in imports() if i.target.split(".")[0] == "maml_tf"]


def package(module: str) -> str:
    """Its name in `FLOORS`."""
    return module.partition(".")[2].split(".")[0]


def test_every_package_has_a_floor():
    assert {package(module) for module in trees()} == set(FLOOR)


def test_imports_go_down():
    wrong = []
    for module, target, for_types in own_imports():
        here, there = FLOOR[package(module)], FLOOR[package(target)]
        sideways = for_types or here == 0 or package(module) == package(target)
        if there > here or (there == here and not sideways):
            wrong.append(f"{module} -> {target}")
    assert not wrong


def test_no_module_imports_itself_by_way_of_others():
    graph = collections.defaultdict(set)
    for module, target, for_types in own_imports():
        if not for_types:
            graph[module].add(target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_packages_are_on_few_floors():
    packages = {
        path.parent.name for path in (ROOT / "maml_tf").glob("*/__init__.py")
    }
    graph = {name: set() for name in packages}
    for module, target, _ in own_imports():
        ends = package(module), package(target)
        if packages.issuperset(ends) and ends[0] != ends[1]:
            graph[ends[0]].add(ends[1])
    floors = {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        floors[name] = 1 + max((floors[x] for x in graph[name]), default=0)
    assert max(floors.values()) <= MOST_FLOORS


def test_packages_are_small():
    lines = collections.Counter()
    for path in (ROOT / "maml_tf").rglob("*.py"):
        directory = str(path.parent.relative_to(ROOT))
        lines[directory] += path.read_text().count("\n")
    large = {name: n for name, n in lines.items() if n > MOST_LINES}
    assert not large


def test_the_algorithms_need_tensorflow_only():
    found = {
        i.target.split(".")[0]
        for i in imports()
        if i.module == "maml_tf.core.maml"
    }
    assert found - sys.stdlib_module_names == {"tensorflow"}


@pytest.mark.parametrize(
    "directory", ["benchmarks", "data", "examples", "tests"]
)
def test_the_package_does_without(directory):
    found = [i for i in imports() if i.target.split(".")[0] == directory]
    assert not found


def _flags_in(module: str) -> list[str]:
    """Strings that name a flag where none should be named."""
    documented = (
        ast.Module,
        ast.ClassDef,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
    )
    nodes = list(ast.walk(trees()[module]))
    docstrings = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, documented) and ast.get_docstring(node) is not None
    }
    found = []
    for node in nodes:
        if not isinstance(node, ast.Constant) or not isinstance(
            node.value, str
        ):
            continue
        if id(node) in docstrings:
            found += [
                paragraph
                for paragraph in node.value.split("\n\n")
                if FLAG.search(paragraph) and "original" not in paragraph
            ]
        elif FLAG.search(node.value) and COMMAND not in node.value:
            found.append(node.value)
    return found


def test_only_the_command_line_names_flags():
    found = {
        module: flags
        for module in trees()
        if package(module) != "cli" and (flags := _flags_in(module))
    }
    of_git = found.pop("maml_tf.provenance", [])
    assert set(of_git) <= OPTIONS_OF_GIT
    assert not found
