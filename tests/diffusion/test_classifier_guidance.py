"""Classifier guidance against closed forms: two classes of Gaussians, the exact score of their mixture, Bayes' rule.

An item has 64 pixels of two channels, independent but for its class.
"""

import pytest
import torch
from torch.distributions import MultivariateNormal

from rdm.diffusion.process import forward_process, solver
from rdm.diffusion.sampling import draw_latents, label_gradient
from rdm.diffusion.variance import step_variance
from rdm.params.sampler import Sampler
from rdm.params.schema import Diffusion

NETWORK = {"kind": "adm", "block_channels": [32], "layers_per_block": 1, "norm_groups": 32, "attention": [True]}
MEANS = torch.tensor([[0.8, -0.3], [-0.6, 0.5]])
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]])
ALPHA = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float()
COUNT, SHAPE = 64, [2, 8, 8]


def sampler(scale=1.0, **changes):
    return Sampler(batch=COUNT, classifier={"weights": "none", "network": NETWORK, "scale": scale}, **changes)


def components(latents, timesteps):
    """Of noisy items (B, 2, h, w): log p(item | class), (B, 2), and its gradients, (B, 2, 2, h, w)."""
    alpha = ALPHA[timesteps[0]]
    noisy = alpha * COVARIANCE + (1 - alpha) * torch.eye(2)
    pixels = latents.movedim(1, -1)[:, None]  # (B, 1, h, w, 2)
    means = alpha.sqrt() * MEANS.view(1, 2, 1, 1, 2)
    scores = ((means - pixels) @ torch.linalg.inv(noisy)).movedim(-1, 2)
    return MultivariateNormal(means, noisy).log_prob(pixels).sum((2, 3)), scores


def classifier(latents, timesteps):
    """Bayes' rule, where both classes are as probable a priori; log-odds (B, 2)."""
    return components(latents, timesteps)[0]


def unconditional(target, fraction=None):
    """The exact network for the mixture; fraction: what it says of the variance."""

    def model(latents, timesteps, labels):
        alpha = ALPHA[timesteps[0]]
        odds, scores = components(latents, timesteps)
        score = (odds.softmax(1)[:, :, None, None, None] * scores).sum(1)
        epsilon = -(1 - alpha).sqrt() * score
        clean = (latents - (1 - alpha).sqrt() * epsilon) / alpha.sqrt()
        prediction = epsilon if target == "epsilon" else alpha.sqrt() * epsilon - (1 - alpha).sqrt() * clean
        return prediction if fraction is None else torch.cat([prediction, torch.full_like(prediction, fraction)], 1)

    return model


def draw(model, chosen, diffusion=None, labels=None, given=classifier):
    labels = torch.arange(COUNT) % 2 if labels is None else labels
    keys = [(0, index) for index in range(COUNT)]
    diffusion = diffusion or Diffusion(target="epsilon")
    return draw_latents(model, diffusion, chosen, SHAPE, labels, 9, keys, given)


CASES = {
    "ddim": ("epsilon", None, sampler(steps=250)),
    "ddim v": ("v", None, sampler(steps=250)),
    "ancestral ddim": ("epsilon", None, sampler(steps=250, eta=1.0)),
    "dpm++": ("epsilon", None, sampler(solver="dpm++", steps=50)),
    "ddpm, smallest variance": ("epsilon", -1, sampler(solver="ddpm", steps=250)),
    "ddpm, largest variance": ("epsilon", 1, sampler(solver="ddpm", steps=250)),
}


@pytest.mark.parametrize("case", CASES)
def test_guidance_of_scale_1_makes_the_mixture_its_component(case):
    target, fraction, chosen = CASES[case]
    drawn = draw(unconditional(target, fraction), chosen, Diffusion(target=target))
    for label, mean in enumerate(MEANS):
        own = drawn[label::2].transpose(0, 1).flatten(1)  # 2048 pixels
        torch.testing.assert_close(own.mean(1), mean, atol=0.05, rtol=0)
        torch.testing.assert_close(own.cov(), COVARIANCE, atol=0.05, rtol=0)


def test_without_it_items_are_of_either_class():
    """So the test above shows what the classifier does."""
    drawn = draw(unconditional("epsilon"), Sampler(steps=50, batch=COUNT), given=None)
    label = classifier(drawn, torch.zeros(1, dtype=torch.int64)).argmax(1)
    assert 0.25 < label.float().mean() < 0.75
    torch.testing.assert_close(drawn.mean((2, 3)), MEANS[label], atol=0.35, rtol=0)


def test_the_gradient_is_that_of_bayes_rule():
    """d log p(y | x) = d log p(x | y) - d log p(x); of one label, of this item alone."""
    latents, labels, t = 0.2 * torch.randn(5, 2, 2, 2), torch.tensor([0, 1, 1, 0, 1]), torch.tensor(300)
    odds, scores = components(latents, t.expand(5))
    conditional, marginal = (scores[range(5), labels], (odds.softmax(1)[:, :, None, None, None] * scores).sum(1))
    found = label_gradient(classifier, latents, t, labels)
    torch.testing.assert_close(found, conditional - marginal, atol=1e-4, rtol=1e-4)
    assert not found.requires_grad


def blind(latents, timesteps, labels):
    return torch.zeros_like(latents)


def steep(latents, timesteps):
    """log p(1 | x) = -softplus(1000 - x) of the first number x: a gradient of 1 there, and of 0 elsewhere."""
    first = latents.flatten(1)[:, :1]
    return torch.cat([1000 - first, torch.zeros_like(first)], 1)


