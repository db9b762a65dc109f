"""Sizes that must divide each other: found when the parameters are read, not after an hour of training."""

from __future__ import annotations

from collections.abc import Mapping

from rdm.errors import ParameterError
from rdm.params.gates import Gates
from rdm.params.schema import Autoencoder, Baseline, Classifier, Data, DiT, Sampler, Score, Train, UNet


def check_shapes(
    data: Mapping[str, Data],
    latents: Mapping[str, Autoencoder],
    train: Train,
    samplers: Mapping[str, Sampler],
    score: Score,
) -> None:
    """Raise ParameterError for the first size that does not fit."""
    latent_sizes = {}
    for name, autoencoder in latents.items():
        where = f"latents.{name}"
        size, factor = data[autoencoder.data].image_size, 2 ** (len(autoencoder.block_channels) - 1)
        _multiple(f"data.{autoencoder.data}.image_size", size, factor, f"the factor of {where}")
        _groups(where, autoencoder.block_channels, autoencoder.norm_groups)
        latent_sizes[name] = size // factor
    for name, baseline in train.baselines.items():
        where, size = f"train.baselines.{name}", latent_sizes[baseline.latents]
        if latents[baseline.latents].data != score.data:
            raise ParameterError(f"{where}.latents: these are of another data set than score.data, {score.data!r}.")
        _check_network(f"{where}.network", baseline, size)
        for sampler_name, sampler in samplers.items():
            if sampler.steps > baseline.diffusion.timesteps:
                raise ParameterError(
                    f"sample.{sampler_name}.steps: {sampler.steps} is more than the {baseline.diffusion.timesteps} "
                    f"timesteps of {where}."
                )
    for name, gated in train.gated.items():
        network = train.baselines[gated.start].network
        if gated.gates is not None:
            _check_gates(f"train.gated.{name}.gates", gated.gates, isinstance(network, DiT))
    if isinstance(score.extractor, Classifier):
        smallest = 2 ** (len(score.extractor.channels) - 1)
        if data[score.data].image_size < smallest or len(score.extractor.channels) < 2:
            raise ParameterError(
                f"score.extractor.channels: two or more are needed, and images of {smallest} pixels for so many."
            )


def _check_gates(where: str, gates: Gates, transformer: bool) -> None:
    """What `attach_gates` would refuse, refused before anything has been trained."""
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


def _check_network(where: str, baseline: Baseline, size: int) -> None:
    network = baseline.network
    if isinstance(network, DiT):
        _multiple("the latents' size", size, network.patch, f"{where}.patch")
        _multiple(f"{where}.width", network.width, network.heads, "heads")
        _multiple(f"{where}.width", network.width, 4, "4, for the position embedding")
        return
    _check_unet(where, network, size)


def _check_unet(where: str, network: UNet, size: int) -> None:
    if len(network.attention) != len(network.block_channels):
        raise ParameterError(f"{where}.attention: one entry per block_channels is needed.")
    _multiple("the latents' size", size, 2 ** (len(network.block_channels) - 1), f"the levels of {where}")
    _groups(where, network.block_channels, network.norm_groups)
    for channels, attends in zip(network.block_channels, network.attention, strict=True):
        if attends:
            _multiple(f"{where}.block_channels", channels, network.heads, "heads")


def _groups(where: str, channels: tuple[int, ...], groups: int) -> None:
    if not channels:
        raise ParameterError(f"{where}.block_channels is empty; give one number per resolution.")
    for number in channels:
        _multiple(f"{where}.block_channels", number, groups, "norm_groups")


def _multiple(where: str, number: int, divisor: int, what: str) -> None:
    if number % divisor:
        raise ParameterError(f"{where}: {number} is not a multiple of {divisor} ({what}).")
