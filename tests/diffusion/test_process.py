"""Targets and samplers against closed forms."""

import pytest
import torch

from rdm.diffusion.process import forward_process, training_loss
from rdm.diffusion.sampling import draw_latents, guided, network_calls
from rdm.params.schema import Diffusion, Sampler

MEAN, STD = 0.7, 0.4


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_betas(schedule):
    process = forward_process(Diffusion(target="v", schedule=schedule, beta_start=0.0015, beta_end=0.0195))
    power = 1 if schedule == "linear" else 0.5
    expected = torch.linspace(0.0015**power, 0.0195**power, 1000) ** (1 / power)
    torch.testing.assert_close(process.betas, expected)


@pytest.mark.parametrize("target", ["epsilon", "v"])
def test_the_loss_is_zero_for_the_right_answer(target):
    process = forward_process(Diffusion(target=target))
    random = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(4, 2, 3, 3, generator=random) for _ in range(2))
    timesteps = torch.tensor([0, 10, 500, 999])
    alpha = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[timesteps].view(-1, 1, 1, 1)
    answer = noise if target == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    def model(noisy, asked, labels):
        torch.testing.assert_close(noisy, alpha.sqrt() * latents + (1 - alpha).sqrt() * noise)
        return answer

    arguments = process, latents, noise, timesteps, torch.zeros(4, dtype=torch.int64)
    assert training_loss(model, *arguments) < 1e-10
    assert training_loss(lambda *a: answer + 2, *arguments) == pytest.approx(4, rel=1e-5)


def exact_model(process, target):
    """What a perfect network answers when the data are Gaussian, N(MEAN, STD^2) in every coordinate."""

    def model(noisy, timesteps, labels):
        alpha = process.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        variance = alpha * STD**2 + 1 - alpha
        noise = (1 - alpha).sqrt() * (noisy - alpha.sqrt() * MEAN) / variance
        clean = (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        return noise if target == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    return model


@pytest.mark.parametrize("target", ["epsilon", "v"])
@pytest.mark.parametrize(
    "sampler",
    [
        Sampler(steps=250, batch=16),
        Sampler(steps=250, eta=1.0, batch=16),
        Sampler(solver="dpm++", steps=30, batch=16),
    ],
    ids=["ddim", "ddpm", "dpm++"],
)
def test_the_exact_score_gives_the_data_distribution(target, sampler):
    diffusion = Diffusion(target=target)
    model = exact_model(forward_process(diffusion), target)
    keys = [(0, index) for index in range(16)]
    drawn = draw_latents(model, diffusion, sampler, [4, 16, 16], torch.zeros(16, dtype=torch.int64), 9, keys)
    assert drawn.mean() == pytest.approx(MEAN, abs=0.02)
    assert drawn.std() == pytest.approx(STD, abs=0.02)


def test_a_sample_is_a_function_of_its_key():
    diffusion, sampler = Diffusion(target="v"), Sampler(steps=3, eta=1.0, batch=2)
    model = exact_model(forward_process(diffusion), "v")

    def draw(keys):
        return draw_latents(model, diffusion, sampler, [1, 2, 2], torch.zeros(len(keys), dtype=torch.int64), 9, keys)

    together = draw([(0, 0), (0, 1), (1, 0)])
    assert torch.equal(draw([(0, 1), (0, 0)]), together[[1, 0]])
    assert len({tuple(sample.flatten().tolist()) for sample in together}) == 3


def test_guidance():
    """unconditional + scale * (conditional - unconditional), with the null label for the former."""

    def model(latents, timesteps, labels):
        return labels.float().view(-1, 1) + 10 * timesteps.view(-1, 1)

    latents, labels = torch.zeros(2, 1), torch.tensor([3, 4])
    assert guided(model, latents, torch.tensor(1), labels, 7, 1.0).flatten().tolist() == [13, 14]
    assert guided(model, latents, torch.tensor(1), labels, 7, 1.5).flatten().tolist() == [11, 12.5]
    assert network_calls(Sampler(steps=5, batch=1)) == 5
    assert network_calls(Sampler(steps=5, guidance=1.5, batch=1)) == 10
