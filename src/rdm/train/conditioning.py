"""What a network is conditioned on: the labels of a data set, or its captions through a frozen text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rdm.data import stage as data
from rdm.latents.stage import Latents
from rdm.models.text import FrozenText, build_text, folder_digest, words_of
from rdm.models.zoo import build_network
from rdm.params import Experiment
from rdm.params.dependencies import make_latents
from rdm.params.network import PublishedEncoder, TextNetwork, WordEncoder
from rdm.params.schema import Denoiser
from rdm.provenance.manifest import Artefact, Input, check_input


def build(
    experiment: Experiment, baseline: Denoiser, shape: list[int], classes: int, seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """A network with random weights, and all that `rebuild` needs to make it again."""
    config: dict[str, Any] = {"network": baseline.network.model_dump(), "latent_shape": shape, "classes": classes}
    if isinstance(baseline.network, TextNetwork) and isinstance(baseline.network.text, WordEncoder):
        config["words"] = words_of(caption for some in _captions(experiment, baseline) for caption in some)
    return rebuild(baseline, config, seed), config


def rebuild(baseline: Denoiser, config: dict[str, Any], seed: int) -> nn.Module:
    """The network of a config."""
    text = None
    if isinstance(baseline.network, TextNetwork):
        text = build_text(baseline.network.text, config.get("words", ()))
    return build_network(baseline.network, config["latent_shape"], config["classes"], seed, text)


def inputs(experiment: Experiment, baseline: Denoiser, encoded: Artefact) -> dict[str, Input]:
    """What training reads beside the latents: the data that they encode, for their captions, and a text encoder."""
    if not isinstance(baseline.network, TextNetwork):
        return {}
    stored = data.read_manifest(experiment, experiment.latents[baseline.latents].data)
    check_input(encoded, stored, "data", make_latents(baseline.latents))
    return {"data": stored.as_input, **encoder(baseline)}


def encoder(baseline: Denoiser) -> dict[str, Input]:
    """A published text encoder; of other networks nothing."""
    text = baseline.network.text if isinstance(baseline.network, TextNetwork) else None
    if not isinstance(text, PublishedEncoder):
        return {}
    folder = Path(text.weights)
    return {"text": Input(folder, folder_digest(folder))}


def text_of(network: nn.Module) -> FrozenText | None:
    """What encodes captions for a network; None if it takes labels."""
    found = getattr(network, "text", None)
    return found if isinstance(found, FrozenText) else None


def null_label(network: nn.Module, classes: int) -> int | Tensor:
    """The label that means none, or the tokens of the empty caption, int64 (length,)."""
    text = text_of(network)
    return classes if text is None else text.null


def labels(experiment: Experiment, baseline: Denoiser, network: nn.Module, encoded: Latents) -> Tensor:
    """Of each training item the label, int64 (N,), or the tokens of its captions (N, captions, length)."""
    text = text_of(network)
    if text is None:
        return encoded.labels
    captions = _captions(experiment, baseline)
    tokens = text.tokens([caption for some in captions for caption in some])
    return tokens.view(len(captions), -1, text.length)[encoded.items]


def _captions(experiment: Experiment, baseline: Denoiser) -> list[list[str]]:
    return data.load_captions(experiment, experiment.latents[baseline.latents].data, "train")
