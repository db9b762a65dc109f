"""Targets and samplers against closed forms."""

import itertools

import pytest
import torch

from rdm.diffusion.process import forward_process, solver, training_loss
from rdm.diffusion.sampling import draw_latents, guided
from rdm.params.sampler import Sampler
from rdm.params.schema import Diffusion

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
        Sampler(steps=250, eta=1.0, spacing="leading", batch=16),
        Sampler(solver="dpm++", steps=30, batch=16),
    ],
    ids=["ddim", "ddpm", "leading", "dpm++"],
)
def test_the_exact_score_gives_the_data_distribution(target, sampler):
    diffusion = Diffusion(target=target)
    model = exact_model(forward_process(diffusion), target)
    keys = [(0, index) for index in range(16)]
    drawn = draw_latents(model, diffusion, sampler, [4, 16, 16], torch.zeros(16, dtype=torch.int64), 9, keys)
    assert drawn.mean() == pytest.approx(MEAN, abs=0.02)
    assert drawn.std() == pytest.approx(STD, abs=0.02)


@pytest.mark.parametrize(("count", "first"), [(250, 997), (200, 996)])
def test_leading_timesteps_are_those_of_latent_diffusion(count, first):
    """1, 5, ..., 997 for LDM-4's published samples, 1, 6, ..., 996 for LDM-8's; and a step by DDIM's formula."""
    sampler = Sampler(steps=count, spacing="leading", batch=1)
    steps = solver(Diffusion(target="epsilon"), sampler)
    steps.set_timesteps(count)
    assert steps.timesteps.tolist() == list(range(first, 0, -1000 // count))
    alpha = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    x, noise = torch.randn(2, 1, 4, 2, 2)
    for t, before in ((first, alpha[first - 1000 // count]), (1, alpha[0])):
        clean = (x - (1 - alpha[t]).sqrt() * noise) / alpha[t].sqrt()
        expected = before.sqrt() * clean + (1 - before).sqrt() * noise
        torch.testing.assert_close(steps.step(noise, t, x).prev_sample, expected, atol=1e-5, rtol=1e-5)


def levels(steps, sampler):
    """What a solver makes of a noisy item, given its noise at every step, and what it should: as noisy as named next.

    In float64: (item, expected) after each step. Nothing, if the timesteps are not as many as asked for, or beyond.
    """
    steps.set_timesteps(sampler.steps)
    named = steps.timesteps.tolist()
    if len(named) != sampler.steps or not 0 <= named[-1] <= named[0] < steps.config.num_train_timesteps:
        return
    clean, noise = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = steps.add_noise(clean, noise, torch.tensor([0])) if sampler.spacing == "leading" else clean
    expected = [steps.add_noise(clean, noise, torch.tensor([t])) for t in named] + [ends]
    item = expected[0]
    for timestep, after in zip(steps.timesteps, expected[1:], strict=True):
        item = steps.step(noise, timestep, item).prev_sample
        yield item, after


SOLVERS = {"ddim": {}, "leading": {"spacing": "leading"}, "dpm++": {"solver": "dpm++"}}
COUNTS = {100: range(1, 101), 1000: [2, 3, 6, 8, 12, 30, 50, 61, 103, 200, 201, 250]}


@pytest.mark.parametrize("timesteps", COUNTS)
@pytest.mark.parametrize("kind", SOLVERS)
def test_counts_are_refused_whose_steps_do_not_meet_and_no_others(timesteps, kind):
    """A step must end at the noise level at which the next begins; leading timesteps are LDM's own, counted from 1."""
    for count in COUNTS[timesteps]:
        sampler = Sampler(steps=count, batch=1, **SOLVERS[kind])
        steps = solver(Diffusion(target="epsilon", timesteps=timesteps), sampler)
        pairs = list(levels(steps, sampler))
        meet = bool(pairs) and all(torch.allclose(*pair, rtol=0, atol=1e-3) for pair in pairs)
        if kind == "leading":
            meet &= steps.timesteps.tolist()[::-1] == list(range(1, timesteps + 1, timesteps // count))
        assert sampler.divides(timesteps, count) == meet, count


@pytest.mark.parametrize("timesteps", COUNTS)
def test_ancestral_steps_go_from_the_last_timestep_to_the_first_and_meet(timesteps):
    for count in COUNTS[timesteps]:
        sampler = Sampler(solver="ddpm", steps=count, batch=1)
        steps = solver(Diffusion(target="epsilon", timesteps=timesteps), sampler)
        steps.set_timesteps(count)
        named = steps.timesteps.tolist()
        assert len(set(named)) == count
        assert [int(steps.previous_timestep(t)) for t in named] == [*named[1:], -1]
        assert sampler.divides(timesteps, count) == ((named[0], named[-1]) == (timesteps - 1, 0)), count


def test_a_sample_is_a_function_of_its_key():
    diffusion, sampler = Diffusion(target="v"), Sampler(steps=3, eta=1.0, batch=2)
    model = exact_model(forward_process(diffusion), "v")

    def draw(keys):
        return draw_latents(model, diffusion, sampler, [1, 2, 2], torch.zeros(len(keys), dtype=torch.int64), 9, keys)

    together = draw([(0, 0), (0, 1), (1, 0)])
    assert torch.equal(draw([(0, 1), (0, 0)]), together[[1, 0]])
    assert len({tuple(sample.flatten().tolist()) for sample in together}) == 3


def test_clips_are_drawn_like_images():
    """Of a model that looks at each frame alone, a clip is what an image as tall as all its frames would be."""
    diffusion, sampler = Diffusion(target="v"), Sampler(steps=3, eta=1.0, guidance=2.0, batch=2)
    keys, labels = [(0, 0), (0, 1)], torch.tensor([3, 5])

    def toy(noisy, timesteps, labels):
        expand = [-1, *[1] * (noisy.ndim - 1)]
        return noisy.sin() * timesteps.view(expand) / 1000 + labels.view(expand) / 10

    clips = draw_latents(toy, diffusion, sampler, [5, 4, 2, 2], labels, 9, keys)
    tall = draw_latents(toy, diffusion, sampler, [20, 2, 2], labels, 9, keys)
    assert clips.shape == (2, 5, 4, 2, 2)
    assert torch.equal(clips.flatten(1, 2), tall)
    assert len(clips.flatten().unique()) == clips.numel()


def constant(latents, timesteps, labels):
    """The label, plus ten times the timestep, in every place."""
    own = labels + 10 * timesteps
    return own.float().view(-1, *[1] * (latents.ndim - 1)).expand_as(latents)


def test_guidance():
    """unconditional + scale * (conditional - unconditional), with the null label for the former."""
    latents, labels = torch.zeros(2, 1), torch.tensor([3, 4])
    plain, guiding = Sampler(steps=5, batch=1), Sampler(steps=5, guidance=1.5, batch=1)
    assert guided(constant, latents, torch.tensor(1), labels, 7, plain).flatten().tolist() == [13, 14]
    assert guided(constant, latents, torch.tensor(1), labels, 7, guiding).flatten().tolist() == [11, 12.5]
    assert plain.network_calls == 5
    assert guiding.network_calls == 10


@pytest.mark.parametrize("frames", [(), (5,)], ids=["images", "clips"])
@pytest.mark.parametrize("free", [1, 3])
def test_guidance_of_the_first_channels(frames, free):
    """The others are those of the conditional prediction; here 13 and 14, where guidance makes 11 and 12.5."""
    latents, labels = torch.zeros(2, *frames, 4, 3, 3), torch.tensor([3, 4])
    sampler = Sampler(steps=5, guidance=1.5, guided_channels=free, batch=1)
    found = guided(constant, latents, torch.tensor(1), labels, 7, sampler)
    assert found.shape == latents.shape
    for item, (mixed, conditional) in zip(found, [(11, 13), (12.5, 14)], strict=True):
        assert (item[..., :free, :, :] == mixed).all()
        assert (item[..., free:, :, :] == conditional).all()
    whole = guided(constant, latents, torch.tensor(1), labels, 7, sampler.model_copy(update={"guided_channels": None}))
    assert torch.equal(whole, torch.tensor([11, 12.5]).view(-1, *[1] * (latents.ndim - 1)).expand_as(latents))


def test_the_first_steps_are_unguided():
    """At them the network is called for the labels alone; what is drawn differs from both extremes."""
    diffusion, keys, labels, calls = Diffusion(target="v"), [(0, 0), (0, 1)], torch.tensor([3, 5]), []

    def recorded(latents, timesteps, labels):
        calls.append(len(latents))
        return constant(latents, timesteps, labels)

    drawn = []
    for unguided in (0, 3):
        sampler = Sampler(steps=4, guidance=2.0, unguided_steps=unguided, batch=2)
        calls.clear()
        drawn.append(draw_latents(recorded, diffusion, sampler, [4, 3, 3], labels, 9, keys))
        assert calls == [2] * unguided + [4] * (4 - unguided)
        assert sum(calls) == 2 * sampler.network_calls
    plain = draw_latents(constant, diffusion, Sampler(steps=4, batch=2), [4, 3, 3], labels, 9, keys)
    assert not any(torch.isclose(*pair).any() for pair in itertools.combinations([*drawn, plain], 2))


def test_guided_channels_change_what_is_drawn():
    """In a model whose channels do not mix, those beyond are what is drawn without guidance, the first are not."""
    diffusion, keys, labels = Diffusion(target="v"), [(0, 0), (0, 1)], torch.tensor([3, 5])
    drawn = {}
    for free, scale in ((None, 1.0), (None, 2.0), (3, 2.0)):
        sampler = Sampler(steps=4, guidance=scale, guided_channels=free, batch=2)
        drawn[free, scale] = draw_latents(constant, diffusion, sampler, [2, 4, 3, 3], labels, 9, keys)
    assert torch.equal(drawn[3, 2.0][:, :, :3], drawn[None, 2.0][:, :, :3])
    assert torch.equal(drawn[3, 2.0][:, :, 3:], drawn[None, 1.0][:, :, 3:])
    assert not torch.isclose(drawn[None, 1.0], drawn[None, 2.0]).any()
