"""Samples that others published as npz files of images, which are scored as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdm.data.sources import open_images
from rdm.errors import RdmError

ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256/"


@dataclass(frozen=True)
class Pack:
    """An npz file of uint8 images, which is downloaded as it is. shape: (N, H, W, C)."""

    url: str
    shape: tuple[int, ...] = (50_000, 256, 256, 3)

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[1]


ADM_SAMPLES = tuple(
    Pack(f"{ADM}{name}_imagenet256.npz")
    for name in ("biggan_deep_trunc1", "admnet", "admnet_upsampled", "admnet_guided")
)


def verify_pack(place: Path, pack: Pack, name: str) -> dict[str, Any]:
    """Raise RdmError if the file is not there or holds other images, UsageError if it holds none that can be read."""
    file = place / pack.file
    if not file.is_file():
        raise RdmError(f"{file} is not there, or not whole; `rdm datasets fetch {name}` downloads it.")
    shape = open_images(file).shape
    if shape != pack.shape:
        raise RdmError(f"{file} holds images of shape {shape}, published were {pack.shape}; remove it, fetch it again.")
    return {"file": str(file), "images": shape[0], "size": f"{shape[2]}x{shape[1]}"}
