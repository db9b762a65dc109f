"""Real videos, as files or as folders of frames: UCF-101, SkyTimelapse, Taichi-HD, or one's own.

Which frames a clip takes depends on the parameters and on the video's own place among all of its folder, usable and
listed or not: what is left out changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from rdm.data.images import Source, Split
from rdm.data.sources import list_videos, numbering_fault, open_video
from rdm.errors import UsageError
from rdm.params.schema import VideosData
from rdm.progress import progress

SKIP = "by `unusable: skip`"


def open_videos_source(parameters: VideosData) -> Source:
    """Clips of both folders, sorted by video: uint8 (T, H, W, 3); of a set without a test folder, none for the test.

    Raises UsageError if a folder or a class holds no videos, if the splits' classes differ or a video is in both, or
    for an unusable video: here if its length or its frames' names tell, and when its clips are read if it is damaged.
    If those are to be skipped, all are decoded here to find them.
    """
    found = {"train": _Folder(Path(parameters.train), parameters, parameters.train_list)}
    if parameters.test is not None:
        found["test"] = _Folder(Path(parameters.test), parameters, parameters.test_list)
    first, last = found["train"], list(found.values())[-1]
    if first.classes != last.classes:
        odd = sorted(set(first.classes) ^ set(last.classes))
        raise UsageError(
            f"{first.root} and {last.root} must have the same class folders, but only one of them has "
            f"{', '.join(odd)}; make them alike, or set `labelled: false`."
        )
    if len(found) > 1 and first.root.resolve() == last.root.resolve():
        _require_apart(first, last)
    splits = {split: folder.split() for split, folder in found.items()}
    return Source(
        train=splits["train"],
        test=splits.get("test", Split(iter(()), np.zeros(0, np.int64))),
        channels=3,
        classes=first.classes,
        origin=f"local folder {' and '.join(dict.fromkeys(str(folder.root) for folder in found.values()))}",
        licence="that of the files in the folder",
        skipped={f"{s}/{name}": why for s, folder in found.items() for name, why in folder.skipped.items()},
    )


def _require_apart(train: _Folder, test: _Folder) -> None:
    """Raise UsageError for a video of one folder that is in both splits: it would be its own reference."""
    both = train.videos.keys() & test.videos.keys()
    if both:
        raise UsageError(
            f"{train.root}: {len(both)} videos are in the train and the test split, the first {min(both)}; name each "
            "split's own videos in `train_list` and `test_list`."
        )


def square(frame: np.ndarray, size: int) -> np.ndarray:
    """The centred square of `frame`, uint8 (H, W, 1 or 3), resized by Pillow's bilinear filter to (size, size, 3)."""
    height, width, channels = frame.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cropped = np.ascontiguousarray(frame[top : top + side, left : left + side])
    image = Image.fromarray(cropped[..., 0] if channels == 1 else cropped).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@dataclass
