"""Helpers of the commands that prepare data sets."""

import pathlib
from collections.abc import Callable, Sequence

from absl import flags
from rich.console import Console

from maml_tf.cli.command import errors_as_exits, parse
from maml_tf.datasets.packed_images import PackedImages


def run(
    main: Callable[[Console], None],
    argv: Sequence[str],
    values: flags.FlagValues,
    about: str | None,
    module: str,
) -> None:
    """Runs a command; the arguments are as for `parse`."""
    parse(argv, values, about, module)
    with errors_as_exits(
        "Choose another --source or --output_dir.",
        "Interrupted; nothing was packed. Run the same command to try again.",
    ):
        main(Console())


def say(console: Console, text: str) -> None:
    """Prints text verbatim: names and paths are not markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def summary(directory: pathlib.Path) -> str:
    """The contents of a packed data set, in a few lines."""
    found = PackedImages.open(directory)
    splits = found.splits.values()
    height, width, channels = next(iter(splits)).image_shape
    size = sum(path.stat().st_size for path in directory.iterdir())
    return "\n".join(
        [
            f"{found.name}: {sum(len(s.names) for s in splits)} classes, "
            f"{sum(s.counts.sum() for s in splits)} images of "
            f"{height}x{width}x{channels} ({found.about['resize']})",
            *(
                f"  {split}: {len(s.names)} classes, {s.counts.sum()} images"
                for split, s in found.splits.items()
            ),
            f"{size / 1e6:.1f} MB in {directory}",
        ]
    )
