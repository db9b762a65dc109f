"""Clips by a written rule: of each video one, of so many frames, at a stride, from its start or a seeded place."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rdm.data.sources import Videos
from rdm.errors import UsageError
from rdm.params.protocol import Clips


class ClipItems:
    """One clip of each video: uint8 (N, T, H, W, C).

    Which videos and which frames depends on the rule, its seed and the side alone, never on the order of reading.
    """

    def __init__(self, videos: Videos, clips: Clips, side: Literal["reference", "samples"]) -> None:
        self.path, self.digest = videos.path, videos.digest
        self._videos, self._rule, self._clips = videos, getattr(clips, side), clips
        order = np.arange(videos.count)
        if self._rule.videos == "random":
            order = np.random.default_rng(clips.seed).permutation(videos.count)
        self._chosen = order[: clips.reference_videos] if side == "reference" else order
        self.labels = None if videos.labels is None else videos.labels[self._chosen]
        self.shape: tuple[int, ...] = (len(self._chosen), clips.frames, *videos.frame_shape)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Clips start to stop, uint8 (n, T, H, W, C). Raises UsageError for a video that is too short."""
        return np.stack([self._clip(position) for position in range(start, stop)])

    def _clip(self, position: int) -> np.ndarray:
        video, frames, stride = int(self._chosen[position]), self._clips.frames, self._rule.stride
        length, span = self._videos.length(video), (frames - 1) * stride + 1
        if length < span:
            raise UsageError(
                f"{self.path}: video {video} has {length} frames; a clip of {frames} frames at stride {stride} needs "
                f"{span}; leave it out, or take another protocol."
            )
        offset = 0
        if self._rule.offset == "random":
            offset = int(np.random.default_rng([self._clips.seed, video]).integers(length - span + 1))
        return self._videos.read(video, list(range(offset, offset + span, stride)))


class FrameItems:
    """The frames of clips as images: uint8 (N * T, H, W, C), those of a clip beside each other.

    labels: those of the clips, int64 (N,) or None.
    """

    def __init__(self, clips: ClipItems) -> None:
        self.path, self.digest, self.labels = clips.path, clips.digest, clips.labels
        self._clips, self._frames = clips, clips.shape[1]
        self.shape: tuple[int, ...] = (clips.shape[0] * self._frames, *clips.shape[2:])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames start to stop, uint8 (n, H, W, C)."""
        first = start // self._frames
        clips = self._clips.read(first, -(-stop // self._frames))
        frames = clips.reshape(-1, *clips.shape[2:])
        return frames[start - first * self._frames :][: stop - start]
