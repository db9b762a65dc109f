"""Readers of image and video sets: each gives back what was written, or says what is wrong with it."""

import hashlib
import io
import random
import re
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from rdm.data.sources import is_class_sorted, open_images, open_videos
from rdm.data.sources.arrays import CHUNK
from rdm.errors import UsageError
from rdm.provenance.files import digest

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (10, 6, 8, 3), np.uint8)
VIDEOS = RNG.integers(0, 256, (4, 5, 6, 8, 3), np.uint8)
LABELS = np.arange(10) % 3


def save_shards(folder, pixels=IMAGES, labels=LABELS):
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    for start in (8, 0, 4):
        part = slice(start, start + 4)
        np.savez(folder / f"{start:05d}.npz", arr_0=pixels[part], **({} if labels is None else {"arr_1": labels[part]}))


def save_folder(folder, images=IMAGES, labels=LABELS, suffix=".png"):
    for number, image in enumerate(images):
        name = folder / ("" if labels is None else f"class{labels[number]}") / f"{number:03d}{suffix}"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(name, lossless=True)


def save_zip(path, images=IMAGES):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._000.png", b"no image")
        for number in reversed(range(len(images))):
            archive.writestr(f"{number:03d}.png", png(images[number]))


def png(image):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, "PNG")
    return stream.getvalue()


