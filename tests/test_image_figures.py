"""Class names above the pictures of an episode."""

import pytest

from maml_tf.experiments.figures.images import MOST_LETTERS, short_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rose", "rose"),
        ("Greek/character06", "Greek\ncharacter06"),
        ("x" * MOST_LETTERS, "x" * MOST_LETTERS),
        ("birds of paradise, red", "birds of…ise, red"),
        ("$rose_1$", "$rose_1$"),
        ("rose 花", "rose ?"),
    ],
)
def test_class_names_fit_above_a_picture(name, shown):
    assert short_name(name) == shown
