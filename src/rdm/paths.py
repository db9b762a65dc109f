"""Where every artefact lives, relative to the working folder. The CLI and the Snakefile both ask here."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path("results")
STATE = Path(".rdm")  # resumable state: outside every declared output, ignored by git and DVC
MANIFEST = "manifest.json"


def within(kept: Path, path: Path) -> Path:
    """Where a copy of the results keeps what lies at `path`."""
    return kept / path.relative_to(RESULTS)


def data(dataset: str) -> Path:
    """Images and labels of one data set."""
    return RESULTS / "data" / dataset


def autoencoder(dataset: str, name: str) -> Path:
    """One trained autoencoder, a folder that diffusers' `from_pretrained` loads."""
    return RESULTS / "autoencoder" / dataset / name


def latents(dataset: str, name: str) -> Path:
    """The training images of one data set, encoded."""
    return RESULTS / "latents" / dataset / name


def latents_state(dataset: str, name: str, digest: str) -> Path:
    """Where the finished shards of an interrupted encoding wait; the digest names the recipe they belong to."""
    return STATE / "latents" / dataset / name / digest[:16]


def extractor(dataset: str, score: str) -> Path:
    """The classifier through which one score sees its data set."""
    return RESULTS / "extractor" / dataset / score


def run_name(experiment: str, system: str, seed: int) -> str:
    """The name of one trained network: experiment, system and seed."""
    return f"{experiment}-{system}-s{seed}"


def train(run: str) -> Path:
    """Weights, gates and log of one run."""
    return RESULTS / "train" / run


def train_state(run: str) -> Path:
    """Where an interrupted training goes on from."""
    return STATE / "train" / f"{run}.safetensors"


def sample(run: str, sampler: str) -> Path:
    """The images that one run drew with one sampler."""
    return RESULTS / "sample" / run / sampler


def sample_state(run: str, sampler: str, digest: str) -> Path:
    """Where the finished shards of an interrupted sampling wait; the digest names the recipe they belong to."""
    return STATE / "sample" / run / sampler / digest[:16]


def part_done(verb: str, name: str, part: int | str, parts: int) -> Path:
    """An empty file: this part of the sampling of a run or of the scoring of a system is done."""
    return RESULTS / "parts" / verb / name / f"{part}-of-{parts}"


def score_state(digest: str) -> Path:
    """Where features wait that several jobs extract; the digest names the score that they belong to."""
    return STATE / "score" / digest[:16]


def score(run: str, sampler: str, protocol: str) -> Path:
    """One JSON of scores."""
    return RESULTS / "score" / run / sampler / f"{protocol}.json"


def preview(run: str, sampler: str, suffix: str) -> Path:
    """Some of a run's clips to watch: `mp4` or `gif`. Beside the folder, which holds one kind of file."""
    return RESULTS / "sample" / run / f"{sampler}.{suffix}"


def published_score(name: str, protocol: str) -> Path:
    """The scores of a published sample set."""
    return RESULTS / "score" / "published" / name / f"{protocol}.json"


def floor(dataset: str, protocol: str) -> Path:
    """The scores of real items of the other split: what a perfect generator would get."""
    return RESULTS / "score" / "floor" / dataset / f"{protocol}.json"


def table(name: str, suffix: str) -> Path:
    """A regenerated table: `csv`, `md`, `tex` or `html`."""
    return RESULTS / f"{name}.{suffix}"


def table_runs(name: str, suffix: str) -> Path:
    """The runs that a table rests on: `csv` or `html`."""
    return RESULTS / f"{name}-runs.{suffix}"


def figure(name: str, suffix: str = "png") -> Path:
    """A picture of the results, or (`csv`) the numbers in it."""
    return RESULTS / "figures" / f"{name}.{suffix}"


def note(file: Path) -> Path:
    """How a score or table was made (commit, versions, seconds): apart from the file, which repeats itself."""
    return RESULTS / "provenance" / file.relative_to(RESULTS).with_suffix(".json")
