"""The published weights that the paper's own scale starts from."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdm.downloads import fetch
from rdm.errors import RdmError, UsageError, nearest
from rdm.provenance.files import whole_file

LATTE = "https://huggingface.co/maxin-cn/Latte/resolve/main/"
ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/"
LDM = "https://ommer-lab.com/files/latent-diffusion/"
OF_CODE = "MIT (of the code; none is stated for the weights)"


@dataclass(frozen=True)
class Weights:
    """One published file. sha256: None where none was published; the first download's is recorded beside it."""

    file: str  # below the folder that the user names
    url: str
    size: float  # bytes, about
    licence: str
    what: str
    sha256: str | None = None
    member: str | None = None  # of a zip file: how the name of the one that is taken ends


WEIGHTS = {
    "dit-xl-2-256": Weights(
        "DiT-XL-2-256x256.pt",
        "https://dl.fbaipublicfiles.com/DiT/models/DiT-XL-2-256x256.pt",
        2.70e9,
        "CC-BY-NC-4.0: not for commercial use",
        "DiT-XL/2, ImageNet 256x256",
        "9ec1876e4c03471bca126663a30e2d1b20610b6d2f87850a39a36f25cc685521",
    ),
    "latte-sky": Weights(
        "skytimelapse.pt",
        LATTE + "skytimelapse.pt",
        2.7e9,
        "MIT",
        "Latte-XL/2, SkyTimelapse",
        "2206a32c1ee24e766e494c0eb2b5849d6c4c96be5e96248262f3f75b615127a2",
    ),
    "latte-taichi": Weights("taichi-hd.pt", LATTE + "taichi-hd.pt", 2.7e9, "MIT", "Latte-XL/2, Taichi-HD"),
    "latte-ucf101": Weights(
        "ucf101.pt",
        LATTE + "ucf101.pt",
        2.7e9,
        "MIT",
        "Latte-XL/2, UCF-101",
        "7ca9c7380b4ab962c8b6f1f5d6a7fa81d7ee7838786d097beeef75d98c87d224",
    ),
    "ldm4": Weights("ldm4-cin256-v2.ckpt", LDM + "nitro/cin/model.ckpt", 1.7e9, OF_CODE, "LDM-4 with VQ-f4, ImageNet"),
    "ldm8": Weights(
        "ldm8-cin256.ckpt", LDM + "cin.zip", 3.5e9, OF_CODE, "LDM-8 with VQ-f8, ImageNet", member="model.ckpt"
    ),
    "adm-256": Weights("256x256_diffusion.pt", ADM + "256x256_diffusion.pt", 2.2e9, OF_CODE, "ADM, ImageNet 256x256"),
    "adm-256-classifier": Weights(
        "256x256_classifier.pt",
        ADM + "256x256_classifier.pt",
        0.22e9,
        OF_CODE,
        "the classifier of ADM-G, ImageNet 256x256",
    ),
    "sd-vae-ft-ema": Weights(
        "sd-vae-ft-ema.safetensors",
        "https://huggingface.co/stabilityai/sd-vae-ft-ema/resolve/main/diffusion_pytorch_model.safetensors",
        0.33e9,
        "MIT",
        "the KL autoencoder of DiT and Latte",
    ),
}


def rows() -> list[dict[str, Any]]:
    """What there is to fetch, a row each."""
    return [
        {"name": name, "what": w.what, "GB": f"{w.size / 1e9:.1f}", "licence": w.licence, "url": w.url}
        for name, w in WEIGHTS.items()
    ]


def fetch_weights(name: str, folder: Path) -> Path:
    """Download a published file into a folder; returns its path. Raises UsageError for an unknown name."""
    if name not in WEIGHTS:
        raise UsageError(f"There are no published weights {name!r}; {nearest(name, WEIGHTS)}")
    weights = WEIGHTS[name]
    target = folder / weights.file
    if weights.member is None:
        fetch(weights.url, target, weights.sha256)
    elif not target.is_file():
        archive = target.with_suffix(".zip")
        fetch(weights.url, archive, weights.sha256)
        _extract(archive, weights.member, target)
        archive.unlink()
    return target


def _extract(archive: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as content:
            [found] = [name for name in content.namelist() if name.endswith(member)]
            with content.open(found) as source, whole_file(target) as temporary, temporary.open("wb") as stream:
                shutil.copyfileobj(source, stream)
    except (zipfile.BadZipFile, ValueError) as error:
        raise RdmError(f"{archive} holds no {member} ({error}); remove it and fetch it again.") from None
