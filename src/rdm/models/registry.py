"""The published files that the paper's own scale starts from: weights, and what its scores compare with."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdm.data import packs
from rdm.downloads import fetch
from rdm.errors import RdmError, UsageError, nearest
from rdm.provenance.files import whole_file

HUB = "https://huggingface.co/"
LATTE = HUB + "maxin-cn/Latte/resolve/main/"
ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/"
LDM = "https://ommer-lab.com/files/latent-diffusion/"
OF_CODE = "MIT (of the code; none is stated for the weights)"


@dataclass(frozen=True)
class Weights:
    """One published file. sha256: None where none was published; the first download's is recorded beside it."""

    file: str  # below the folder that the user names
    url: str
    size: float | None  # bytes, about; None: not known
    licence: str
    what: str
    sha256: str | None = None
    member: str | None = None  # of a zip file: how the name of the one that is taken ends

    @property
    def gigabytes(self) -> str:
        """How many to tell the user."""
        return "an unknown number of" if self.size is None else f"{self.size / 1e9:.1f}"


class Encoder(Weights):
    """A text encoder and its tokenizer, of which transformers makes a folder, `file`, that it can read."""


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
    "vq-f4": Weights(
        "vq-f4.ckpt", LDM + "vq-f4.zip", None, OF_CODE, "VQ-f4, autoencoder of LDM-4", member="model.ckpt"
    ),
    "vq-f8": Weights(
        "vq-f8.ckpt", LDM + "vq-f8.zip", None, OF_CODE, "VQ-f8, autoencoder of LDM-8", member="model.ckpt"
    ),
    "kl-f8": Weights("kl-f8.ckpt", LDM + "kl-f8.zip", None, OF_CODE, "KL-f8, autoencoder of LDM", member="model.ckpt"),
    "bert-large-uncased": Encoder(
        "bert-large-uncased", HUB + "google-bert/bert-large-uncased", 1.34e9, "Apache-2.0", "BERT-large, text encoder"
    ),
    "t5-v1_1-xxl": Encoder(
        "t5-v1_1-xxl",
        HUB + "google/t5-v1_1-xxl",
        44.5e9,  # with the decoder, which is not kept
        "Apache-2.0",
        "T5-v1.1-XXL, text encoder",
    ),
    "adm-reference": Weights(
        "VIRTUAL_imagenet256_labeled.npz",
        packs.ADM + "VIRTUAL_imagenet256_labeled.npz",
        2.03e9,  # 10,000 images, two means and two covariances
        OF_CODE,
        "ADM's 10,000 images and statistics of ImageNet 256x256's training set",
    ),
    "inception": Weights(
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        0.095e9,
        "Apache-2.0",
        "FID-Inception, torch-fidelity's conversion of TensorFlow's graph of 2015-12-05",
    ),
    "i3d": Weights(
        "i3d_torchscript.pt",
        "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        0.051e9,
        "none is stated for the file",
        "I3D, StyleGAN-V's conversion of TensorFlow Hub's",
    ),
}


def rows() -> list[dict[str, Any]]:
    """What there is to fetch, a row each."""
    return [
        {
            "name": name,
            "what": w.what,
            "GB": "" if w.size is None else w.gigabytes,
            "licence": w.licence,
            "url": w.url,
        }
        for name, w in WEIGHTS.items()
    ]


def find(name: str) -> Weights:
    """The published file of this name. Raises UsageError if there is none."""
    if name not in WEIGHTS:
        raise UsageError(f"There are no published weights {name!r}; {nearest(name, WEIGHTS)}")
    return WEIGHTS[name]


def fetch_weights(name: str, folder: Path) -> Path:
    """Download a published file into a folder; returns its path.

    Raises UsageError for an unknown name, RdmError if the download fails or is another file than was published.
    """
    weights = find(name)
    target = folder / weights.file
    if isinstance(weights, Encoder):
        from rdm.models.text import save_encoder  # imports torch

        save_encoder(weights.url.removeprefix(HUB), target)
    elif weights.member is None:
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
