"""What the commands of this directory have in common."""

import contextlib
import io
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator

from absl import app
from PIL import Image
from rich.console import Console

from maml_tf.errors import DataError, ExperimentError
from maml_tf.packed_images import PackedImages


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
    except (ExperimentError, OSError) as e:
        sys.exit(f"error: {e}")
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


@contextlib.contextmanager
def refusing_bombs() -> Iterator[None]:
    """Turns Pillow's warning of a decompression bomb into an error.

    Filters of warnings belong to the process: this is for the thread that
    starts others, not for each of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(
    source: bytes | pathlib.Path, formats: tuple[str, ...]
) -> Image.Image:
    """Reads an image's header, to be decoded when its content is asked for.

    Raises:
        DataError: if it is no image of these formats, or far too large.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise DataError("it has too many pixels to be decoded safely") from e
    except FileNotFoundError as e:
        raise DataError("it is missing") from e
    except Image.UnidentifiedImageError as e:
        raise DataError(f"it is not a {' or '.join(formats)} image") from e
    except Exception as e:  # Pillow's parsers raise whatever they run into.
        raise DataError(f"it cannot be read ({e})") from e


def decode(image: Image.Image) -> None:
    """Decodes an image that `open_image` returned.

    Raises:
        DataError: if its content is damaged.
    """
    try:
        image.load()
    except Exception as e:  # as above
        raise DataError(f"it cannot be decoded ({e})") from e
