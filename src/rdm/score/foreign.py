"""Statistics files that other evaluators wrote, read into Moments.

npz                    mu (d,), sigma (d, d): TTUR, pytorch-fid, EDM; clean-fid, whose mu is float32; the copies of
                       ADM's in MAR and JiT. ADM's own hold mu_s (2023,), sigma_s (2023, 2023) and images as well
pkl, pickle            EDM2: a dict of num_images and, per feature network, mu and sigma
                       StyleGAN2, 3, XL and V: a FeatureStats' dict of num_items, raw_mean (d,), raw_cov (d, d): sums
pt                     torch-fidelity's cache: a dict of mu, float32, and sigma, float64
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh

from rdm.errors import UsageError
from rdm.score.statistics import Moments
from rdm.score.unpickle import Unpickler

TOLERANCE = 1e-6  # of a covariance's largest entry: what float32 sums leave of symmetry, and of a variance of zero
INDEFINITE = 1e-4  # of its largest eigenvalue
PLACES, CHANNELS = 17 * 17, 7  # sFID's features, in ADM's order: the seven channels of a place stand together
_OWN = "make the statistics anew from the images, as an npz of mu and sigma"


@dataclass(frozen=True)
class ForeignStatistics:
    """What a statistics file holds.

    format: who writes such files. layers: "pool" and, in ADM's files, "spatial"; every covariance has ddof 1.
    images: whether the file also holds images (arr_0), which are not read here.
    note: what to know before comparing with them; empty if nothing.
    """

    format: str
    layers: dict[str, Moments]
    images: bool
    note: str


def read_statistics(path: Path) -> ForeignStatistics:
    """Read a statistics file of any format above. Raises UsageError if it is none, is damaged or makes no sense."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not there"
        raise UsageError(f"{path} is {what}; name a statistics file, or download one.")
    if path.suffix not in _READERS:
        raise UsageError(f"{path} ends in {path.suffix!r}; statistics are read from {', '.join(sorted(_READERS))}.")
    parse, interpret = _READERS[path.suffix]
    try:
        content = parse(path)
    except UsageError:
        raise
    except Exception as error:  # a damaged file makes zip, pickle and numpy raise nearly anything
        cause = f"{type(error).__name__}: {error}"
        raise UsageError(f"{path} is not a whole {path.suffix} of numbers ({cause}); fetch it again.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds a {type(content).__name__}, not a dict of statistics; {_OWN}.")
    statistics = interpret(path, content)
    for layer, moments in statistics.layers.items():
        check_layout(moments.mean, f"{path} ({layer})")
    return statistics


def check_layout(mean: np.ndarray, where: str) -> None:
    """Refuse a mean (2023,) of spatial features that were flattened channels first; other lengths say nothing.

    ADM flattens its 17x17 places of 7 channels NHWC. A channel's own level explains much of such a mean's variance,
    if the channels are looked for in the right order, and next to nothing in the other one.
    where: names the mean in the error message. Raises UsageError.
    """
    if len(mean) != PLACES * CHANNELS:
        return
    last = mean.reshape(PLACES, CHANNELS).mean(0).var()
    first = mean.reshape(CHANNELS, PLACES).mean(1).var()
    if first > last:
        raise UsageError(
            f"{where} holds channels-first statistics, as StyleGAN-XL and dgm-eval write them (channels explain "
            f"{first / mean.var():.0%} of the mean's variance in that order, {last / mean.var():.0%} in ADM's), which "
            f"cannot be compared with ADM's; {_OWN}, in NHWC order."
        )


def _parse_npz(path: Path) -> dict[str, Any]:
    """The arrays of an npz that statistics are in; of the others, which may take gigabytes, None."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] if name in ("mu", "sigma", "mu_s", "sigma_s") else None for name in archive.files}


def _parse_pickle(path: Path) -> Any:
    with path.open("rb") as stream:
        return Unpickler(stream, path).load()


def _parse_torch(path: Path) -> Any:
    """The pickle in a file of torch.save; torch-fidelity puts numpy arrays there, which weights_only refuses."""
    with zipfile.ZipFile(path) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        with archive.open(name) as stream:
            return Unpickler(stream, path).load()


def _interpret_npz(path: Path, content: dict[str, Any]) -> ForeignStatistics:
    layers = {"pool": _moments(path, content, "mu", "sigma")}
    if "mu_s" in content or "sigma_s" in content:
        layers["spatial"] = _moments(path, content, "mu_s", "sigma_s")
    images = "arr_0" in content
    return ForeignStatistics("ADM npz" if images or "spatial" in layers else "npz", layers, images, _note(content))


def _interpret_pickle(path: Path, content: dict[str, Any]) -> ForeignStatistics:
    if "raw_mean" in content:
        return _interpret_sums(path, content)
    fid = content.get("fid")
    if not isinstance(fid, dict):
        known = "StyleGAN's statistics have num_items, raw_mean and raw_cov, and EDM2's num_images and fid"
        raise UsageError(f"{path} holds {_listed(content)}, where {known}; {_OWN}.")
    moments = _moments(path, fid, "mu", "sigma", _count(path, content, "num_images"))
    return ForeignStatistics("EDM2 pickle", {"pool": moments}, False, _note(fid))


def _interpret_sums(path: Path, content: dict[str, Any]) -> ForeignStatistics:
    """The moments from a FeatureStats' sums of features and of their outer products."""
    count = _count(path, content, "num_items")
    mean = _numbers(path, content, "raw_mean") / count
    second = _numbers(path, content, "raw_cov") / count
    _check_shapes(path, mean, second)
    covariance = (second - np.outer(mean, mean)) * (count / (count - 1))
    _check_covariance(path, "raw_cov", covariance)
    note = f"covariance multiplied by {count}/{count - 1}: StyleGAN's has ddof 0, here all have 1"
    return ForeignStatistics("StyleGAN pickle", {"pool": Moments(mean, covariance, None, count)}, False, note)


