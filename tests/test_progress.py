"""Progress: what is shown of iterations, rate and losses."""

import io
import re
import time

from rich.console import Console

from maml_tf.progress import TrainingProgress


def shown(terminal: bool, *calls, pause=0.0, total=10):
    """What a console gets of calls, the first of which comes after a pause."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120)
    with TrainingProgress(console, "maml", 0, total, "compiling") as progress:
        time.sleep(pause)
        for call in calls:
            progress(*call)
    return file.getvalue()


def test_the_rate_does_not_count_compilation():
    text = shown(False, (1, {}), (10, {}), pause=0.5)
    (rate,) = re.findall(r"([\d.e+]+) it/s", text)
    assert float(rate) > 10 / 0.5


def test_no_rate_and_no_time_left_after_one_call():
    text = shown(False, (10, {"pre_update": 1.5}))
    assert "10/10" in text
    assert "it/s" not in text
    assert "left" not in text


def test_a_terminal_says_that_it_compiles():
    assert "compiling" in shown(True, pause=0.2)


def test_losses_are_named_by_their_sets():
    losses = {"pre_update": 4.25, "post_update": 1.5, "validation loss": 2.0}
    text = shown(False, (10, losses))
    assert "support before 4.25  query after 1.50  validation loss 2.00" in text
