"""`rdm sample`: the images or clips of one run, as uint8 npz shards (those of images the ADM evaluator reads)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rdm import paths
from rdm.checkpoints import published_file
from rdm.data import stage as data
from rdm.data.previews import write_preview
from rdm.diffusion.sampling import draw_latents
from rdm.distributed import PATIENCE, joined, own_pieces, wait_for_all
from rdm.errors import UsageError
from rdm.latents import stage as latents
from rdm.latents.codec import LatentCodec
from rdm.models.adm import NoisyClassifier
from rdm.models.published import load_classifier
from rdm.params import Experiment
from rdm.params.dependencies import make_sample, make_train, of_sample, of_train
from rdm.params.performance import Precision
from rdm.params.sampler import Sampler
from rdm.params.schema import Diffusion
from rdm.parts import Part, items_in
from rdm.performance import compile_blocks, in_precision, lay_out
from rdm.progress import is_first, progress
from rdm.provenance.files import require_disk, share_file, whole_file
from rdm.provenance.manifest import Input, Recipe, build, check_input, is_current, read
from rdm.runtime import prepare
from rdm.sample.dealing import DEALT_FROM_DATA, deal_captions, deal_labels
from rdm.train import conditioning
from rdm.train import stage as train

CPU = torch.device("cpu")
WHOLE = Part(1, 1)
SHARD_BATCHES = 8  # network batches per file: a killed run loses at most one file
PREVIEWED, PREVIEW_COLUMNS = 20, 5  # clips of a run to watch


@dataclass(frozen=True)
class Drawing:
    """All that determines the items of one run and sampler.

    labels: int64 (N,), one per item to draw. captions: of a run conditioned on text as many; else None.
    """

    trained: train.TrainedRun
    codec: LatentCodec
    diffusion: Diffusion
    sampler: Sampler
    labels: np.ndarray
    seed: int
    device: torch.device
    precision: Precision
    captions: list[str] | None = None
    classifier: NoisyClassifier | None = None

    @cached_property
    def conditions(self) -> Tensor:
        """What the network is given: the labels, or the tokens of the captions, int64 (N, length)."""
        text = conditioning.text_of(self.trained.network)
        return torch.from_numpy(self.labels) if text is None else text.tokens(self.captions or [])

    def batch(self, start: int) -> np.ndarray:
        """Items `start` to `start + sampler.batch` (or the last one), uint8 (n, [T,] H, W, C).

        The network always sees a whole batch, the last is filled up: an item depends on its index alone, to the last
        bit, however many are drawn.
        """
        indices = np.arange(start, start + self.sampler.batch)
        latents = draw_latents(
            in_precision(self.trained.network, self.precision, self.device),
            self.diffusion,
            self.sampler,
            self.trained.latent_shape,
            self.conditions[indices % len(self.labels)].to(self.device),
            self.trained.null_label,
            [(self.seed, int(index)) for index in indices],
            self.classifier,
        )
        return self.codec.decode(latents)[: len(self.labels) - start]


def prepare_drawing(experiment: Experiment, name: str, sampler: str, device: torch.device) -> Drawing:
    """Load what is needed to draw the items of run `name`. Raises ArtefactError if it learned from other latents."""
    system, seed = experiment.find_run(name)
    baseline, chosen = experiment.baseline(system), experiment.samplers[sampler]
    trained = train.load(experiment, name, device, chosen.step)
    check_input(trained.artefact, latents.read_manifest(experiment, baseline.latents), "latents", make_train(name))
    codec = latents.load_codec(experiment, baseline.latents, device)
    dataset, performance, classifier = experiment.data_of(system), experiment.performance, None
    labels = deal_labels(experiment, dataset, experiment.label_rule(system, sampler), trained.classes, seed)
    captions = deal_captions(experiment, dataset) if conditioning.text_of(trained.network) else None
    if chosen.classifier is not None:
        classifier = load_classifier(chosen.classifier, trained.latent_shape, trained.classes).to(device)
    compile_blocks(lay_out(trained.network, performance), performance)
    what = trained, codec, baseline.diffusion, chosen, labels, seed, device, performance.sample
    return Drawing(*what, captions, classifier)


def run(experiment: Experiment, name: str, overwrite: bool = False, part: Part | None = None) -> list[Path]:
    """Draw the items of run `name` with each sampler that tables and figures ask for; returns their folders.

    Of a part, only its shards are drawn, and wait for the call without a part; returns the folders in which they do.
    Each of several processes draws its share of the shards, and the first one writes the folders.
    """
    system, seed = experiment.find_run(name)
    samplers = experiment.samplers_of(system)
    if not samplers:
        raise UsageError(
            f"No table or figure samples {name!r}, so there is nothing to draw; name a run that one of them shows."
        )
    recipes = {sampler: _recipe(experiment, name, sampler) for sampler in samplers}
    states = {sampler: paths.sample_state(name, sampler, recipe.digest) for sampler, recipe in recipes.items()}
    folders = {sampler: paths.sample(name, sampler) for sampler in samplers}
    made = list((states if part else folders).values())
    missing = samplers  # of a part, whatever the folders hold: the call without a part replaces them
    if part is None:
        missing = [s for s in samplers if not is_current(folders[s], recipes[s], make_sample(name), overwrite)]
    if not missing:
        return made
    device = prepare(experiment)
    with joined(CPU, PATIENCE):  # nothing that a GPU holds is exchanged
        for sampler in missing:
            drawing, shards = prepare_drawing(experiment, name, sampler, device), states[sampler]
            if part or not is_first():
                _draw_shards(drawing, shards, part or WHOLE)
                continue
            with build(folders[sampler], recipes[sampler]) as (scratch, facts):
                for shard in _draw_shards(drawing, shards, WHOLE):
                    share_file(shard, scratch)
                nfe = drawing.sampler.network_calls
                facts |= {"seed": seed, "samples": len(drawing.labels), "nfe": nfe, "device": device.type}
                if len(drawing.trained.latent_shape) == 4:
                    _write_previews(name, sampler, shards)
            shutil.rmtree(shards.parent, ignore_errors=True)  # those of earlier recipes, too
    return made


def _recipe(experiment: Experiment, name: str, sampler: str) -> Recipe:
    """What samples are made of. That the run is whole is seen when it is loaded, if there is something to draw."""
    inputs = {"train": read(paths.train(name), make_train(name), of_train(experiment, name), only=()).as_input}
    system, _ = experiment.find_run(name)
    if experiment.label_rule(system, sampler) in DEALT_FROM_DATA:
        inputs["data"] = data.read_manifest(experiment, experiment.data_of(system)).as_input
    classifier = experiment.samplers[sampler].classifier
    if classifier is not None:
        inputs["classifier"] = Input.of_file(published_file(Path(classifier.weights)))
    return Recipe("sample", of_sample(experiment, name, sampler), inputs)


def _write_previews(name: str, sampler: str, shards: Path) -> None:
    """The first clips, to be watched."""
    first = np.load(min(shards.glob("*.npz")))["arr_0"][:PREVIEWED]
    for suffix in ("mp4", "gif"):
        write_preview(paths.preview(name, sampler, suffix), first, PREVIEW_COLUMNS)


def _draw_shards(drawing: Drawing, folder: Path, part: Part) -> list[Path]:
    """Fill `folder` with a part's shards, and return them; those that other parts or an interrupted run left stay.

    Each of several processes draws its share of them; all return when every shard is there.
    Raises RdmError, before it begins, if the disk is too small.
    """
    count, batch = len(drawing.labels), drawing.sampler.batch
    items = batch * SHARD_BATCHES
    numbers = part.share(-(-count // items))
    shards = {
        folder / f"{number:05d}.npz": range(items * number, min(items * (number + 1), count)) for number in numbers
    }
    missing = {path: indices for path, indices in shards.items() if not path.exists()}
    require_disk(folder, items_in(missing) * drawing.codec.image_bytes(drawing.trained.latent_shape))
    own = {path: shards[path] for path in own_pieces(list(shards))}
    left = {path: indices for path, indices in own.items() if path in missing}
    with progress("sample", items_in(own), items_in(own) - items_in(left)) as bar:
        for path, indices in left.items():
            index = np.array(indices)
            images = np.concatenate([drawing.batch(start) for start in indices[::batch]])
            content = {"arr_0": images, "arr_1": drawing.labels[index], "index": index}
            if drawing.captions is not None:
                content["captions"] = np.array([drawing.captions[i] for i in indices])
            with whole_file(path) as temporary, temporary.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **content)
            bar.update(len(indices))
    wait_for_all()
    return list(shards)
