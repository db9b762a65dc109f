"""Sizes that must divide each other: found when the parameters are read, not after an hour of training."""

from __future__ import annotations

from rdm.errors import ParameterError
from rdm.params.autoencoder import Codec
from rdm.params.evaluation import Classifier
from rdm.params.experiment import Experiment
from rdm.params.gates import Gates
from rdm.params.network import ADM, PixArt, TextNetwork, TextUNet, Transformer, WordEncoder
from rdm.params.schema import ClipData, Denoiser, MovingDigitsData, Network, UNet


def check_shapes(experiment: Experiment) -> None:
    """Raise ParameterError for the first size that does not fit."""
    latent_sizes = {}
    for name, encoding in experiment.latents.items():
        if isinstance(encoding, Codec):
            _check_codec(f"latents.{name}", encoding)
        image_size, factor = experiment.data[encoding.data].image_size, experiment.autoencoder(name).factor
        _multiple(f"data.{encoding.data}.image_size", image_size, factor, f"the factor of latents.{name}")
        latent_sizes[name] = image_size // factor
    for name, data in experiment.data.items():
        if isinstance(data, MovingDigitsData):
            _multiple(f"data.{name}.image_size", data.image_size, 2 * data.cell, "two cells")
    for name, entry in experiment.systems.items():
        if isinstance(entry, Denoiser):
            _check_network(f"train.baselines.{name}.network", entry, latent_sizes[entry.latents])
        _check_guides(experiment, name, latent_sizes[experiment.baseline(name).latents])
        if entry.gates is not None:
            _check_gates(f"train: {name}.gates", entry.gates, experiment.baseline(name).network)
    for name, score in experiment.score.items():
        if isinstance(score.extractor, Classifier):
            _check_classifier(experiment, name, score.extractor)


def _check_guides(experiment: Experiment, system: str, size: int) -> None:
    """The classifiers that guide a system fit to its latents."""
    for name in experiment.samplers_of(system):
        classifier = experiment.samplers[name].classifier
        if classifier is not None:
            _check_unet(f"sample.{name}.classifier.network", classifier.network, size)


def _check_codec(where: str, codec: Codec) -> None:
    _groups(where, codec.block_channels, codec.norm_groups)
    attention = getattr(codec, "attention", None)
    if attention is not None and len(attention) != len(codec.block_channels):
        raise ParameterError(f"{where}.attention: one entry per block_channels is needed.")


def _check_classifier(experiment: Experiment, name: str, classifier: Classifier) -> None:
    """Every convolution but the last is followed by a halving, of time, too, if it sees clips."""
    data, smallest = experiment.data[experiment.score[name].data], 2 ** (len(classifier.channels) - 1)
    extent = data.image_size
    if isinstance(data, ClipData) and experiment.protocols[name].frames == 1:
        extent = min(extent, data.frames)
    if extent < smallest or len(classifier.channels) < 2:
        raise ParameterError(
            f"score.{name}.extractor.channels: two or more are needed, and images of {smallest} pixels (of clips "
            f"{smallest} frames, too) for so many."
        )


def _check_gates(where: str, gates: Gates, network: Network) -> None:
    """What `attach_gates` would refuse, refused before anything has been trained."""
    transformer = isinstance(network, Transformer)
    if isinstance(network, PixArt):
        _check_pixart_gates(where, gates)
    if gates.shape == "scalar" and transformer and gates.variant in ("rdm", "skip"):
        raise ParameterError(
            f"{where}.shape: a scalar beta is a no-op in a pre-LayerNorm transformer, which removes a constant shift; "
            "set channel."
        )
    if gates.shape == "scalar" and gates.variant == "adaln":
        raise ParameterError(
            f"{where}.shape: scalar gates of variant adaln are no-ops before a normalisation layer, which removes "
            "them; set channel."
        )
    if gates.unit == "branch" and not transformer:
        raise ParameterError(f"{where}.unit: a U-Net's residual block has one branch; set block.")


def _check_pixart_gates(where: str, gates: Gates) -> None:
    """Its blocks have a third branch, and are given six vectors instead of the timestep's embedding."""
    if gates.unit == "branch":
        raise ParameterError(f"{where}.unit: branches are known of adaLN-Zero blocks, pixart has none; set block.")
    if gates.time == "embedded":
        raise ParameterError(f"{where}.time: pixart's blocks are given no embedding of the timestep; set static.")


def _check_network(where: str, baseline: Denoiser, size: int) -> None:
    network = baseline.network
    if isinstance(network, TextNetwork) and isinstance(network.text, WordEncoder):
        _multiple(f"{where}.text.width", network.text.width, network.text.heads, "heads")
    if isinstance(network, Transformer):
        _multiple("the latents' size", size, network.patch, f"{where}.patch")
        _multiple(f"{where}.width", network.width, network.heads, "heads")
        _multiple(f"{where}.width", network.width, 4, "4, for the position embedding")
        return
    _check_unet(where, network, size)


def _check_unet(where: str, network: UNet | TextUNet | ADM, size: int) -> None:
    if len(network.attention) != len(network.block_channels):
        raise ParameterError(f"{where}.attention: one entry per block_channels is needed.")
    _multiple("the latents' size", size, 2 ** (len(network.block_channels) - 1), f"the levels of {where}")
    _groups(where, network.block_channels, network.norm_groups)
    heads = (network.heads,) * len(network.attention) if isinstance(network.heads, int) else network.heads
    added = getattr(network, "label", "cross") == "add"
    if len(heads) != len(network.attention) or (added and not isinstance(network.heads, int)):
        raise ParameterError(f"{where}.heads: one number, or with label: cross one per block_channels is needed.")
    if isinstance(network, ADM):  # every head has as many channels
        widest = max(network.block_channels)
        _multiple(f"{where}.block_channels", widest, network.heads, "heads")
        heads = (widest // network.heads,) * len(heads)
    for channels, attends, number in zip(network.block_channels, network.attention, heads, strict=True):
        if attends:
            _multiple(f"{where}.block_channels", channels, number, "heads")


def _groups(where: str, channels: tuple[int, ...], groups: int) -> None:
    if not channels:
        raise ParameterError(f"{where}.block_channels is empty; give one number per resolution.")
    for number in channels:
        _multiple(f"{where}.block_channels", number, groups, "norm_groups")


def _multiple(where: str, number: int, divisor: int, what: str) -> None:
    if number % divisor:
        raise ParameterError(f"{where}: {number} is not a multiple of {divisor} ({what}).")
