"""The examples run, and their output shows that adaptation helps."""

import pytest

from examples import (
    head_only,
    own_images,
    own_regression,
    sequences,
    two_inputs,
)


@pytest.mark.parametrize(
    "example",
    [
        own_regression,
        pytest.param(sequences, marks=pytest.mark.slow),
        pytest.param(two_inputs, marks=pytest.mark.slow),
    ],
)
def test_regression(example, capsys, tmp_path):
    arguments = {"directory": tmp_path} if example is own_regression else {}
    scores = example.main(iterations=50, num_tasks=20, **arguments)
    assert "20 tasks, mean ± 95 % interval" in capsys.readouterr().out
    assert scores.mean("loss") < scores.mean("loss", 0)
    if example is own_regression:
        assert (tmp_path / "own_regression.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("example", [own_images, head_only])
def test_images(example, capsys):
    arguments = {"epochs": 1} if example is head_only else {}
    scores = example.main(
        iterations=2, num_tasks=4, num_classes=30, filters=4, **arguments
    )
    assert "4 tasks, mean ± 95 % interval" in capsys.readouterr().out
    assert 0 <= scores.mean("accuracy") <= 1
    assert scores.mean("loss") < scores.mean("loss", 0)