def save_video(path, frames=16, size=64, codec="mpeg4", value=10):
    """Frame k is of the grey value 10 k, or of noise if `value` is None."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height = size, size // 2
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(frames):
            shape = (size // 2, size, 3)
            noise = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
            frame = noise if value is None else np.full(shape, value * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


# ---- what is right

IMAGE_SETS = {
    "stored.npz": lambda path: np.savez(path, arr_0=IMAGES, arr_1=LABELS),
    "deflated.npz": lambda path: np.savez_compressed(path, arr_0=IMAGES, arr_1=LABELS),
    "set.safetensors": lambda path: save_file({"arr_0": IMAGES, "arr_1": LABELS, "mask": VIDEOS}, path),
    "shards": save_shards,
    "folder": lambda path: (save_folder(path), (path / ".hidden.png").write_text("no image")),
    "webp": lambda path: save_folder(path, suffix=".webp"),
    "set.npy": lambda path: np.save(path, IMAGES),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(IMAGES)),
    "single.safetensors": lambda path: save_file({"images": IMAGES, "mu": LABELS}, path),
    "set.zip": save_zip,
    "captions.npz": lambda path: np.savez(path, arr_0=IMAGES, arr_1=np.array(["a cat"] * 10)),
}
WITHOUT_LABELS = {"set.npy", "fortran.npy", "single.safetensors", "set.zip", "captions.npz"}


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_images_come_back_in_order(tmp_path, name):
    path = tmp_path / name
    IMAGE_SETS[name](path)
    images = open_images(path)
    by_class = np.argsort(LABELS, kind="stable") if name in ("folder", "webp") else np.arange(10)
    assert images.shape == (10, 6, 8, 3)
    assert images.path == path
    for start, stop in ((0, 10), (3, 9), (4, 8), (9, 10)):  # over, within and at the borders of shards
        part = images.read(start, stop)
        assert part.dtype == np.uint8
        np.testing.assert_array_equal(part, IMAGES[by_class][start:stop])
    if name in WITHOUT_LABELS:
        assert images.labels is None
    else:
        assert images.labels.dtype == np.int64
        np.testing.assert_array_equal(images.labels, LABELS[by_class])


def test_grey_images_have_one_channel(tmp_path):
    grey = IMAGES[..., :1]
    save_folder(tmp_path / "set", grey, labels=None)
    np.savez(tmp_path / "set.npz", arr_0=grey)
    for name in ("set", "set.npz"):
        np.testing.assert_array_equal(open_images(tmp_path / name).read(0, 10), grey)


@pytest.mark.parametrize("name", ["stored.npz", "set.npy", "set.safetensors", "shards"])
def test_stored_arrays_are_not_copied(tmp_path, name):
    """What is read is the file itself: a byte that changes there changes here."""
    path = tmp_path / name
    IMAGE_SETS[name](path)
    part = open_images(path).read(1, 3)
    base = part
    while not isinstance(base, np.memmap):
        base = base.base
    file = Path(base.filename)
    content = file.read_bytes()
    place = content.index(IMAGES[1].tobytes())
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(bytes([content[place] ^ 255]))
    assert part[0, 0, 0, 0] == IMAGES[1, 0, 0, 0] ^ 255


@pytest.mark.parametrize("name", ["folder", "set.zip", "set.safetensors", "shards"])
def test_threads_read_at_once(tmp_path, name):
    path = tmp_path / name
    IMAGE_SETS[name](path)
    images = open_images(path)
    starts = [number % 9 for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: images.read(start, start + 2), starts))
    whole = images.read(0, 10)
    assert all(np.array_equal(part, whole[start : start + 2]) for part, start in zip(parts, starts, strict=True))


def test_digests(tmp_path):
    """Of a file as sha256sum has it; of a folder, of what belongs to the set and nothing else."""
    np.save(tmp_path / "set.npy", IMAGES)
    assert open_images(tmp_path / "set.npy").digest == sha256(tmp_path / "set.npy")
    save_zip(tmp_path / "set.zip")
    assert open_images(tmp_path / "set.zip").digest == sha256(tmp_path / "set.zip")
    save_shards(tmp_path / "shards")
    expected = digest({f"{n:05d}.npz": sha256(tmp_path / f"shards/{n:05d}.npz") for n in (0, 4, 8)})
    assert open_images(tmp_path / "shards").digest == expected
    save_folder(tmp_path / "folder", IMAGES[:2])
    before = open_images(tmp_path / "folder").digest
    names = ("class0/000.png", "class1/001.png")
    assert before == digest({name: sha256(tmp_path / "folder" / name) for name in names})
    (tmp_path / "folder/notes.txt").write_text("no image")
    assert open_images(tmp_path / "folder").digest == before
    (tmp_path / "folder/class0/000.png").rename(tmp_path / "folder/class0/002.png")
    assert open_images(tmp_path / "folder").digest != before


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 0, 1, 1], True),
        ([1, 1, 0, 0, 0], True),
        ([0, 1, 0, 1], False),
        ([0, 0, 1, 1, 0], False),
        ([0, 0, 0], False),
        ([0, 1, 2], False),
        ([2, 0, 0], True),
    ],
)
def test_is_class_sorted(labels, expected):
    assert is_class_sorted(np.array(labels)) is expected


def test_images_both_inside_and_outside_of_subfolders_have_no_labels(tmp_path):
    save_folder(tmp_path)
    Image.fromarray(IMAGES[0]).save(tmp_path / "z.png")
    images = open_images(tmp_path)
    assert images.shape[0] == 11
    assert images.labels is None


def test_linked_class_folders_are_followed(tmp_path):
    save_folder(tmp_path / "elsewhere", labels=None)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "elsewhere")
    assert open_images(tmp_path / "set").shape[0] == 10


def save_frames(path, parents=("a", "a", "b", "b")):
    for number, video in enumerate(VIDEOS):
        save_folder(path / parents[number] / f"v{number}", video, labels=None)


@pytest.mark.parametrize(
    "name", ["stored.npz", "deflated.npz", "set.npy", "set.safetensors", "shards", "a/b", "frames"]
)
def test_videos_come_back_in_order(tmp_path, name):
    path = tmp_path / name
    saves = {
        "stored.npz": lambda: np.savez(path, arr_0=VIDEOS, arr_1=[0, 0, 1, 1]),
        "deflated.npz": lambda: np.savez_compressed(path, arr_0=VIDEOS, arr_1=[0, 0, 1, 1]),
        "set.npy": lambda: np.save(path, VIDEOS),
        "set.safetensors": lambda: save_file({"arr_0": VIDEOS, "arr_1": np.array([0, 0, 1, 1])}, path),
        "shards": lambda: save_shards(path, np.tile(VIDEOS, (3, 1, 1, 1, 1))[:10], None),
        "a/b": lambda: save_frames(path),
        "frames": lambda: save_frames(path, [""] * 4),
    }
    saves[name]()
    videos = open_videos(path)
    labels = None if name in ("set.npy", "shards", "frames") else [0, 0, 1, 1]
    assert (videos.labels if labels is None else videos.labels.tolist()) == labels
    assert videos.count == (10 if name == "shards" else 4)
    assert videos.frame_shape == (6, 8, 3)
    for index in range(videos.count):
        assert videos.length(index) == 5
        np.testing.assert_array_equal(videos.read(index, [4, 1, 1]), VIDEOS[index % 4][[4, 1, 1]])
    assert videos.digest == open_videos(path).digest


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "mpeg4"), ("avi", "mpeg4"), ("mov", "mpeg4"), ("webm", "libvpx"), ("gif", "gif")]
)
def test_video_files(tmp_path, suffix, codec):
    """Lengths, and frames by number; the webm header has no length."""
    for name, frames in (("b/0", 12), ("a/1", 7), ("a/0", 9)):
        path = tmp_path / f"{name}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        save_video(path, frames, codec=codec)
    videos = open_videos(tmp_path)
    assert videos.labels.tolist() == [0, 0, 1]
    assert [videos.length(index) for index in range(videos.count)] == [9, 7, 12]
    frames = videos.read(1, [6, 0, 3, 3])
    assert frames.shape == (4, *videos.frame_shape) == (4, 32, 64, 3)
    assert frames.dtype == np.uint8
    tolerance = 20 if suffix == "gif" else 5  # a gif here has 3 or 2 bits per channel
    np.testing.assert_allclose(frames.mean((1, 2, 3)), [60, 0, 30, 30], atol=tolerance)
    np.testing.assert_array_equal(frames[2], frames[3])


# ---- what is wrong


def refused(call, *messages):
    """One clear sentence, with exit code 2, that holds all `messages`."""
    with pytest.raises(UsageError) as caught:
        call()
    for message in messages:
        assert re.search(message, str(caught.value)), str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def read_all(path):
    images = open_images(path)
    return images.read(0, images.shape[0])


@pytest.mark.parametrize("open_set", [open_images, open_videos])
def test_paths_that_hold_no_set(tmp_path, open_set):
    refused(lambda: open_set(tmp_path / "none.npz"), r"none.npz is not there; check the path")
    refused(lambda: open_set(tmp_path), r"holds none of npz shards, .*images \(.png, .jpg, .jpeg, .webp\)")
    (tmp_path / "set.tar").write_text("")
    refused(lambda: open_set(tmp_path / "set.tar"), r"set.tar is of an unknown type; give a .npz, .npy, .safetensors")
    np.savez(tmp_path / "0.npz", arr_0=IMAGES)
    (tmp_path / "0.png").write_bytes(png(IMAGES[0]))
    refused(lambda: open_set(tmp_path), r"npz shards, such as 0.npz, and images .*such as 0.png,")


def test_shards_of_several_sets_are_not_joined(tmp_path):
    save_shards(tmp_path / "one")
    save_shards(tmp_path / "two")
    refused(lambda: open_images(tmp_path), "holds none of npz shards")


def test_zip_without_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("notes.txt", "")
        archive.writestr(".hidden/0.png", "")
    refused(lambda: open_images(tmp_path / "set.zip"), "set.zip holds no images; .png, .jpg, .jpeg, .webp are known")


@pytest.mark.parametrize("name", ["stored.npz", "deflated.npz", "set.npy", "set.safetensors", "set.zip"])
@pytest.mark.parametrize("change", ["cut", "text", "empty"])
def test_files_that_are_not_whole(tmp_path, name, change):
    path = tmp_path / name
    IMAGE_SETS[name](path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"not what it says\n" * 99, "empty": b""}[change])
    refused(
        lambda: open_images(path), f"{name} cannot be read as a whole {path.suffix[1:] if name == 'set.zip' else ''}"
    )


@pytest.mark.parametrize("name", ["stored.npz", "deflated.npz", "set.npy", "set.safetensors", "set.zip", "folder"])
def test_damage_anywhere_is_a_usage_error_or_other_pixels(tmp_path, name):
    path = tmp_path / name
    IMAGE_SETS[name](path)
    file = path / "class0" / "003.png" if path.is_dir() else path
    content = file.read_bytes()
    generator = random.Random(0)
    places = [p for p in range(len(content)) if p < 200 or p > len(content) - 200 or generator.random() < 0.03]
    refusals = []
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= generator.randrange(1, 256)
        file.write_bytes(damaged)
        try:
            read_all(path)
        except UsageError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert all(message.startswith(str(file)) for message in refusals)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_image_is_named(tmp_path, kind, damage):
    whole = png(IMAGES[0])
    middle = len(whole) // 2
    bad = whole[:middle] if damage == "cut" else whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    content = {"a/0.png": whole, "a/1.png": bad}
    path = tmp_path / ("set.zip" if kind == "zip" else "set")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    else:
        (path / "a").mkdir(parents=True)
        for name, data in content.items():
            (path / name).write_bytes(data)
    refused(lambda: read_all(path), f"{path}/a/1.png cannot be read as an image .*; replace or remove it")


def test_damaged_zip_member_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("0.png", png(IMAGES[0]))
        archive.writestr("1.png", png(IMAGES[1]))
    content = bytearray((tmp_path / "set.zip").read_bytes())
    content[content.index(b"IDAT", content.index(b"1.png")) + 20] ^= 255
    (tmp_path / "set.zip").write_bytes(content)
    refused(lambda: read_all(tmp_path / "set.zip"), "set.zip/1.png cannot be read as an image .*CRC")


def test_images_of_two_sizes(tmp_path):
    save_folder(tmp_path, labels=None)
    Image.fromarray(IMAGES[0, :4]).save(tmp_path / "z.png")
    refused(lambda: read_all(tmp_path), "z.png is 4x8x3 .* but .*000.png is 6x8x3; give all of the set the same size")
    Image.fromarray(IMAGES[0, ..., 0]).save(tmp_path / "z.png")
    refused(lambda: read_all(tmp_path), "z.png is 6x8x1 .* but .*000.png is 6x8x3")


def test_other_formats_under_a_known_suffix(tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "0.png", "BMP")
    refused(lambda: open_images(tmp_path), "0.png cannot be read as an image")


def deep_png():
    """A 16-bit RGB PNG, which Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(26))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "mode"),
    [(png(Image.new(mode, (8, 6))), mode) for mode in ("LA", "RGBA", "P", "1")]
    + [(png(Image.new("I;16", (8, 6))), "I;16 with 16 bits")]
    + [(deep_png(), "RGB with 16 bits")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_of_other_modes(tmp_path, content, mode):
    (tmp_path / "0.png").write_bytes(content)
    refused(lambda: open_images(tmp_path), f"0.png is an image of mode {mode}; convert the set to RGB or to 8-bit grey")


WITH_NAN = IMAGES.astype(np.float32)
WITH_NAN[3, 2, 1, 0] = np.nan
LATE = np.zeros((CHUNK + 2, 2, 2, 1), np.float32)
LATE[-1] = 7


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (IMAGES / np.float32(127.5) - 1, r"is of float32 \(-1..1\), not uint8; .*array.round\(\).clip\(0, 255\)"),
        (WITH_NAN, r"is of float32 \(0..255, NaN among them\), not uint8"),
        (LATE, r"is of float32 \(0..7\), not uint8"),
        (IMAGES.astype(np.int64), r"is of int64 \(0..255\), not uint8"),
        (IMAGES > 0, r"is of bool \(0..1\), not uint8"),
        (IMAGES[..., [0, 1, 2, 0]], r"has an alpha channel.*drop it"),
        (IMAGES[..., 0], r"shape \(10, 6, 8\): the channel axis is missing"),
        (IMAGES.transpose(0, 3, 1, 2), r"\(10, 3, 6, 8\).*transpose it to NHWC"),
        (IMAGES[..., :1].transpose(0, 3, 1, 2), r"\(10, 1, 6, 8\).*transpose it to NHWC"),
        (IMAGES[..., :2], r"\(10, 6, 8, 2\).*1 or 3 channels"),
        (VIDEOS, r"that of videos; score it by a protocol for videos"),
        (IMAGES[:0], r"is empty"),
        (IMAGES[0, 0], r"images have the axes NHWC"),
    ],
    ids=["float", "nan", "late", "int", "bool", "alpha", "grey", "nchw", "n1hw", "two", "videos", "empty", "flat"],
)
@pytest.mark.parametrize("suffix", ["npz", "npy", "safetensors"])
def test_arrays_that_are_no_images(tmp_path, suffix, array, message):
    path = tmp_path / f"set.{suffix}"
    saves = {"npz": np.savez, "npy": np.save, "safetensors": lambda p, a: save_file({"arr_0": a.copy(order="C")}, p)}
    saves[suffix](path, array)
    refused(lambda: open_images(path), f"{path}: the array .*{message}")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (IMAGES, "that of images; score it by a protocol for images"),
        (VIDEOS.transpose(0, 1, 4, 2, 3), "transpose it to NTHWC"),
        (VIDEOS.transpose(0, 4, 1, 2, 3), "transpose it to NTHWC"),
        (VIDEOS.astype(np.float16), r"is of float16 \(0..255\)"),
        (VIDEOS[:, :0], "is empty"),
    ],
    ids=["images", "ntchw", "ncthw", "float", "empty"],
)
def test_arrays_that_are_no_videos(tmp_path, array, message):
    np.savez(tmp_path / "set.npz", array)
    refused(lambda: open_videos(tmp_path / "set.npz"), f"set.npz: the array .*{message}")


