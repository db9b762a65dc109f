"""The variance of a denoising step as DiT, Latte and ADM learn it (Nichol & Dhariwal, 2021)."""

from __future__ import annotations

import functools
import math

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

BIN = 1 / 255  # half the width of a grey level on [-1, 1], for which the last step's likelihood was written


def variational_bound(
    process: DDIMScheduler, latents: Tensor, noisy: Tensor, timesteps: Tensor, epsilon: Tensor, fraction: Tensor
) -> Tensor:
    """What one step adds to the bound on -log p(latents), in bits per dimension (Eqs. 4 to 7).

    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)); at t = 0 the likelihood of x_0 in bins of 2/255, as in the official
    code. latents, noisy, epsilon, fraction: (B, [T,] C, h, w). timesteps: int64 (B,). Returns (B,).
    """
    picked = [table[timesteps] for table in _tables(process, latents.device, latents.dtype)]
    own = [values.view(-1, *[1] * (latents.ndim - 1)) for values in picked]
    alpha, of_clean, of_noisy, smallest, largest = own
    clean = (noisy - (1 - alpha).sqrt() * epsilon) / alpha.sqrt()
    mean = of_clean * clean + of_noisy * noisy
    share = (fraction + 1) / 2
    log_variance = share * largest + (1 - share) * smallest  # Eq. 15
    truth = of_clean * latents + of_noisy * noisy
    divergence = 0.5 * (log_variance - smallest + (smallest - log_variance).exp() - 1)
    divergence = divergence + 0.5 * (truth - mean).square() * (-log_variance).exp()
    first = timesteps.view(-1, *[1] * (latents.ndim - 1)) == 0
    nats = torch.where(first, -_log_likelihood(latents, mean, log_variance), divergence)
    return nats.flatten(1).mean(1) / math.log(2)


def step_variance(steps: DDPMScheduler, timestep: Tensor, fraction: Tensor) -> Tensor:
    """The learned variance of the step that `steps` takes from a timestep (Eq. 15), shaped like `fraction`.

    Of the last step, whose smallest variance would be 0, the largest.
    """
    before = int(steps.previous_timestep(timestep))
    alpha = steps.alphas_cumprod[timestep].double()
    alpha_before = steps.alphas_cumprod[before].double() if before >= 0 else torch.ones_like(alpha)
    largest = 1 - alpha / alpha_before
    smallest = largest * (1 - alpha_before) / (1 - alpha) if before >= 0 else largest
    share = (fraction + 1) / 2
    variance: Tensor = (share * largest.log().to(fraction) + (1 - share) * smallest.log().to(fraction)).exp()
    return variance


@functools.lru_cache(maxsize=1)  # to send them to a GPU anew would wait for it at every step
def _tables(process: DDIMScheduler, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """By timestep: cumulative alpha; the posterior mean's weights of x_0 and x_t; log beta~ and log beta.

    Computed in float64 on the CPU; `dtype` on `device`, each (timesteps,).
    """
    beta = process.betas.double()
    alpha = torch.cumprod(1 - beta, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha[:-1]])
    posterior = beta * (1 - before) / (1 - alpha)
    posterior[0] = posterior[1]  # it is 0, whose logarithm is not finite
    of_clean, of_noisy = beta * before.sqrt() / (1 - alpha), (1 - before) * (1 - beta).sqrt() / (1 - alpha)
    return tuple(t.to(device, dtype) for t in (alpha, of_clean, of_noisy, posterior.log(), beta.log()))


def _log_likelihood(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log of the normal distribution's mass in the bin around each value; the outermost bins are open."""
    scale = (-0.5 * log_variance).exp()
    above, below = (values - mean + BIN) * scale, (values - mean - BIN) * scale
    inside = (torch.special.ndtr(above) - torch.special.ndtr(below)).clamp(min=1e-12).log()
    lowest, highest = torch.special.log_ndtr(above), torch.special.log_ndtr(-below)
    return torch.where(values < -0.999, lowest, torch.where(values > 0.999, highest, inside))
