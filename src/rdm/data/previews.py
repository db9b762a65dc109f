"""Clips to look at: a grid of them as a film (.mp4) or an animation (.gif)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

from rdm.errors import UsageError
from rdm.provenance.files import whole_file

BORDER = 2  # pixels, around each clip
GREY = 128  # of the border: neither of the colours that most small clips have behind them
SIDE = 64  # pixels, the least height of a clip


def write_preview(path: Path, clips: np.ndarray, columns: int, fps: int = 8) -> Path:
    """Write `clips`, uint8 (N, T, H, W, C) with C of 1 or 3, row by row in a grid of `columns`; returns `path`.

    Small clips are enlarged without smoothing. The bytes depend on the clips alone. A .gif shows frames that do not
    differ as one longer frame, and rounds the duration of a frame to hundredths of a second.
    Raises UsageError if there are no clips, or if the suffix is neither .mp4 nor .gif.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise UsageError(f"{path} must end in .mp4 or .gif, which are the kinds of preview; rename it.")
    if 0 in clips.shape or columns < 1:
        raise UsageError(f"{path} cannot show clips of shape {clips.shape} in {columns} columns; give at least one.")
    write = _write_mp4 if path.suffix == ".mp4" else _write_gif
    with whole_file(path) as temporary:
        write(temporary, _grids(clips, min(columns, len(clips))), fps)
    return path


def _grids(clips: np.ndarray, columns: int) -> Iterator[np.ndarray]:
    """One grid for each frame: uint8 (height, width, 3), both even, as yuv420p halves them."""
    count, length, height, width = clips.shape[:4]
    factor = -(-SIDE // height)
    step_y, step_x = height * factor + BORDER, width * factor + BORDER
    rows = -(-count // columns)
    for number in range(length):
        total_y, total_x = rows * step_y + BORDER, columns * step_x + BORDER
        grid = np.full((total_y + total_y % 2, total_x + total_x % 2, 3), GREY, np.uint8)
        for place, frame in enumerate(clips[:, number]):
            top, left = place // columns * step_y + BORDER, place % columns * step_x + BORDER
            tile = frame.repeat(factor, axis=0).repeat(factor, axis=1)
            grid[top : top + height * factor, left : left + width * factor] = tile
        yield grid


def _write_mp4(path: Path, grids: Iterator[np.ndarray], fps: int) -> None:
    # bitexact: no version of the muxer; one thread: x264 writes the number of threads into the film;
    # asm=0: its vector code reads memory beyond the picture, and its choices depend on what lies there
    options = {"crf": "18", "threads": "1", "x264-params": "asm=0"}
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.pix_fmt = "yuv420p"
        for number, grid in enumerate(grids):
            if number == 0:
                stream.height, stream.width = grid.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grid, format="rgb24")))
        container.mux(stream.encode())


def _write_gif(path: Path, grids: Iterator[np.ndarray], fps: int) -> None:
    first, *others = [Image.fromarray(grid) for grid in grids]
    first.save(path, "GIF", save_all=True, append_images=others, loop=0, duration=1000 / fps)