class _Folder:
    """One split's videos. only: a file that names them; None: all. skipped: which were left out, and why."""

    root: Path
    parameters: VideosData
    only: str | None
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        everything = list_videos(self.root)
        self.places = {name: number for number, name in enumerate(everything)}
        self.videos = everything if self.only is None else _listed(Path(self.only), self.root, everything)
        self.classes = self._classes() if self.parameters.labelled else []
        self.span = (self.parameters.frames - 1) * self.parameters.stride + 1  # from a clip's first frame to its last

    def split(self) -> Split:
        """The clips of all videos that can be used, and their labels."""
        starts: dict[str, list[int]] = {}
        faults: dict[str, UsageError] = {}
        with progress(f"looking at {self.root}", len(self.videos)) as bar:
            for name in self.videos:
                try:
                    starts[name] = self._starts(self.places[name], name)
                    if self.parameters.unusable == "skip":  # damage shows only when all is decoded
                        for _ in self._clips(name, starts[name]):
                            pass
                except UsageError as error:
                    faults[name] = error
                    starts.pop(name, None)
                bar.update()
        self._judge(faults, starts)
        labels = [self.classes.index(_outermost(name)) if self.classes else 0 for name in starts]
        return Split(self._pixels(starts), np.repeat(np.array(labels, np.int64), self.parameters.clips_per_video))

    def _classes(self) -> list[str]:
        """The names of the outermost folders, each of which holds a video."""
        for name, files in self.videos.items():
            if "/" not in name and files:
                raise UsageError(
                    f"{self.root / name} is in no class folder; put each video into that of its class, or set "
                    "`labelled: false`."
                )
        classes = sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        what = "video" if self.only is None else f"video that {self.only} names"
        self._require_each(classes, [name for name, files in self.videos.items() if files], what)
        return classes

    def _require_each(self, classes: list[str], names: list[str], what: str) -> None:
        held = {_outermost(name) for name in names}
        for name in classes:
            if name not in held:
                raise UsageError(
                    f"the class folder {self.root / name} holds no {what}; put some there, or remove the folder."
                )

    def _judge(self, faults: dict[str, UsageError], usable: dict[str, list[int]]) -> None:
        """Refuse what is unusable, or note that it is left out if enough remains."""
        if faults and self.parameters.unusable == "refuse":
            count = f"{len(faults)} of {len(self.videos)} videos" if len(faults) > 1 else "it"
            raise _or(next(iter(faults.values())), f"leave {count} out {SKIP}")
        # what is wrong, without what to do about it, which was done
        self.skipped |= {n: str(e).replace(f"{self.root}/", "").rpartition("; ")[0] for n, e in faults.items()}
        if not usable:
            why = next(iter(self.skipped.values()))
            raise UsageError(
                f"none of the {len(faults)} videos in {self.root} can be used, the first since {why}; "
                "give others, or ask for fewer frames of each."
            )
        self._require_each(self.classes, list(usable), "usable video")

    def _starts(self, number: int, name: str) -> list[int]:
        """The first frame of each clip of the video `name`. Raises UsageError if it has no room for them, or gaps."""
        parameters, files, where = self.parameters, self.videos[name], self.root / name
        if not files:
            raise UsageError(f"{where} holds no frames; remove it.")
        if (fault := numbering_fault(files)) is not None:
            raise UsageError(f"{where} {fault}; mend it or remove the folder.")
        # frames are there to be counted, without decoding the first one; a film is one file
        length = len(files) if len(files) > 1 else open_video(self.root, files).length(0)
        clips = parameters.clips_per_video if parameters.offset == "first" else 1  # others may overlap
        if length < self.span * clips:
            need = f"{clips} clips" if clips > 1 else "a clip"
            raise UsageError(
                f"{where} has {length} frames, but {need} of {parameters.frames} frames at stride {parameters.stride} "
                f"need{'s' if clips == 1 else ''} {self.span * clips}; ask for less or remove it."
            )
        if parameters.offset == "first":
            return [clip * self.span for clip in range(clips)]
        seeds = [[parameters.seed, number, clip] for clip in range(parameters.clips_per_video)]
        return [int(np.random.default_rng(seed).integers(length - self.span + 1)) for seed in seeds]

    def _pixels(self, starts: dict[str, list[int]]) -> Iterator[np.ndarray]:
        for name, places in starts.items():
            try:
                yield from self._clips(name, places)
            except UsageError as error:
                if self.parameters.unusable == "skip":  # it changed since it was looked at
                    raise
                raise _or(error, f"leave it out {SKIP}") from None

    def _clips(self, name: str, starts: list[int]) -> Iterator[np.ndarray]:
        """The clips of one video, which is decoded once; only its small frames are held."""
        windows = [range(start, start + self.span, self.parameters.stride) for start in starts]
        wanted = {number for window in windows for number in window}
        frames = open_video(self.root, self.videos[name]).each(0, wanted)
        small = {number: square(frame, self.parameters.image_size) for number, frame in frames}
        for window in windows:
            yield np.stack([small[number] for number in window])


def _listed(file: Path, root: Path, videos: dict[str, list[str]]) -> dict[str, list[str]]:
    """Those of the `videos` of the folder `root` that a file lists, one a line, before a blank and a label or alone.

    UCF-101's official lists write some names with another case than the files have.
    """
    if not file.is_file():
        raise UsageError(f"{file} is not there; name the list of the videos in {root} to take, or leave it out.")
    names = {name.casefold(): name for name in videos}
    lines = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    missing = [line for line in lines if line.casefold() not in names]
    if missing or not lines:
        what = f"{len(missing)} videos that {root} has not, the first {missing[0]}" if missing else "no videos"
        raise UsageError(f"{file} lists {what}; check that the list is that of the folder, and the folder whole.")
    listed = {names[line.casefold()] for line in lines}
    return {name: files for name, files in videos.items() if name in listed}


def _outermost(name: str) -> str:
    return PurePosixPath(name).parts[0]


def _or(error: UsageError, remedy: str) -> UsageError:
    """The same error with another way out."""
    return UsageError(f"{str(error).removesuffix('.')}, or {remedy}.")