@pytest.mark.parametrize("scale", [0.5, 10.0])
@pytest.mark.parametrize("fraction", [-1.0, 0.25, 1.0])
def test_a_ddpm_step_shifts_the_mean_by_scale_times_variance_times_gradient(scale, fraction):
    """Algorithm 1, in two steps: from 999, where the network sees noise alone, and from 0, where it sees none."""

    def model(latents, timesteps, labels):
        epsilon = latents / (1 - ALPHA[999]).sqrt() if timesteps[0] == 999 else torch.zeros_like(latents)
        return torch.cat([epsilon, torch.full_like(latents, fraction)], 1)

    ones = torch.ones(COUNT, dtype=torch.int64)
    guided = draw(model, sampler(scale, solver="ddpm", steps=2), labels=ones, given=steep)
    shift = guided - draw(model, Sampler(solver="ddpm", steps=2, batch=1), labels=ones, given=None)
    beta = 1 - ALPHA[999] / ALPHA[0]
    smallest = beta * (1 - ALPHA[0]) / (1 - ALPHA[999])
    variance = smallest ** ((1 - fraction) / 2) * beta ** ((1 + fraction) / 2)
    # the second step divides by sqrt(alpha), and shifts by its own variance
    expected = scale * (variance / ALPHA[0].sqrt() + (1 - ALPHA[0]))
    torch.testing.assert_close(shift[:, 0, 0, 0], expected.expand(COUNT), atol=1e-6, rtol=1e-3)
    assert torch.count_nonzero(shift[:, 1]) == 0


def test_steps_that_are_not_guided():
    """The first of two, whose shift is then not there; the last is."""
    ones = torch.ones(COUNT, dtype=torch.int64)
    none, last = Sampler(steps=2, batch=1), sampler(0.01, steps=2, unguided_steps=1)
    whole = draw(blind, sampler(0.01, steps=2), labels=ones, given=steep)
    shift = draw(blind, last, labels=ones, given=steep) - draw(blind, none, labels=ones, given=None)
    timesteps = solver(Diffusion(target="epsilon"), none)
    timesteps.set_timesteps(2)
    alpha = ALPHA[timesteps.timesteps[-1]]
    torch.testing.assert_close(shift[:, 0, 0, 0], (0.01 * (1 - alpha) / alpha.sqrt()).expand(COUNT), atol=1e-3, rtol=0)
    assert (whole[:, 0, 0, 0] - draw(blind, last, labels=ones, given=steep)[:, 0, 0, 0]).min() > 1e-3


@pytest.mark.parametrize("t", [999, 501, 4])
@pytest.mark.parametrize("fraction", [-1.0, -0.3, 1.0, 1.2])
def test_the_variance_is_the_one_that_the_step_adds(t, fraction):
    """Of 250 steps between 0 and 999; against what diffusers adds as noise."""
    steps = solver(Diffusion(target="epsilon"), Sampler(solver="ddpm", steps=250, batch=1))
    steps.set_timesteps(250)
    timestep = min(steps.timesteps, key=lambda own: abs(own - t))
    noise = torch.full((20000, 1, 1, 1), fraction)
    latents = torch.zeros(20000, 1, 1, 1)
    prediction = torch.cat([latents, noise], 1)
    drawn = steps.step(prediction, timestep, latents, generator=torch.Generator().manual_seed(0)).prev_sample
    found = step_variance(steps, timestep, noise[:1])
    assert drawn.var() == pytest.approx(float(found), rel=0.05)


@pytest.mark.parametrize("target", ["epsilon", "v"])
def test_a_ddim_step_shifts_epsilon(target):
    """Algorithm 2: epsilon - sqrt(1 - alpha) * scale * gradient, in one step from 999 to the clean item."""
    diffusion, ones = Diffusion(target=target), torch.ones(COUNT, dtype=torch.int64)
    guided = draw(blind, sampler(0.01, steps=1), diffusion, ones, steep)
    shift = guided - draw(blind, Sampler(steps=1, batch=1), diffusion, ones, None)
    alpha = forward_process(diffusion).alphas_cumprod[999]
    expected = 0.01 * (1 - alpha) / alpha.sqrt()  # of (x - sqrt(1 - alpha) epsilon) / sqrt(alpha)
    torch.testing.assert_close(shift[:, 0, 0, 0], expected.expand(COUNT), atol=0, rtol=1e-3)
    assert torch.count_nonzero(shift[:, 1]) == 0


def test_what_is_clipped():
    """A step's clean item stays in [-1, 1]: the posterior's mean is then that of +-1."""
    diffusion = Diffusion(target="epsilon")
    far = torch.tensor([5.0, -5.0]).view(1, 2, 1, 1)

    def model(latents, timesteps, labels):
        """Says that the clean item is +-5."""
        alpha = ALPHA[timesteps[0]]
        epsilon = (latents - alpha.sqrt() * far) / (1 - alpha).sqrt()
        return torch.cat([epsilon, -torch.ones_like(latents)], 1)

    for clip, limit in ((True, 1.0), (False, 5.0)):
        chosen = Sampler(solver="ddpm", steps=50, clip=clip, batch=1)
        drawn = draw(model, chosen, diffusion, given=None)
        torch.testing.assert_close(drawn, (limit * far.sign()).expand(drawn.shape), atol=1e-3, rtol=1e-3)
