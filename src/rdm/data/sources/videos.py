"""Videos in files or in folders of frames."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath

import av
import numpy as np

from rdm.data.sources.base import Videos, folder_labels, readable, require_size
from rdm.data.sources.folders import open_folder
from rdm.errors import UsageError

# Each suffix has one container format: were it guessed from the content, a text could name other files to open.
FORMATS = {".mp4": "mp4", ".mov": "mov", ".avi": "avi", ".gif": "gif", ".webm": "webm"}


class VideoFiles(Videos):
    """The video files in the folder `path`, as RGB. Labels: the outermost subfolders, if all are in one.

    A read decodes from the first frame on, since few containers tell where a certain frame is.
    """

    def __init__(self, path: Path, files: list[str]) -> None:
        self.path, self.files = path, files
        self.labels = folder_labels(files)
        self.count = len(files)
        with _open(path / files[0]) as container:
            self.frame_shape = (container.streams.video[0].height, container.streams.video[0].width, 3)

    def length(self, index: int) -> int:
        """How many frames video `index` has by its header; if that does not tell, they are counted."""
        with _open(self.path / self.files[index]) as container:
            return container.streams.video[0].frames or len([None for _ in container.decode(video=0)])

    def read(self, index: int, frames: Sequence[int]) -> np.ndarray:
        found = dict(self.each(index, frames))
        return np.stack([found[frame] for frame in frames])

    def each(self, index: int, frames: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
        """As of every set of videos, in one pass over the file."""
        file, wanted, last = self.path / self.files[index], set(frames), max(frames)
        number = -1
        with _open(file) as container:
            for number, frame in enumerate(islice(container.decode(video=0), last + 1)):
                if number in wanted:
                    pixels = frame.to_ndarray(format="rgb24")
                    require_size(file, pixels.shape, self.path / self.files[0], self.frame_shape)
                    yield number, pixels
        if number < last:
            raise UsageError(f"{file} ends after {number + 1} frames, before frame {last}; replace or remove it.")


@contextmanager
def _open(file: Path) -> Iterator[av.container.InputContainer]:
    with readable(file, "a video"), av.open(str(file), format=FORMATS[file.suffix.lower()]) as container:
        streams = container.streams.video
        if not streams or streams[0].codec_context is None:
            raise UsageError(f"{file} holds no video of a known coding; remove it or encode it anew.")
        streams[0].codec_context.options = {"err_detect": "explode"}  # else damaged frames are made up or left out
        yield container


class FrameFolders(Videos):
    """Videos as folders of images below the folder `path`: each that directly holds some is one.

    Frames are sorted by name, where numbers count as numbers: frame9 comes before frame10. None may be missing.
    Labels: the outermost folders, if every video's folder is in another.
    """

    def __init__(self, path: Path, files: list[str]) -> None:
        self.path, self.files = path, files
        videos, place = group_frames(path, files), {name: number for number, name in enumerate(files)}
        for folder, names in videos.items():
            if (fault := numbering_fault(names)) is not None:
                raise UsageError(f"{path / folder} {fault}; mend it or remove the folder.")
        self._videos = [[place[name] for name in names] for names in videos.values()]
        self._images = open_folder(path, files)
        self.labels = folder_labels(list(videos))
        self.count = len(videos)
        self.frame_shape = self._images.shape[1:]

    def length(self, index: int) -> int:
        return len(self._videos[index])

    def read(self, index: int, frames: Sequence[int]) -> np.ndarray:
        return self._images.pick([self._videos[index][frame] for frame in frames])


def group_frames(path: Path, files: list[str]) -> dict[str, list[str]]:
    """The images `files` of the folder `path` by the folders that hold them, both sorted; UsageError if `path` does."""
    videos: dict[str, list[str]] = {}
    for name in sorted(files, key=_natural):
        videos.setdefault(PurePosixPath(name).parent.as_posix(), []).append(name)
    if "." in videos:
        raise UsageError(
            f"{path} holds {videos['.'][0]}, which is in no video's folder; put each video's frames in one."
        )
    return {folder: videos[folder] for folder in sorted(videos)}


def numbering_fault(files: Sequence[str]) -> str | None:
    """What is wrong with the numbers in the names of one video's frames; None if nothing is, or none has a number.

    They may start anywhere and go up by any step, but by the same throughout.
    """
    matches = [re.fullmatch(r"(.*?)(\d+)", PurePosixPath(name).stem, re.ASCII) for name in files]
    if not any(matches):
        return None
    for name, match in zip(files, matches, strict=True):
        if match is None:
            return f"holds {PurePosixPath(name).name}, which has no number, among numbered frames"
    if len({match[1] for match in matches if match}) > 1:
        return None  # the number may be that of something else
    numbers = sorted(int(match[2]) for match in matches if match)
    steps = [b - a for a, b in pairwise(numbers)]
    for number, step in zip(numbers, steps, strict=False):
        if step == 0:
            return f"holds frame {number} twice"
        if step > min(steps):
            return f"has no frame {number + min(steps)}, but some before and after"
    return None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts the numbers in names as numbers."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