def test_names_and_labels_of_arrays(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, mu=np.zeros(3), sigma=np.zeros((3, 3)))
    refused(lambda: open_images(path), "set.npz holds no arr_0 but mu, sigma; save the pixels as arr_0")
    np.savez(path, arr_0=IMAGES, arr_1=LABELS[:-1])
    refused(lambda: open_images(path), "set.npz holds 10 items but 9 labels")
    save_file({"a": IMAGES, "b": IMAGES}, tmp_path / "set.safetensors")
    refused(lambda: open_images(tmp_path / "set.safetensors"), "holds a, b; save the pixels as arr_0")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, np.save])
def test_pickles_are_not_loaded(tmp_path, save):
    path = tmp_path / ("set.npy" if save is np.save else "set.npz")
    save(path, np.array([{"a": 1}] * 3, dtype=object))
    refused(lambda: open_images(path), r"holds Python objects \(a pickle\), which are never loaded")


def test_shards_must_fit_together(tmp_path):
    save_shards(tmp_path / "sizes")
    np.savez(tmp_path / "sizes/00008.npz", arr_0=IMAGES[:, :4], arr_1=LABELS)
    refused(lambda: open_images(tmp_path / "sizes"), "00008.npz is 4x8x3 .* but .*00000.npz is 6x8x3")
    save_shards(tmp_path / "labels")
    np.savez(tmp_path / "labels/00008.npz", arr_0=IMAGES)
    refused(lambda: open_images(tmp_path / "labels"), "only 2 of its 3 shards hold labels")


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mov", "gif", "webm"])
def test_text_with_the_name_of_a_video(tmp_path, suffix):
    save_video(tmp_path / "a.mp4")
    for text in ("hello\n" * 500, "ffconcat version 1.0\nfile a.mp4\n", ""):
        (tmp_path / f"b.{suffix}").write_text(text)
        refused(lambda: open_videos(tmp_path).read(1, [0]), rf"b.{suffix} cannot be read as a video \(.*\); replace or")