def _interpret_torch(path: Path, content: dict[str, Any]) -> ForeignStatistics:
    layers = {"pool": _moments(path, content, "mu", "sigma")}
    return ForeignStatistics("torch-fidelity cache", layers, False, _note(content))


_READERS: dict[str, tuple[Callable[[Path], Any], Callable[[Path, dict[str, Any]], ForeignStatistics]]] = {
    ".npz": (_parse_npz, _interpret_npz),
    ".pkl": (_parse_pickle, _interpret_pickle),
    ".pickle": (_parse_pickle, _interpret_pickle),
    ".pt": (_parse_torch, _interpret_torch),
}


def _moments(path: Path, content: Mapping[str, Any], mu: str, sigma: str, count: int | None = None) -> Moments:
    """The checked moments under the keys `mu` (d,) and `sigma` (d, d)."""
    mean, covariance = _numbers(path, content, mu), _numbers(path, content, sigma)
    _check_shapes(path, mean, covariance)
    _check_covariance(path, sigma, covariance)
    return Moments(mean, covariance, None, count)


def _numbers(path: Path, content: Mapping[str, Any], key: str) -> np.ndarray:
    """The finite real numbers under `key`, as float64."""
    if key not in content:
        raise UsageError(f"{path} has no {key}, only {_listed(content)}; {_OWN}.")
    value = content[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise UsageError(f"{path} has a {key} of {kind}, where an array of real numbers is needed; {_OWN}.")
    if not np.isfinite(value).all():
        raise UsageError(f"{path} has a {key} with {np.sum(~np.isfinite(value))} values that are not finite; {_OWN}.")
    return np.asarray(value, np.float64)


def _count(path: Path, content: Mapping[str, Any], key: str) -> int:
    count = content.get(key)
    if not isinstance(count, int | np.integer) or count < 2:
        raise UsageError(f"{path} has a {key} of {count!r}, where a covariance needs two items or more; {_OWN}.")
    return int(count)


def _check_shapes(path: Path, mean: np.ndarray, covariance: np.ndarray) -> None:
    if mean.ndim != 1 or covariance.shape != mean.shape * 2 or not mean.size:
        shapes = f"a mean of shape {mean.shape} and a covariance of {covariance.shape}"
        raise UsageError(f"{path} has {shapes}, where (d,) and (d, d) are needed; {_OWN}.")


def _check_covariance(path: Path, key: str, covariance: np.ndarray) -> None:
    scale = np.abs(covariance).max()
    skew = np.abs(covariance - covariance.T).max()
    if skew > TOLERANCE * scale:
        raise UsageError(f"{path} has a {key} that is not symmetric: up to {skew:.3g} of {scale:.3g}; {_OWN}.")
    if (least := covariance.diagonal().min()) < -TOLERANCE * scale:
        raise UsageError(f"{path} has a {key} with a variance of {least:.3g}, below zero; {_OWN}.")
    # along the eigenvectors, too
    values = eigvalsh(covariance, check_finite=False)
    if values[0] < -INDEFINITE * values[-1]:
        raise UsageError(f"{path} has a {key} that is no covariance: it has the eigenvalue {values[0]:.3g}; {_OWN}.")


def _note(content: Mapping[str, Any]) -> str:
    """What mu's type says about precision."""
    return "mean in float32, which moves a Fréchet distance by up to 4e-6" if content["mu"].dtype == np.float32 else ""


def _listed(content: Mapping[str, Any]) -> str:
    """The keys, for an error message."""
    return ", ".join(str(key) for key in list(content)[:8]) or "nothing"
