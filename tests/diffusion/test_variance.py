"""The learned variance: its training term against torch.distributions, its sampler against closed forms."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from rdm.diffusion.process import forward_process, solver, training_loss
from rdm.diffusion.sampling import draw_latents, guided
from rdm.diffusion.variance import step_variance, variational_bound
from rdm.params.sampler import Sampler
from rdm.params.schema import Diffusion
from tests.diffusion.test_process import MEAN, STD, exact_model

DIFFUSION = Diffusion(target="epsilon")
PROCESS = forward_process(DIFFUSION)
BETA = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
ALPHA = torch.cumprod(1 - BETA, 0)
SAMPLER = Sampler(solver="ddpm", steps=250, batch=16)


def posterior(clean, noisy, t):
    """q(x_{t-1} | x_t, x_0) of the forward process, by Bayes' rule: mean, and variance."""
    before = ALPHA[t - 1] if t else torch.ones((), dtype=torch.float64)
    # N(x_{t-1}; sqrt(before) x_0, 1 - before) times N(x_t; sqrt(1 - beta) x_{t-1}, beta)
    precision = 1 / (1 - before) + (1 - BETA[t]) / BETA[t]
    mean = (before.sqrt() * clean / (1 - before) + (1 - BETA[t]).sqrt() * noisy / BETA[t]) / precision
    return mean, 1 / precision


@pytest.mark.parametrize("t", [1, 17, 500, 999])
def test_the_bound_is_the_divergence_of_two_normal_distributions(t):
    random = torch.Generator().manual_seed(t)
    clean, noisy, epsilon, fraction = torch.randn(4, 2, 3, 4, 5, dtype=torch.float64, generator=random)
    timesteps = torch.full((2,), t)
    mean, variance = posterior(clean, noisy, t)
    predicted, _ = posterior((noisy - (1 - ALPHA[t]).sqrt() * epsilon) / ALPHA[t].sqrt(), noisy, t)
    share = (fraction + 1) / 2
    own = BETA[t] ** share * variance ** (1 - share)
    expected = kl_divergence(Normal(mean, variance.sqrt()), Normal(predicted, own.sqrt())).flatten(1).mean(1)
    found = variational_bound(PROCESS, clean, noisy, timesteps, epsilon, fraction)
    torch.testing.assert_close(found * math.log(2), expected, rtol=2e-4, atol=0)  # diffusers keeps betas in float32


def test_the_last_step_is_the_likelihood_of_a_grey_level():
    values = torch.tensor([-1.0, -0.3, 0.5, 1.0], dtype=torch.float64).view(1, 4, 1, 1)
    epsilon = torch.full_like(values, 0.4)
    noisy = ALPHA[0].sqrt() * values + (1 - ALPHA[0]).sqrt() * 0.7
    clean = (noisy - (1 - ALPHA[0]).sqrt() * epsilon) / ALPHA[0].sqrt()
    variance = BETA[1] * (1 - ALPHA[0]) / (1 - ALPHA[1])  # the smallest, at fraction -1; that of t = 0 would be 0
    normal = Normal(clean, variance.sqrt())
    inside = normal.cdf(values + 1 / 255) - normal.cdf(values - 1 / 255)
    lowest, highest = normal.cdf(values + 1 / 255), 1 - normal.cdf(values - 1 / 255)
    expected = torch.where(values == -1, lowest, torch.where(values == 1, highest, inside)).log2().mean()
    first = torch.zeros(1, dtype=torch.int64)
    found = variational_bound(PROCESS, values, noisy, first, epsilon, -torch.ones_like(values))
    torch.testing.assert_close(-found, expected[None], rtol=2e-3, atol=0)


def test_the_loss_is_finite_everywhere_and_trains_both_halves_apart():
    """No gradient of the variance's term reaches the noise, and none of the noise's error the variance."""
    random = torch.Generator().manual_seed(0)
    latents, noise = 3 * torch.randn(2, 1000, 2, 1, 1, generator=random)
    halves = torch.randn(2, 1000, 2, 1, 1, generator=random).requires_grad_()
    timesteps, labels = torch.arange(1000), torch.zeros(1000, dtype=torch.int64)
    loss = training_loss(lambda *_: torch.cat([*halves], 1), PROCESS, latents, noise, timesteps, labels)
    (gradient,) = torch.autograd.grad(loss, halves)
    assert gradient.isfinite().all()
    assert gradient[1].abs().amin((1, 2, 3))[1:].min() > 0
    error = (halves[0] - noise).square().mean()
    torch.testing.assert_close(gradient[0], torch.autograd.grad(error, halves)[0][0])
    assert loss > error


def test_the_timesteps_are_those_of_the_official_code():
    """The section of 250 among 1000: the first and the last, and rounded equal strides between them."""
    steps = solver(DIFFUSION, SAMPLER)
    steps.set_timesteps(250)
    assert sorted(steps.timesteps.tolist()) == [round(i * 999 / 249) for i in range(250)]


