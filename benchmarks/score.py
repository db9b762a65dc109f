"""Scores against pytorch-fid, torch-fidelity and clean-fid: the same inputs, one thread, side by side in one run.

    python benchmarks/score.py                  # five minutes on a CPU
    python benchmarks/score.py --device cuda    # 50,000 images of 256x256 end to end, random weights

Every round times each contestant once, in an order that rotates; a ratio is that of one round, ours above the peer's.
Writes benchmarks/results/score-DEVICE.json: medians and quartiles over rounds, how far the values differ, versions.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from cleanfid.fid import frechet_distance as clean_fid
from pytorch_fid import inception as pytorch_fid
from pytorch_fid.fid_score import calculate_frechet_distance as pytorch_fid_distance
from threadpoolctl import threadpool_limits
from timing import device_name, paired, ratio
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

from rdm.data.sources import open_images
from rdm.params.files import load_protocols
from rdm.params.protocol import Pixels
from rdm.score import FeatureStatistics, frechet_distance
from rdm.score.extractors import Extractor, build_extractor
from rdm.score.features import extract
from rdm.score.inputs import Settings
from rdm.score.pair import score_pair

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ITEMS, DIMENSION, BATCH, SIZE = 5000, 2048, 100, 256
IMAGES = 32
TF1 = Pixels(resize="tf1", scale="(v-128)/128")
Row = dict[str, object]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=None, help="end to end; default: 200 on a CPU, 50000 on a GPU")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        weights = random_weights(Path(folder) / "random.pth")
        count = arguments.images or (50_000 if device.type == "cuda" else 200)
        if device.type == "cuda":
            rows, whole = [], end_to_end(Path(folder), weights, device, count)
        else:
            torch.set_num_threads(1)
            with threadpool_limits(1):
                rows = [
                    *distances(arguments.rounds),
                    *statistics(arguments.rounds),
                    *features(weights, arguments.rounds),
                ]
                whole = end_to_end(Path(folder), weights, device, count)
    result = {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "rows": rows,
        "end_to_end": whole,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy", "scipy", "torch-fidelity", "pytorch-fid", "clean-fid")},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"score-{device.type}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print("{what:28} {peer:16} {seconds:9.4f} s  ours is {ratio} x its time {quartiles}".format(**row))
    print(whole)
    print(path)


def compared(what: str, seconds: dict[str, list[float]], differences: dict[str, float]) -> list[Row]:
    """A row for each peer: its time, ours as a multiple of it, and how far its value is from ours, relatively."""
    rows: list[Row] = []
    for peer in seconds.keys() - {"rdm"}:
        own = ratio(seconds["rdm"], seconds[peer])
        theirs = float(np.median(seconds[peer]))
        times = {"seconds": round(theirs, 4), "rdm_seconds": own["seconds"]}
        row = {"what": what, "peer": peer, **times, "ratio": own["ratio"], "quartiles": own["quartiles"]}
        rows.append({**row, "difference": differences[peer]})
    return sorted(rows, key=lambda row: str(row["peer"]))


def activations(seed: int) -> np.ndarray:
    """ReLU-like features with a decaying spectrum: float32 (ITEMS, DIMENSION)."""
    rng = np.random.default_rng(seed)
    mixing = (
        np.random.default_rng(99).normal(size=(DIMENSION, DIMENSION)) * np.arange(1, DIMENSION + 1)[:, None] ** -0.5
    )
    return np.maximum(rng.normal(size=(ITEMS, DIMENSION)) @ mixing + 0.1 * seed, 0).astype(np.float32)


def distances(rounds: int) -> list[Row]:
    """The Fréchet distance of the same float64 statistics."""
    sides = [FeatureStatistics.of(activations(seed)).moments() for seed in (0, 1)]
    flat = [part for side in sides for part in (side.mean, side.covariance)]
    pairs = [{"mu": side.mean, "sigma": side.covariance} for side in sides]
    contestants = {
        "rdm": lambda: frechet_distance(*sides),
        "torch-fidelity": lambda: fid_statistics_to_metric(*pairs, False)[KEY_METRIC_FID],
        "pytorch-fid": lambda: pytorch_fid_distance(*flat),
        "clean-fid": lambda: clean_fid(*flat),
    }
    values = {name: float(run()) for name, run in contestants.items()}
    differences = {name: abs(value / values["rdm"] - 1) for name, value in values.items()}
    return compared(f"Fréchet distance, d = {DIMENSION}", paired("distance", contestants, rounds), differences)


def statistics(rounds: int) -> list[Row]:
    """Mean and covariance: streamed in batches, against numpy's of the whole."""
    whole = activations(0)

    def streamed() -> np.ndarray:
        gathered = FeatureStatistics(DIMENSION)
        for start in range(0, ITEMS, BATCH):
            gathered.add(whole[start : start + BATCH])
        return gathered.moments().covariance

    def at_once() -> np.ndarray:
        whole.mean(0)
        return np.cov(whole, rowvar=False)

    difference = float(np.abs(streamed() - at_once()).max() / np.abs(at_once()).max())
    contestants = {"rdm": streamed, "numpy": at_once}
    return compared("mean and covariance", paired("covariance", contestants, rounds), {"numpy": difference})


