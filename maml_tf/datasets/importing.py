"""What the commands of this directory have in common."""

import pathlib
import sys
from collections.abc import Callable

from absl import app
from rich.console import Console

from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import ExperimentError


def run(main: Callable[[Console], None]) -> None:
    """Runs a command whose flags are defined; errors become exits.

    Not by `absl.app.run`: it would start TensorFlow's devices.
    """
    app.define_help_flags()
    argv = app.parse_flags_with_usage(sys.argv)
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments: {' '.join(argv[1:])}")
    try:
        main(Console())
    except ExperimentError as e:
        sys.exit(f"error: {e}")
    except OSError as e:
        sys.exit(f"error: {e}. Choose another --source or --output_dir.")
    except KeyboardInterrupt:
        print(
            "\nInterrupted; nothing was packed. The same command tries again.",
            file=sys.stderr,
        )
        sys.exit(130)


def say(console: Console, text: str) -> None:
    """Prints text as it is: names and paths are no markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def summary(directory: pathlib.Path) -> str:
    """What a packed data set holds, in a few lines."""
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
