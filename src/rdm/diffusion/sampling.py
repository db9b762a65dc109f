"""From noise to latents, guided by labels without a classifier (Ho & Salimans, 2022) or with one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rdm.diffusion.process import Denoiser, solver
from rdm.diffusion.variance import step_variance
from rdm.params.sampler import Sampler
from rdm.params.schema import Diffusion
from rdm.randomness import generator

Classifier = Callable[[Tensor, Tensor], Tensor]  # (latents, timesteps) -> log-odds (B, classes)


@torch.no_grad()
def draw_latents(
    model: Denoiser,
    diffusion: Diffusion,
    sampler: Sampler,
    shape: list[int],
    labels: Tensor,
    null_label: int | Tensor,
    noise_keys: list[tuple[int, int]],
    classifier: Classifier | None = None,
) -> Tensor:
    """Latents (B, *shape); item j depends on its label and on noise_keys[j] = (seed, index), on nothing else.

    labels: int64 (B,) on the model's device, or the tokens of captions (B, length); null_label: what means none.
    classifier: of noisy latents; given if and only if `sampler.classifier` is, which has its scale.
    """
    assert (classifier is None) == (sampler.classifier is None)
    generators = [generator(seed, "sample", index) for seed, index in noise_keys]
    start = torch.stack([torch.randn(tuple(shape), generator=g) for g in generators])
    latents = start.to(labels.device)
    steps = solver(diffusion, sampler)
    steps.set_timesteps(sampler.steps)
    unguided = sampler.model_copy(update={"guidance": 1.0, "classifier": None})
    for number, timestep in enumerate(steps.timesteps):
        now = unguided if number < sampler.unguided_steps else sampler
        prediction = guided(model, latents, timestep.to(labels.device), labels, null_label, now)
        shift = None  # of the score
        if classifier is not None and now.classifier is not None:
            shift = now.classifier.scale * label_gradient(classifier, latents, timestep.to(labels.device), labels)
        if sampler.solver == "ddpm":  # diffusers looks for the learned variance along the second axis
            turned = prediction.transpose(1, -3), timestep, latents.transpose(1, -3)
            latents = steps.step(*turned, generator=generators).prev_sample.transpose(1, -3)
            if shift is not None:  # Algorithm 1: of the mean, which is all that differs
                latents = latents + step_variance(steps, timestep, prediction.chunk(2, -3)[1]) * shift
            continue
        prediction = prediction.narrow(-3, 0, shape[-3])  # a learned variance is for ddpm alone
        if shift is not None:  # Algorithm 2: epsilon is -sqrt(1 - alpha) times the score
            alpha = steps.alphas_cumprod[timestep]
            deviation = (1 - alpha).sqrt() / (alpha.sqrt() if diffusion.target == "v" else 1)
            prediction = prediction - deviation.to(shift) * shift
        ancestral = {}
        if sampler.eta > 0:
            noise = torch.stack([torch.randn(tuple(shape), generator=g) for g in generators])
            ancestral = {"eta": sampler.eta, "variance_noise": noise.to(labels.device)}
        latents = steps.step(prediction, timestep, latents, **ancestral).prev_sample
    return latents


def label_gradient(classifier: Classifier, latents: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
    """The gradient of log p(label | latents) by the latents, (B, C, h, w) (Dhariwal & Nichol, 2021)."""
    with torch.enable_grad():
        entering = latents.detach().requires_grad_()
        odds = classifier(entering, timestep.expand(len(latents)))
        chosen = odds.log_softmax(-1).gather(1, labels[:, None])
        (gradient,) = torch.autograd.grad(chosen.sum(), entering)
    return gradient


def guided(
    model: Denoiser, latents: Tensor, timestep: Tensor, labels: Tensor, null_label: int | Tensor, sampler: Sampler
) -> Tensor:
    """unconditional + scale * (conditional - unconditional); one network call for both, and none wasted at scale 1.

    Channels beyond `guided_channels` stay conditional, as in DiT's published samples, and so does a learned variance.
    """
    timesteps, scale = timestep.expand(len(latents)), sampler.guidance
    if scale == 1:
        return model(latents, timesteps, labels)
    both_labels = torch.cat([labels, torch.as_tensor(null_label).to(labels).expand_as(labels)])
    both = model(torch.cat([latents, latents]), torch.cat([timesteps, timesteps]), both_labels)
    conditional, unconditional = both.chunk(2)
    mixed = unconditional + scale * (conditional - unconditional)
    if sampler.guided_channels is None and mixed.shape == latents.shape:
        return mixed
    free = sampler.guided_channels or latents.shape[-3]
    return torch.cat([mixed.narrow(-3, 0, free), conditional[..., free:, :, :]], dim=-3)
