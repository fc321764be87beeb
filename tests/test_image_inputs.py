"""What becomes of images as people have them: pixels known by hand, or a word.

Pictures are two halves of one colour each, so that turning them, squeezing
them and JPEG leave the colours of the corners known.
"""

import io
import pathlib
import re
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from maml_tf import ImagePreparation, tasks_from_folder
from maml_tf.datasets.image_folder import import_image_folder
from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import ConfigError, DataError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
SIDE = 16


def halves(top=RED, bottom=BLUE, dtype=np.uint8):
    """An image [SIDE, SIDE, channels] of two colours."""
    image = np.empty((SIDE, SIDE, len(np.atleast_1d(top))), dtype)
    image[: SIDE // 2], image[SIDE // 2 :] = top, bottom
    return image


def picture(mode="RGB", top=RED, bottom=BLUE):
    return Image.fromarray(halves(top, bottom)).convert(mode)


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def deep(top, bottom=0, dtype=np.uint16, format="PNG"):
    """A grey image of more than 8 bits."""
    array = halves(top, bottom, dtype)[..., 0]
    return saved(Image.fromarray(array), format)


def encoded(array):
    """A PNG of 16 bits with any number of channels, by TensorFlow."""
    return tf.io.encode_png(array).numpy()


def exif(orientation, order="<", kind=3):
    """A block of EXIF data that holds an orientation."""
    mark = {"<": b"II", ">": b"MM"}[order]
    size = {3: "HH", 4: "I"}[kind]
    value = struct.pack(f"{order}{size}", orientation, *([0] * (kind == 3)))
    return (
        b"Exif\0\0"
        + mark
        + struct.pack(f"{order}HIH", 42, 8, 2)
        + struct.pack(f"{order}HHII", 0x0100, 3, 1, 0)
        + struct.pack(f"{order}HHI", 0x0112, kind, 1)
        + value
        + bytes(4)
    )


def held(orientation, format="JPEG", **how):
    return saved(picture(), format, exif=exif(orientation, **how))


def phone():
    """A JPEG with a second picture, which Pillow calls MPO."""
    return saved(
        picture(), "MPO", save_all=True, append_images=[picture(top=BLUE)]
    )


def pgm(top, white):
    """A PGM of 16 bits, which says what is white."""
    pixels = halves(top, 0, np.dtype(">u2")).tobytes()
    return f"P5 {SIDE} {SIDE} {white}\n".encode() + pixels


def tiff(array, photometric, sample_format=1):
    """A TIFF whose tags Pillow does not write, of whole numbers."""
    count = array.shape[-1]
    bits, kind = 8 * array.itemsize, struct.pack("<3H", *[sample_format] * 3)
    tags = [
        *((256, 3, 1, SIDE), (257, 3, 1, SIDE), (259, 3, 1, 1)),
        *((262, 3, 1, photometric), (277, 3, 1, count), (278, 3, 1, SIDE)),
        (279, 4, 1, array.nbytes),
    ]
    start = 8 + 2 + 12 * (len(tags) + 3) + 4
    if count == 1:
        tags += [(258, 3, 1, bits), (339, 3, 1, sample_format)]
    else:
        tags += [(258, 3, count, start), (339, 3, count, start + 6)]
    tags.append((273, 4, 1, start + 12))
    return (
        struct.pack("<2sHIH", b"II", 42, 8, len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
        + bytes(4)
        + struct.pack("<3H", *[bits] * 3)
        + kind
        + array.tobytes()
    )


GREY_OF_RED, GREY_OF_BLUE = (76,) * 3, (29,) * 3
# Name: the content of a file, and the colours at the top left, the top right,
# the bottom left and the bottom right.
ABOVE = (RED, RED, BLUE, BLUE)
FILES = {
    "RGB.png": (saved(picture(), "PNG"), ABOVE),
    "RGB.JPG": (saved(picture(), "JPEG"), ABOVE),
    "RGB.webp": (saved(picture(), "WEBP", lossless=True), ABOVE),
    "RGB.bmp": (saved(picture(), "BMP"), ABOVE),
    "RGB.tiff": (saved(picture(), "TIFF"), ABOVE),
    "RGB.tif": (saved(picture(), "TIFF", compression="tiff_lzw"), ABOVE),
    "RGB.gif": (saved(picture(), "GIF"), ABOVE),
    "RGB.ppm": (saved(picture(), "PPM"), ABOVE),
    "phone.jpg": (phone(), ABOVE),
    "wrong suffix.png": (saved(picture(), "JPEG"), ABOVE),
    "palette.png": (saved(picture().quantize(4), "PNG"), ABOVE),
    "palette.bmp": (saved(picture().quantize(4), "BMP"), ABOVE),
    "grey.png": (
        saved(picture("L"), "PNG"),
        (*[GREY_OF_RED] * 2, *[GREY_OF_BLUE] * 2),
    ),
    "one bit.png": (
        saved(picture("1", WHITE, (0, 0, 0)), "PNG"),
        (*[WHITE] * 2, *[(0,) * 3] * 2),
    ),
    "alpha.png": (
        saved(Image.fromarray(halves((0, 0, 0, 0), (0, 0, 0, 255))), "PNG"),
        (*[WHITE] * 2, *[(0,) * 3] * 2),
    ),
    "half transparent.png": (
        saved(
            Image.fromarray(halves((255, 0, 0, 51), (0, 0, 255, 255))), "PNG"
        ),
        (*[(255, 204, 204)] * 2, *[BLUE] * 2),
    ),
    "alpha.webp": (
        saved(
            Image.fromarray(halves((255, 0, 0, 0), (0, 0, 255, 255))),
            "WEBP",
            lossless=True,
        ),
        (*[WHITE] * 2, *[BLUE] * 2),
    ),
    "grey and alpha.png": (
        saved(Image.fromarray(halves((9, 0), (9, 255))), "PNG"),
        (*[WHITE] * 2, *[(9,) * 3] * 2),
    ),
    "transparent colour.png": (
        saved(picture(), "PNG", transparency=RED),
        (*[WHITE] * 2, *[BLUE] * 2),
    ),
    "grey from white.tif": (
        tiff(halves(0, 255), 0),
        (*[WHITE] * 2, *[(0,) * 3] * 2),
    ),
    "CMYK.jpg": (saved(picture("CMYK"), "JPEG"), ABOVE),
    "CMYK.tif": (saved(picture("CMYK"), "TIFF"), ABOVE),
    "YCbCr.tif": (saved(picture("YCbCr"), "TIFF"), ABOVE),
    "16 bits.png": (deep(65535), (*[WHITE] * 2, *[(0,) * 3] * 2)),
    "12 bits.png": (deep(4095, 2048), (*[WHITE] * 2, *[(128,) * 3] * 2)),
    "10 bits.tif": (
        deep(1023, 512, format="TIFF"),
        (*[WHITE] * 2, *[(128,) * 3] * 2),
    ),
    "8 of 16 bits.png": (deep(255, 17), (*[WHITE] * 2, *[(17,) * 3] * 2)),
    "32 bits.tif": (
        deep(16383, dtype=np.int32, format="TIFF"),
        (*[WHITE] * 2, *[(0,) * 3] * 2),
    ),
    "floats.tif": (
        deep(1.0, 0.2, np.float32, "TIFF"),
        (*[WHITE] * 2, *[(51,) * 3] * 2),
    ),
    "16 bits big-endian.tif": (
        deep(65535, 257, np.dtype(">u2"), "TIFF"),
        (*[WHITE] * 2, *[(1,) * 3] * 2),
    ),
    "16 bits RGB.png": (
        encoded(halves((4095, 0, 0), (0, 0, 4095), np.uint16)),
        ABOVE,
    ),
    "16 bits RGBA.png": (
        encoded(halves((65535, 0, 0, 0), (0, 0, 65535, 65535), np.uint16)),
        (*[WHITE] * 2, *[BLUE] * 2),
    ),
    "dark.pgm": (pgm(2048, 4095), (*[(128,) * 3] * 2, *[(0,) * 3] * 2)),
    "EXIF 1.jpg": (held(1), ABOVE),
    "EXIF 2.jpg": (held(2), ABOVE),
    "EXIF 3.jpg": (held(3), (BLUE, BLUE, RED, RED)),
    "EXIF 4.jpg": (held(4), (BLUE, BLUE, RED, RED)),
    "EXIF 5.jpg": (held(5), (RED, BLUE, RED, BLUE)),
    "EXIF 6.jpg": (held(6), (BLUE, RED, BLUE, RED)),
    "EXIF 7.jpg": (held(7), (BLUE, RED, BLUE, RED)),
    "EXIF 8.jpg": (held(8), (RED, BLUE, RED, BLUE)),
    "EXIF 6, big-endian.jpg": (held(6, order=">"), (BLUE, RED, BLUE, RED)),
    "EXIF 6, a long.jpg": (
        held(6, order=">", kind=4),
        (BLUE, RED, BLUE, RED),
    ),
    "EXIF of no meaning.jpg": (held(9), ABOVE),
    "EXIF 6.png": (held(6, "PNG"), (BLUE, RED, BLUE, RED)),
    "EXIF 6.webp": (
        saved(picture(), "WEBP", lossless=True, exif=exif(6)),
        (BLUE, RED, BLUE, RED),
    ),
    "EXIF 6.tif": (
        saved(picture(), "TIFF", tiffinfo={0x0112: 6}),
        (BLUE, RED, BLUE, RED),
    ),
    "EXIF 6, CMYK.jpg": (
        saved(picture("CMYK"), "JPEG", exif=exif(6)),
        (BLUE, RED, BLUE, RED),
    ),
}


def corners(image):
    return [image[i, j] for i in (1, -2) for j in (1, -2)]


@pytest.mark.parametrize("name", FILES)
def test_files(name, tmp_path):
    content, expected = FILES[name]
    (tmp_path / name).write_bytes(content)
    prepare = ImagePreparation(SIDE)
    found = prepare(tmp_path / name)
    assert (found.shape, found.dtype) == ((SIDE, SIDE, 3), np.float32)
    lossy = content.startswith(b"\xff\xd8") or "YCbCr" in name
    np.testing.assert_allclose(
        corners(found * 255), np.float32(expected), atol=4 if lossy else 1e-3
    )
    for other in (str(tmp_path / name), content, io.BytesIO(content)):
        np.testing.assert_array_equal(prepare(other), found)


def test_turning_exchanges_height_and_width(tmp_path):
    """A photograph held upright stays so: nothing is squeezed twice."""
    wide = Image.fromarray(np.concatenate([halves()] * 3, axis=1))
    (tmp_path / "a.png").write_bytes(saved(wide, "PNG", exif=exif(6)))
    found = ImagePreparation((3 * SIDE, SIDE))(tmp_path / "a.png")
    assert found.shape == (3 * SIDE, SIDE, 3)
    assert (found[:, : SIDE // 2] == (0, 0, 1)).all()
    assert (found[:, SIDE // 2 :] == (1, 0, 0)).all()


GREY, FULL = (128,) * 3, (255,) * 3
ARRAYS = {
    "uint8 RGB": (halves(), RED),
    "uint8 [h, w]": (halves(128, 0)[..., 0], GREY),
    "uint8 [h, w, 1]": (halves(128, 0), GREY),
    "uint8 and alpha": (halves((0, 0), (0, 255)), FULL),
    "uint8 RGBA": (halves((9, 9, 9, 255), (0, 0, 0, 0)), (9, 9, 9)),
    "lists": (halves().tolist(), RED),
    "int64": (halves(dtype=np.int64), RED),
    "int64 RGBA": (
        halves((9, 9, 9, 255), (255, 0, 0, 0)).astype(np.int64),
        (9, 9, 9),
    ),
    "uint16": (halves(2048, 4095, np.uint16), GREY),
    "booleans": (halves(True, False, bool), FULL),
    "floats in [0, 1]": (halves((1.0, 0, 0), (0, 0, 1.0), np.float32), RED),
    "float64 grey": (halves(0.5, 1, np.float64), GREY),
    "a tensor": (tf.constant(halves()), RED),
    "a photograph of Pillow's": (picture(), RED),
    "a palette of Pillow's": (picture().quantize(4), RED),
    "a grey one of 16 bits": (
        Image.fromarray(halves(2048, 4095, np.uint16)[..., 0]),
        GREY,
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name):
    given, expected = ARRAYS[name]
    found = ImagePreparation(SIDE)(given)
    np.testing.assert_allclose(found[0, 0] * 255, expected, atol=1e-3)


def cut(content):
    return content[: len(content) // 2]


def two_frames(format):
    other = picture(top=BLUE, bottom=RED)
    return saved(picture(), format, save_all=True, append_images=[other])


def closed_file():
    file = io.BytesIO()
    file.close()
    return file


REFUSED = {
    "empty.png": (b"", "it is not a BMP, GIF, JPEG, .* WEBP image"),
    "text.jpg": (b"<html>not found</html>", "is not a BMP"),
    "cut.png": (cut(FILES["RGB.png"][0]), "it cannot be"),
    "cut.jpg": (cut(FILES["RGB.JPG"][0]), "it cannot be"),
    "cut.webp": (cut(FILES["RGB.webp"][0]), "it "),
    "cut.tif": (cut(FILES["RGB.tif"][0]), "it "),
    "cut.gif": (FILES["RGB.gif"][0][:20], "it "),
    "cut 16 bits.png": (cut(FILES["16 bits RGB.png"][0]), "it cannot be"),
    "animated.gif": (two_frames("GIF"), "it has 2 frames; save the one"),
    "animated.webp": (two_frames("WEBP"), "it has 2 frames"),
    "animated.png": (two_frames("PNG"), "it has 2 frames"),
    "pages.tif": (two_frames("TIFF"), "it has 2 frames"),
    "metres.tif": (
        deep(37.5, dtype=np.float32, format="TIFF"),
        "values go up to 37.5, above white=1 .*say by white=",
    ),
    "not a number.tif": (
        deep(np.nan, dtype=np.float32, format="TIFF"),
        "must be finite and not negative",
    ),
    "negative.tif": (
        deep(-5, dtype=np.int32, format="TIFF"),
        "must be finite and not negative; they are from -5 to 0",
    ),
    "large.tif": (
        deep(100_000, dtype=np.int32, format="TIFF"),
        "values go up to 100000, above 65535; say by white=",
    ),
    "damaged EXIF.jpg": (
        saved(picture(), "JPEG", exif=b"Exif\0\0XX" + bytes(9)),
        "its EXIF data is damaged",
    ),
    "cut EXIF.jpg": (
        saved(picture(), "JPEG", exif=exif(6)[:-20]),
        "its EXIF data is damaged",
    ),
    "16 bits RGB.tif": (
        tiff(halves((4095, 0, 0), (0, 0, 4095), np.uint16), 2),
        "more than 8 bits, .* save it as a PNG of 16 bits",
    ),
    "signed.tif": (
        tiff(halves(-5, 5, np.int8), 1, sample_format=2),
        "its 8 bits have a sign",
    ),
    "16 bits from white.tif": (
        tiff(halves(4095, 0, np.uint16), 0),
        "its values count from white",
    ),
    "HEIC.jpg": (b"\0\0\0\x18ftypheic" + bytes(40), "is not a BMP"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused(name, tmp_path):
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        ImagePreparation(SIDE)(tmp_path / name)
    said = str(error.value)
    assert said.startswith(f"{tmp_path / name} cannot be used: it")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 4, 4, 3)), r"one image, .* shape \(2, 4, 4, 3\)"),
        (np.zeros((3, 9, 9)), r"1 to 4 channels. Received: shape \(3, 9, 9\)"),
        (np.zeros(4), "must be one image"),
        (np.zeros((0, 4, 3)), "must be one image"),
        (np.full((4, 4), -1), "must be finite and not negative"),
        (np.full((4, 4), np.inf), "must be finite"),
        (halves(dtype=np.float32), "go up to 255, above white=1 "),
        (np.zeros((4, 4), complex), "an array of numbers"),
        (np.array([["a", "b"]]), "an array of numbers"),
        (None, "Received: NoneType"),
        (np.ma.masked_equal(np.zeros((4, 4)), 0), "values are masked"),
        (closed_file(), "it cannot be read .*closed file"),
        (io.StringIO("text"), "opened in binary mode"),
        (
            Image.new("La", (4, 4)),
            r"its colours \(La\) cannot be made RGB; save it as RGB",
        ),
        ("nowhere.png", "nowhere.png cannot be used: it is missing"),
        (pathlib.Path("."), "it is not a file"),
        ("a" * 5000 + ".png", "it cannot be read"),
        ("a\0b.png", "it cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        ImagePreparation(SIDE)(given)


class TestSettings:
    @pytest.mark.parametrize(
        "size",
        [5, (5, 5), [5, 5], np.int64(5), np.array([5, 5]), (np.int32(5), 5)],
    )
    def test_a_size_is_one_number_or_two(self, size):
        assert ImagePreparation(size) == ImagePreparation((5, 5))

    def test_height_comes_first(self):
        assert ImagePreparation((3, 7))(halves()).shape == (3, 7, 3)

    @pytest.mark.parametrize(
        "size",
        [0, -1, 2.0, "84", b"84", None, True, (5,), (5, 5, 3), (5, 0), (5, 1.5)]
        + [np.zeros((2, 2), int), {5, 6}, [[1], [2, 3]], 10**6, np.array(2.5)],
    )
    def test_other_sizes_are_refused(self, size):
        with pytest.raises(ConfigError, match="size must be") as error:
            ImagePreparation(size)
        assert "Received: size=" in str(error.value)

    @pytest.mark.parametrize("white", [0, -1, np.nan, np.inf, "255", True])
    def test_white_is_a_positive_number(self, white):
        with pytest.raises(ConfigError, match="white must be a positive"):
            ImagePreparation(5, white=white)

    def test_channels(self):
        found = ImagePreparation(SIDE, channels=1)(halves())
        assert found.shape == (SIDE, SIDE, 1)
        # 0.299 * 255 = 76.2; 0.114 * 255 = 29.1
        np.testing.assert_allclose(found[[0, -1], 0, 0] * 255, [76, 29])
        with pytest.raises(ConfigError, match="channels must be 1 or 3"):
            ImagePreparation(5, channels=4)

    def test_white_can_be_told(self):
        found = ImagePreparation(SIDE, white=4000)(halves(1000, 4000, np.int16))
        np.testing.assert_allclose(found[[0, -1], 0, 0] * 255, [64, 255])
        with pytest.raises(DataError, match="up to 4001, above white=4000"):
            ImagePreparation(SIDE, white=4000)(halves(4001, 0, np.uint16))
        with pytest.raises(DataError, match="floats up to 1, but white is 40"):
            ImagePreparation(SIDE, white=4000)(halves(1, 0, np.float32))
        # Images of 8 bits tell their white.
        found = ImagePreparation(SIDE, white=4000)(halves())
        np.testing.assert_allclose(found[0, 0], [1, 0, 0])


@pytest.fixture
def folder(tmp_path):
    """Two classes of two grey images of 12 bits, one of which is dark."""
    root = tmp_path / "in"
    for name in "ab":
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(deep(4095, 300))
        (root / name / "1.png").write_bytes(deep(200, 100))
    return root


class TestFolders:
    def test_all_images_have_the_same_white(self, folder):
        stream = tasks_from_folder(folder, 2, 1, size=SIDE)
        assert stream.prepare == ImagePreparation((SIDE, SIDE), white=4095)
        levels = np.unique(stream.inputs)
        # 300, 200 and 100 of 4095
        assert levels.tolist() == [6, 12, 19, 255]

    def test_prepare_gives_what_tasks_hold(self, folder):
        stream = tasks_from_folder(folder, 2, 1, size=(6, 5), channels=1)
        support = stream.tasks(0, 1).support.inputs[0]
        assert support.shape == (2, 6, 5, 1)
        files = [stream.prepare(f) for f in sorted(folder.glob("*/*"))]
        for image in support:
            assert any(np.array_equal(image, file) for file in files)

    def test_white_is_that_of_all_splits(self, folder):
        for split in ("train", "test"):
            (folder / split).mkdir()
        for i, name in enumerate("ab"):
            (folder / name).rename(folder / "train" / name)
            other = folder / "test" / f"{name}{i}"
            other.mkdir()
            for j in range(2):
                (other / f"{j}.png").write_bytes(deep(200))
        stream = tasks_from_folder(folder, 2, 1, size=SIDE, split="test")
        assert stream.prepare.white == 4095
        assert stream.inputs.max() == 12

    def test_white_can_be_told(self, folder):
        stream = tasks_from_folder(folder, 2, 1, size=SIDE, white=8190)
        assert stream.inputs.max() == 128
        with pytest.raises(DataError, match=r"2 of 4 .*\n.*0.png: its values"):
            tasks_from_folder(folder, 2, 1, size=SIDE, white=300)

    def test_floats_beside_whole_numbers_are_refused(self, folder):
        (folder / "a" / "2.tif").write_bytes(deep(1.0, 0.5, np.float32, "TIFF"))
        with pytest.raises(DataError, match=r"1 of 5 .*\n.*2.tif: its values"):
            tasks_from_folder(folder, 2, 1, size=SIDE)

    def test_links_to_nothing_are_named(self, folder):
        (folder / "c").symlink_to(folder / "nowhere")
        with pytest.raises(DataError, match="c: it links to what is missing"):
            tasks_from_folder(folder, 2, 1, size=4)

    def test_packed_images_have_the_same_white(self, folder, tmp_path):
        (folder / "c").mkdir()
        (folder / "c" / "0.png").write_bytes(deep(100))
        import_image_folder(
            folder, tmp_path / "out", "mine", (4, 6), Console(quiet=True)
        )
        packed = PackedImages.open(tmp_path / "out")
        assert packed.about["white"] == "4095 in images of more than 8 bits"
        assert packed.about["resize"] == "4x6 with Lanczos"
        found = {
            name: split.images[first : first + count]
            for split in packed.splits.values()
            for name, first, count in zip(
                split.names, split.firsts, split.counts, strict=True
            )
        }
        assert found["c"].shape == (1, 4, 6, 3)
        assert found["c"].max() == 6

    @pytest.mark.parametrize(
        "name",
        ["Thumbs.db", "thumbs.db", "desktop.ini", "Desktop.ini", ".DS_Store"]
        + ["._0.png", "ehthumbs.db", "Icon\r", "Picasa.ini", ".nomedia"]
        + ["@eaDir/0.png", "__MACOSX/a/0.png", ".ipynb_checkpoints/0.png"],
    )
    @pytest.mark.parametrize("place", [".", "a"])
    def test_clutter_is_passed_over(self, folder, name, place):
        path = folder / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"clutter")
        stream = tasks_from_folder(folder, 2, 1, size=4)
        assert stream.groups.names == ("a", "b")
        assert len(stream.inputs) == 4

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("notes.txt", "it is not a .jpg, .jpeg, "),
            ("photo.HEIC", "it is not a .jpg, .jpeg, "),
            ("film.mp4", "it is not a .jpg"),
            ("photo", "it is not a .jpg"),
            ("photo.jpg.part", "it is not a .jpg"),
            ("photo.jpg", "it is not a BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP"),
            ("more/0.png", "it is a folder; a class' folder holds images only"),
        ],
    )
    def test_other_files_are_named(self, folder, name, why):
        (folder / "a" / name).parent.mkdir(exist_ok=True)
        (folder / "a" / name).write_bytes(b"something")
        said = re.escape(f"{folder / 'a' / name.split('/')[0]}: {why}")
        with pytest.raises(DataError, match=f"1 of 5 files.*\n  {said}"):
            tasks_from_folder(folder, 2, 1, size=4)

    @pytest.mark.parametrize("size", [0, (4, 4, 3), "small"])
    def test_sizes_are_refused_before_anything_is_read(self, tmp_path, size):
        with pytest.raises(ConfigError, match="size must be"):
            tasks_from_folder(tmp_path / "nowhere", size=size)
