"""`rdm score verify`: published numbers of published files, scored here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdm.data.packs import ADM
from rdm.errors import UsageError, nearest
from rdm.params.protocol import Protocol
from rdm.score.inputs import Settings
from rdm.score.pair import score_pair


@dataclass(frozen=True)
class Golden:
    """What a protocol must give. expected: metric -> published value and the relative difference that is allowed.

    The network is a conversion of TensorFlow's weights and runs on other kernels: published comparisons differ by
    4e-4 in FID, 1e-5 in sFID, 6e-4 in IS and some thousandths in precision and recall (in float16).
    """

    reference: str
    samples: str
    expected: dict[str, tuple[float, float]]


GOLDEN = {
    # guided-diffusion/evaluations/README.md
    "adm50k": Golden(
        reference=f"{ADM}VIRTUAL_imagenet256_labeled.npz",
        samples=f"{ADM}admnet_guided_upsampled_imagenet256.npz",
        expected={
            "fid": (3.9425574129223264, 1e-3),
            "sfid": (6.140433703346162, 1e-3),
            "is": (215.8370361328125, 2e-3),
            "precision": (0.8265, 3e-3),
            "recall": (0.5309, 5e-3),
        },
    )
}


def verify(name: str, protocols: dict[str, Protocol], folder: Path, settings: Settings) -> list[dict[str, Any]]:
    """Score a protocol's golden files in `folder`; one row for each metric, with `agrees`.

    Raises UsageError that names what to download if a file is missing.
    """
    if name not in GOLDEN:
        raise UsageError(f"There are no published files for protocol {name!r}; {nearest(name, GOLDEN)}")
    golden = GOLDEN[name]
    files = {url: folder / url.rsplit("/", 1)[1] for url in (golden.reference, golden.samples)}
    missing = [url for url, file in files.items() if not file.is_file()]
    if missing:
        raise UsageError(f"{folder} lacks golden files of {name!r}; download into it: {' '.join(missing)}")
    [result] = score_pair(files[golden.samples], files[golden.reference], {name: protocols[name]}, settings)
    return [
        {
            "metric": metric,
            "published": published,
            "here": result["values"][metric]["value"],
            "difference": abs(result["values"][metric]["value"] / published - 1),
            "allowed": allowed,
            "agrees": abs(result["values"][metric]["value"] / published - 1) <= allowed,
        }
        for metric, (published, allowed) in golden.expected.items()
    ]