def test_damaged_video_is_named(tmp_path):
    """A damaged frame is not made up from its neighbours."""
    save_video(tmp_path / "a.avi", value=None)
    content = bytearray((tmp_path / "a.avi").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    (tmp_path / "b.avi").write_bytes(content)
    videos = open_videos(tmp_path)
    assert videos.length(1) == 16
    refused(lambda: videos.read(1, [15]), "b.avi cannot be read as a video")


def test_video_that_ends_early_is_named(tmp_path):
    save_video(tmp_path / "a.avi", value=None)
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(content[: content.rindex(b"00dc", 0, content.rindex(b"idx1"))])
    videos = open_videos(tmp_path)
    assert videos.read(1, [14]).shape == (1, 32, 64, 3)
    refused(lambda: videos.read(1, [0, 15]), "b.avi ends after 15 frames, before frame 15; replace or remove it")


def test_videos_of_two_sizes(tmp_path):
    save_video(tmp_path / "a.mp4")
    save_video(tmp_path / "b.mp4", size=32)
    videos = open_videos(tmp_path)
    refused(lambda: videos.read(1, [0]), "b.mp4 is 16x32x3 .* but .*a.mp4 is 32x64x3")


def test_sound_and_unknown_codings_are_no_video(tmp_path):
    save_video(tmp_path / "b.webm", codec="libvpx")
    (tmp_path / "b.webm").write_bytes((tmp_path / "b.webm").read_bytes().replace(b"V_VP8", b"V_VP0"))
    refused(lambda: open_videos(tmp_path), "b.webm holds no video of a known coding; remove it or encode it anew")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    refused(lambda: open_videos(tmp_path), "a.mp4 holds no video of a known coding; remove it")


def test_frames_in_no_folder_and_of_two_sizes(tmp_path):
    save_frames(tmp_path / "set")
    Image.fromarray(IMAGES[0, :4]).save(tmp_path / "set/b/v3/002.png")
    videos = open_videos(tmp_path / "set")
    assert videos.read(3, [0, 1]).shape == (2, 6, 8, 3)
    refused(lambda: videos.read(3, [2]), "b/v3/002.png is 4x8x3 .* but .*a/v0/000.png is 6x8x3")
    Image.fromarray(IMAGES[0]).save(tmp_path / "set/0.png")
    refused(lambda: open_videos(tmp_path / "set"), "holds 0.png, which is in no video's folder")


def test_numbers_in_frames_count_as_numbers(tmp_path):
    """frame9 comes before frame10, as their makers mean it."""
    (tmp_path / "clip").mkdir()
    for number in range(12):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / "clip" / f"frame{number}.png")
    assert open_videos(tmp_path).read(0, range(12))[:, 0, 0, 0].tolist() == list(range(12))


def test_a_link_to_the_set_itself_adds_nothing(tmp_path):
    save_folder(tmp_path / "set", labels=None)
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    assert open_images(tmp_path / "set").shape[0] == len(IMAGES)


@pytest.mark.parametrize("labels", [LABELS.astype(np.float32), LABELS[:, None]])
def test_labels_may_be_floats_or_a_column(tmp_path, labels):
    np.savez(tmp_path / "set.npz", arr_0=IMAGES, arr_1=labels)
    assert np.array_equal(open_images(tmp_path / "set.npz").labels, LABELS)