def features(weights: Path, rounds: int) -> list[Row]:
    """FID-Inception on images of 256x256, with each library's own preprocessing; the FID of two sets that it gives."""
    extractor = build_extractor("inception", weights, torch.device("cpu"))
    layers = ["2048", "logits_unbiased"]
    fidelity = FeatureExtractorInceptionV3("peer", layers, feature_extractor_weights_path=weights)
    state = torch.load(weights, weights_only=True)
    pytorch_fid.load_state_dict_from_url = lambda *_, **__: state
    third = pytorch_fid.InceptionV3([3]).eval()

    def channels_first(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))

    @torch.inference_mode()
    def theirs(images: np.ndarray) -> np.ndarray:
        return np.asarray(fidelity(channels_first(images))[0])

    @torch.inference_mode()
    def pytorch(images: np.ndarray) -> np.ndarray:
        return np.asarray(third(channels_first(images).float() / 255)[0].flatten(1))

    networks = {
        "rdm": lambda images: extractor.features(images, TF1)["pool"],
        "torch-fidelity": theirs,
        "pytorch-fid": pytorch,
    }
    batch = pictures(0, IMAGES)
    contestants = {name: (lambda run=run: run(batch)) for name, run in networks.items()}
    seconds = paired("features", contestants, rounds)
    values = {}
    for name, run in networks.items():
        sets = [np.concatenate([run(part) for part in np.array_split(pictures(seed, 128), 4)]) for seed in (1, 2)]
        values[name] = frechet_distance(*(FeatureStatistics.of(side) for side in sets))
    differences = {name: abs(value / values["rdm"] - 1) for name, value in values.items()}
    return compared(f"features of {IMAGES} images", seconds, differences)


def end_to_end(folder: Path, weights: Path, device: torch.device, count: int) -> Row:
    """`rdm score` of `count` images against as many, under adm50k: images a second, and the share spent on reading."""
    for name, seed in (("samples", 0), ("reference", 1)):
        write_pictures(folder / f"{name}.npz", seed, count)
    changes = ["weights=null", f"samples={count}"]
    [(name, protocol)] = load_protocols(ROOT / "params" / "protocols.yaml", ["adm50k"], changes).items()
    started = time.perf_counter()
    score_pair(folder / "samples.npz", folder / "reference.npz", {name: protocol}, Settings(device, weights))
    seconds = time.perf_counter() - started
    extractor = build_extractor("inception", weights, device)
    reading, extracting = extraction(folder / "samples.npz", extractor, count)
    return {
        "images": 2 * count,
        "seconds": round(seconds, 1),
        "images_per_second": round(2 * count / seconds, 1),
        "extraction_images_per_second": round(count / extracting, 1),
        "reading_share": round(reading / extracting, 4),
    }


def extraction(path: Path, extractor: Extractor, count: int) -> tuple[float, float]:
    """Seconds to read all images alone, and to read and extract them."""
    images = open_images(path)
    started = time.perf_counter()
    for start in range(0, count, extractor.batch):
        np.array(images.read(start, min(count, start + extractor.batch)))
    reading = time.perf_counter() - started
    started = time.perf_counter()
    extract(images, extractor, [TF1], ("pool", "spatial", "logits"), 0, count, "samples")
    return reading, time.perf_counter() - started


def pictures(seed: int, count: int) -> np.ndarray:
    """Smooth random images, uint8 (count, SIZE, SIZE, 3)."""
    noise = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, (SIZE, SIZE), mode="bicubic")
    return (smooth * 50 + 128 + 5 * seed).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def write_pictures(path: Path, seed: int, count: int) -> None:
    """An npz as ADM's evaluator takes it; a thousand images over and over, each time a little brighter."""
    base = pictures(seed, min(count, 1000))
    images = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.uint8, (count, SIZE, SIZE, 3))
    for start in range(0, count, len(base)):
        images[start : start + len(base)] = (base + np.uint8(start // len(base)))[: count - start]
    np.savez(path, arr_0=images)
    path.with_suffix(".npy").unlink()


def random_weights(path: Path) -> Path:
    """FID-Inception with He-normal weights, so that its features do not vanish."""
    torch.save({}, path)
    original = FeatureExtractorInceptionV3.load_state_dict
    FeatureExtractorInceptionV3.load_state_dict = lambda *_: None
    network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=path)
    FeatureExtractorInceptionV3.load_state_dict = original
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
    torch.save(network.state_dict(), path)
    return path


if __name__ == "__main__":
    main()
