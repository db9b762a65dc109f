"""Previews show the clips they are given, and always the same bytes for the same clips."""

import re

import numpy as np
import pytest
from PIL import Image

from rdm.data.previews import BORDER, GREY, write_preview
from rdm.data.sources import open_videos
from rdm.errors import UsageError


def moving_clips(count, frames=5, size=(8, 8), channels=3):
    """Clip n has a bright square that moves one pixel a frame, on a background of its own."""
    clips = np.zeros((count, frames, *size, channels), np.uint8)
    for clip in range(count):
        clips[clip] = 20 * clip
        for frame in range(frames):
            clips[clip, frame, 2:5, frame : frame + 3] = 230
    return clips


def tiles(frames, clips, columns, factor):
    """The clips that a preview's frames show, by its layout: (N, T, H, W, 3), the mean of each enlarged pixel."""
    count, length, height, width, _ = clips.shape
    shown = np.empty((count, length, height, width, 3))
    for place in range(count):
        top = BORDER + place // columns * (height * factor + BORDER)
        left = BORDER + place % columns * (width * factor + BORDER)
        tile = frames[:, top : top + height * factor, left : left + width * factor].astype(float)
        shown[place] = tile.reshape(length, height, factor, width, factor, 3).mean((2, 4))
    return shown


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
@pytest.mark.parametrize(
    ("count", "columns", "size", "channels", "factor", "expected"),
    [
        (4, 2, (8, 8), 3, 8, (134, 134)),  # 2 x 64, and three borders
        (3, 2, (8, 8), 1, 8, (134, 134)),  # the last place is empty
        (1, 5, (9, 7), 3, 8, (76, 60)),
        (2, 2, (65, 9), 3, 1, (70, 24)),  # odd both ways: 69 and 24
    ],
)
def test_a_preview_shows_the_clips(tmp_path, suffix, count, columns, size, channels, factor, expected):
    clips = moving_clips(count, size=size, channels=channels)
    path = write_preview(tmp_path / "set" / f"clips.{suffix}", clips, columns)
    assert path == tmp_path / "set" / f"clips.{suffix}"
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing temporary is left
    videos = open_videos(path.parent)
    assert videos.length(0) == 5
    frames = videos.read(0, range(5))
    assert frames.shape == (5, *expected, 3)
    shown = tiles(frames, clips, min(columns, count), factor)
    assert np.abs(shown - clips).mean() < 6
    assert np.abs(frames[:, 0].astype(float) - GREY).mean() < 10
    if count == 3:
        assert np.abs(frames[:, 80:120, 80:120].astype(float) - GREY).mean() < 4


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_bytes_depend_on_the_clips_alone(tmp_path, suffix):
    clips = moving_clips(3)
    first, again = (write_preview(tmp_path / f"{name}.{suffix}", clips, 3).read_bytes() for name in ("a", "b"))
    assert first == again
    clips[1, 2] = 255
    assert write_preview(tmp_path / f"a.{suffix}", clips, 3).read_bytes() != first


def test_bytes_do_not_depend_on_what_memory_held(tmp_path):
    """A film whose size is no multiple of what x264's vector code reads at a time, of clips that are hard to encode."""
    random = np.random.default_rng(0)
    clips = random.integers(0, 256, (4, 4, 32, 32, 1), dtype=np.uint8)
    films = set()
    for attempt in range(8):
        used = [random.bytes(int(size)) for size in random.integers(10**3, 10**6, 3)]
        films.add(write_preview(tmp_path / f"{attempt}.mp4", clips, 4).read_bytes())
        del used
    assert len(films) == 1


def test_a_gif_loops_for_ever_at_its_speed(tmp_path):
    with Image.open(write_preview(tmp_path / "a.gif", moving_clips(1), 1, fps=10)) as animation:
        assert animation.info["loop"] == 0
        assert animation.info["duration"] == 100


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_clips_of_one_frame(tmp_path, suffix):
    write_preview(tmp_path / f"a.{suffix}", moving_clips(2, frames=1), 2)
    assert open_videos(tmp_path).length(0) == 1


@pytest.mark.parametrize(
    ("name", "count", "columns", "message"),
    [
        ("a.webm", 1, 1, r"a.webm must end in .mp4 or .gif"),
        ("a.mp4", 0, 1, r"a.mp4 cannot show clips of shape \(0, 5, 8, 8, 3\) in 1 columns; give at least one"),
        ("a.mp4", 1, 0, "in 0 columns; give at least one"),
    ],
)
def test_what_cannot_be_shown(tmp_path, name, count, columns, message):
    with pytest.raises(UsageError) as caught:
        write_preview(tmp_path / name, moving_clips(count), columns)
    assert re.search(message, str(caught.value))
    assert list(tmp_path.iterdir()) == []
