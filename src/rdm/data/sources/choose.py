"""Which reader a path needs."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from rdm.data.sources import arrays, folders, videos
from rdm.data.sources.base import Images, Videos, list_files, list_leaves
from rdm.errors import UsageError

SHARDS = "npz shards"
IMAGES = f"images ({', '.join(folders.SUFFIXES)})"
VIDEOS = f"videos ({', '.join(videos.FORMATS)})"


def open_images(path: Path) -> Images:
    """The images in `path`: an .npz, .npy or .safetensors, a .zip or folder of images, or a folder of npz shards.

    Raises UsageError, here or when images are read, if there is anything wrong with them.
    """
    if path.is_dir():
        files = _one_kind(path, {SHARDS: _shards(path), IMAGES: list_files(path, folders.SUFFIXES)})
        return arrays.ImageArrays(path, files) if files[0].endswith(".npz") else folders.open_folder(path, files)
    _check_file(path, (*arrays.READERS, ".zip"), f"a folder of {IMAGES}")
    return folders.open_zip(path) if path.suffix.lower() == ".zip" else arrays.ImageArrays(path, [])


def open_videos(path: Path) -> Videos:
    """The videos in `path`: an .npz, .npy or .safetensors, or a folder of videos, frame folders or npz shards.

    Raises UsageError, here or when videos are read, if there is anything wrong with them.
    """
    if path.is_dir():
        films, frames = list_files(path, videos.FORMATS), list_files(path, folders.SUFFIXES)
        files = _one_kind(path, {SHARDS: _shards(path), VIDEOS: films, IMAGES: frames})
        if files == films:
            return videos.VideoFiles(path, files)
        return videos.FrameFolders(path, files) if files == frames else arrays.VideoArrays(path, files)
    _check_file(path, tuple(arrays.READERS), f"a folder of {VIDEOS} or of folders of {IMAGES}")
    return arrays.VideoArrays(path, [])


def list_videos(path: Path) -> dict[str, list[str]]:
    """The videos in the folder `path`, sorted: the name of each file, or of each folder of frames, and its files.

    A folder without frames, where others have some, is a video of no files. All names are relative to `path`.
    Raises UsageError if `path` is no folder, holds no videos, or holds both kinds.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder; name the one that holds the videos.")
    films, frames = list_files(path, videos.FORMATS), list_files(path, folders.SUFFIXES)
    if _one_kind(path, {VIDEOS: films, IMAGES: frames}) == films:
        return {name: [name] for name in films}
    found = {name: list[str]() for name in list_leaves(path)} | videos.group_frames(path, frames)
    return {name: found[name] for name in sorted(found)}


def open_video(path: Path, files: list[str]) -> Videos:
    """The one video of these `files` of the folder `path`, as `list_videos` has it, whatever size the others have."""
    is_film = PurePosixPath(files[0]).suffix.lower() in videos.FORMATS
    return videos.VideoFiles(path, files) if is_film else videos.FrameFolders(path, files)


def _shards(folder: Path) -> list[str]:
    """Only those directly in it: what lies deeper is another set."""
    return [name for name in list_files(folder, {".npz"}) if "/" not in name]


def _one_kind(folder: Path, kinds: dict[str, list[str]]) -> list[str]:
    """The files of the one kind that the folder holds."""
    found = {kind: files for kind, files in kinds.items() if files}
    if not found:
        raise UsageError(f"{folder} holds none of {', '.join(kinds)}; name the folder that does.")
    if len(found) > 1:
        examples = " and ".join(f"{kind}, such as {files[0]}," for kind, files in found.items())
        raise UsageError(f"{folder} holds {examples} which are two sets; leave only those of one kind there.")
    return next(iter(found.values()))


def _check_file(path: Path, suffixes: tuple[str, ...], folder: str) -> None:
    if not path.exists():
        raise UsageError(f"{path} is not there; check the path.")
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path} is of an unknown type; give a {', '.join(suffixes)} file or {folder}.")
