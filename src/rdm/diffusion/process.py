"""The forward process, the training objective, and the solvers that belong to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from rdm.diffusion.variance import variational_bound
from rdm.params import schema
from rdm.params.sampler import Sampler

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]  # (latents, timesteps, labels) -> prediction, [variance]


def forward_process(diffusion: schema.Diffusion) -> DDIMScheduler:
    """diffusers' DDIM scheduler with this experiment's betas: it adds noise, defines the targets, and samples."""
    return DDIMScheduler(**_betas(diffusion), clip_sample=False)


def solver(
    diffusion: schema.Diffusion, sampler: Sampler
) -> DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler:
    """The scheduler that takes the sampling steps."""
    if sampler.solver == "ddpm":
        # the official code's timesteps: evenly spaced, the first and the last of training among them
        spacing = _betas(diffusion) | {"timestep_spacing": "linspace"}
        return DDPMScheduler(**spacing, variance_type="learned_range", clip_sample=sampler.clip)
    if sampler.solver == "dpm++":
        return DPMSolverMultistepScheduler(**_betas(diffusion), algorithm_type="dpmsolver++", solver_order=2)
    if sampler.spacing == "leading":  # LDM's: one later than DDIM's own, and the last step ends at the first beta
        return DDIMScheduler(
            **_betas(diffusion) | {"timestep_spacing": "leading"},
            steps_offset=1,
            set_alpha_to_one=False,
            clip_sample=False,
        )
    return forward_process(diffusion)


def _betas(diffusion: schema.Diffusion) -> dict[str, Any]:
    return {
        "num_train_timesteps": diffusion.timesteps,
        "beta_schedule": diffusion.schedule,
        "beta_start": diffusion.beta_start,
        "beta_end": diffusion.beta_end,
        "prediction_type": "v_prediction" if diffusion.target == "v" else "epsilon",
        "timestep_spacing": "trailing",  # the first sampling step starts at the last training timestep
    }


def training_loss(
    model: Denoiser, process: DDIMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor, labels: Tensor
) -> Tensor:
    """Mean squared error of the predicted noise, or of the velocity v (Salimans & Ho, 2022, Eq. 10).

    A network with twice the latents' channels predicts the variance, too: the variational bound is added, through
    which no gradient reaches the noise (Nichol & Dhariwal, 2021, with DiT's weight of 1).
    latents, noise: (B, [T,] C, h, w). timesteps, labels: int64 (B,).
    """
    noisy = process.add_noise(latents, noise, timesteps)
    if process.config.prediction_type == "v_prediction":
        target: Tensor = process.get_velocity(latents, noise, timesteps)
    else:
        target = noise
    prediction = model(noisy, timesteps, labels)
    if prediction.shape == latents.shape:
        return (prediction - target).square().mean()
    epsilon, fraction = prediction.chunk(2, dim=-3)
    bound = variational_bound(process, latents, noisy, timesteps, epsilon.detach(), fraction)
    return (epsilon - target).square().mean() + bound.mean()