@pytest.mark.parametrize("fraction", [-1, 1])
def test_each_of_the_250_variances_is_that_of_the_formulas(fraction):
    """Of the process that takes these steps alone: beta~ and beta; the last step adds no noise."""
    steps = solver(DIFFUSION, SAMPLER)
    steps.set_timesteps(250)
    alpha = ALPHA[[round(i * 999 / 249) for i in range(250)]]
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha[:-1]])
    beta = 1 - alpha / before
    expected = beta if fraction == 1 else beta * (1 - before) / (1 - alpha)
    share = torch.tensor(fraction, dtype=torch.float64)
    found = torch.stack([step_variance(steps, timestep, share) for timestep in steps.timesteps.flip(0)])
    torch.testing.assert_close(found[1:], expected[1:], rtol=2e-4, atol=0)  # diffusers keeps betas in float32


def with_variance(model, fraction):
    """A network that predicts the variance beside what `model` does."""

    def both(noisy, timesteps, labels):
        prediction = model(noisy, timesteps, labels)
        return torch.cat([prediction, torch.full_like(prediction, fraction)], -3)

    return both


def draw(model, sampler, shape, count=16):
    keys = [(0, index) for index in range(count)]
    return draw_latents(model, DIFFUSION, sampler, shape, torch.zeros(count, dtype=torch.int64), 9, keys)


@pytest.mark.parametrize("fraction", [-1, 1])
@pytest.mark.parametrize("frames", [[], [4]], ids=["images", "clips"])
def test_the_exact_score_gives_the_data_distribution(fraction, frames):
    """With the smaller and the larger of the two variances between which a network chooses."""

    def exact(noisy, timesteps, labels):
        alpha = PROCESS.alphas_cumprod[timesteps].view(-1, *[1] * (noisy.ndim - 1))
        return (1 - alpha).sqrt() * (noisy - alpha.sqrt() * MEAN) / (alpha * STD**2 + 1 - alpha)

    drawn = draw(with_variance(exact, fraction), SAMPLER, [*frames, 4, 16 if not frames else 8, 8])
    assert drawn.mean() == pytest.approx(MEAN, abs=0.02)
    assert drawn.std() == pytest.approx(STD, abs=0.02)


@pytest.mark.parametrize("options", [{"solver": "ddpm"}, {"solver": "ddim"}, {"solver": "ddim", "eta": 1.0}], ids=str)
def test_the_exact_score_of_a_gaussian_gives_its_mean_and_covariance(options):
    """Of two channels that go together, at every place; 16,384 draws of 250 steps."""
    mean, covariance = torch.tensor([0.7, -0.2]), torch.tensor([[0.5, 0.3], [0.3, 0.4]])

    def exact(noisy, timesteps, labels):
        alpha = PROCESS.alphas_cumprod[timesteps[0]]
        root = (1 - alpha).sqrt() * torch.linalg.inv(alpha * covariance + (1 - alpha) * torch.eye(2))
        return torch.einsum("ij,njhw->nihw", root, noisy - alpha.sqrt() * mean[:, None, None])

    sampler = Sampler(steps=250, batch=16, **options)
    drawn = draw(with_variance(exact, -1) if sampler.solver == "ddpm" else exact, sampler, [2, 32, 32])
    places = drawn.transpose(0, 1).flatten(1)
    torch.testing.assert_close(places.mean(1), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(places.cov(), covariance, atol=0.02, rtol=0)


def test_a_step_has_the_variance_of_the_formulas():
    """Two steps, from 999 to 0 with noise of the posterior's variance, and from 0 without: all linear in the start."""
    model = with_variance(lambda noisy, *_: 0.3 * noisy, -1)
    drawn = draw(model, SAMPLER.model_copy(update={"steps": 2}), [1, 1, 1], count=20000).double()
    alpha, before = ALPHA[999], ALPHA[0]
    beta = 1 - alpha / before
    clean_by_noisy = (1 - 0.3 * (1 - alpha).sqrt()) / alpha.sqrt()
    slope = beta * before.sqrt() / (1 - alpha) * clean_by_noisy + (1 - before) * (1 - beta).sqrt() / (1 - alpha)
    variance = slope**2 + beta * (1 - before) / (1 - alpha)
    last = (1 - 0.3 * (1 - before).sqrt()) / before.sqrt()
    assert drawn.var() == pytest.approx(float(last**2 * variance), rel=0.03)


def test_other_solvers_look_at_the_prediction_alone():
    model = exact_model(PROCESS, "epsilon")
    for sampler in (Sampler(steps=4, eta=1.0, batch=2), Sampler(solver="dpm++", steps=4, batch=2)):
        plain, learned = (draw(m, sampler, [2, 3, 3], count=2) for m in (model, with_variance(model, 0.5)))
        assert torch.equal(plain, learned)


def test_guidance_leaves_the_variance_alone():
    """Of the official DiT the first three channels are guided, of Latte all four; the variance of neither."""
    latents, labels = torch.zeros(1, 4, 2, 2), torch.tensor([3])
    for free in (3, None):
        sampler = Sampler(solver="ddpm", steps=2, guidance=1.5, guided_channels=free, batch=1)

        def model(noisy, timesteps, asked):
            return asked.float().view(-1, 1, 1, 1).expand(-1, 8, 2, 2)

        found = guided(model, latents, torch.tensor(1), labels, 7, sampler)
        assert found[0, :, 0, 0].tolist() == [1.0] * (free or 4) + [3.0] * (8 - (free or 4))
