"""Sets of images and videos that somebody wants scored, whatever file or folder they are in.

base      what a set offers to its reader: Images and Videos
arrays    .npz, .npy, .safetensors, and folders of npz shards as `rdm sample` writes them
folders   a folder or a zip of PNG, JPEG and WebP images
videos    a folder of video files, or of folders of frames
choose    which of these a path holds

Nothing is copied into memory before it is read. Whatever is wrong with a set is a UsageError that names the file.
"""

from rdm.data.sources.base import Images, Videos, is_class_sorted
from rdm.data.sources.choose import list_videos, open_images, open_video, open_videos
from rdm.data.sources.videos import numbering_fault

__all__ = [
    "Images",
    "Videos",
    "is_class_sorted",
    "list_videos",
    "numbering_fault",
    "open_images",
    "open_video",
    "open_videos",
]
