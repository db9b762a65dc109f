"""The networks themselves, against what their papers say."""

import copy
import math

import pytest
import torch

from rdm.errors import RdmError
from rdm.models.dit import DiT
from rdm.models.gates import Gating, attach_gates, detach_gates
from rdm.models.zoo import build_network, start_from_frames
from tests.models.small import CLASSES, CLIP, NETWORKS, SHAPE, inputs, run, shape_of


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_a_function_of_the_seed(name):
    first, second, other = (build_network(NETWORKS[name], shape_of(name), CLASSES, seed) for seed in (0, 0, 1))
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("name", ["dit", "latte"])
def test_transformers_start_as_the_identity_of_zero(name):
    """adaLN-Zero: every block is the identity, and the output layer zero."""
    network = build_network(NETWORKS[name], shape_of(name), CLASSES, seed=0)
    assert torch.count_nonzero(run(network)) == 0
    hidden = torch.randn(2, 16, 16)
    conditioning = torch.randn(2, 16)
    assert torch.equal(network.transformer_blocks[0](hidden, timestep=conditioning), hidden)


def test_dit_xl_has_the_official_number_of_parameters():
    with torch.device("meta"):
        network = DiT(width=1152, depth=28, heads=16, patch=2, channels=4, size=32, classes=1000, learned_sigma=True)
    assert sum(p.numel() for p in network.parameters()) == 674_834_720


@pytest.mark.parametrize(("shift", "divisor"), [(0, 128), (1, 127)])
def test_timestep_embedding_is_the_official_one_or_diffusers(shift, divisor):
    """cos then sin of t * 10000^(-i / 128): the official DiT divides by 128, diffusers' own by 127."""
    network = build_network(NETWORKS["dit"].model_copy(update={"frequency_shift": shift}), SHAPE, CLASSES, seed=0)
    embedded = network.embedder.time_proj(torch.tensor([999]))[0]
    angles = [999 * math.exp(-math.log(10000) * i / divisor) for i in range(128)]
    expected = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    torch.testing.assert_close(embedded, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_label_and_timestep_matter(name):
    network = build_network(NETWORKS[name], shape_of(name), CLASSES, seed=0).eval()
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    latents = torch.randn(1, *shape_of(name), generator=torch.Generator().manual_seed(0))
    reference = network(latents, torch.tensor([10]), torch.tensor([0]))
    assert not torch.equal(network(latents, torch.tensor([10]), torch.tensor([CLASSES])), reference)
    assert not torch.equal(network(latents, torch.tensor([11]), torch.tensor([0])), reference)


@pytest.mark.parametrize("block_scale", [0, 1])
@pytest.mark.parametrize("name", ["dit", "latte"])
def test_rezero_needs_live_blocks(name, block_scale):
    """Where alpha and adaLN's gate are both zero, neither gets a gradient, and the block stays dead for ever."""
    parameters = NETWORKS[name].model_copy(update={"block_scale": block_scale})
    network = build_network(parameters, shape_of(name), CLASSES, seed=0)
    attach_gates(network, Gating(variant="rezero", alpha=0.0))
    hidden, conditioning = torch.randn(2, 16, 16), torch.randn(2, 16)
    for block in network.transformer_blocks:
        torch.testing.assert_close(block(hidden, timestep=conditioning), hidden, atol=1e-6, rtol=0)
        ungated = detach_gates(copy.deepcopy(block))(hidden, timestep=conditioning)
        assert torch.equal(ungated, hidden) == (block_scale == 0)
    torch.nn.init.normal_(network.proj_out_2.weight)
    run(network).square().mean().backward()
    for block in network.transformer_blocks:
        assert bool(block.residual_gate.delta.grad.any()) == (block_scale == 1)
        assert not block.norm1.linear.weight.grad.any()  # it waits for alpha to have moved


@torch.no_grad()
def test_networks_without_classes_take_the_null_label_alone():
    for name in NETWORKS:
        network = build_network(NETWORKS[name], shape_of(name), 0, seed=0).eval()
        latents = torch.randn(2, *shape_of(name))
        assert network(latents, torch.tensor([1, 2]), torch.zeros(2, dtype=torch.int64)).shape == latents.shape


def frames_network(**changes):
    """A DiT of half the depth of the Latte in NETWORKS, none of whose weights is zero."""
    parameters = NETWORKS["dit"].model_copy(update={"depth": 2, **changes})
    network = build_network(parameters, SHAPE, CLASSES, seed=3).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return network


@torch.no_grad()
def test_a_latte_started_from_frames_sees_each_frame_as_the_dit_does():
    """What is left of time at the start is temp_embed, which is added before the first temporal block."""
    images, latte = frames_network(), build_network(NETWORKS["latte"], CLIP, CLASSES, seed=0).eval()
    start_from_frames(latte, images.state_dict())
    latte.temp_embed.zero_()
    clips, timesteps, labels = inputs(CLIP)
    per_frame = [images(clips[:, frame], timesteps, labels) for frame in range(CLIP[0])]
    assert per_frame[0].std() > 0.1
    torch.testing.assert_close(latte(clips, timesteps, labels), torch.stack(per_frame, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"depth": 3}, "transformer_blocks.4.* in the network for frames and missing in the Latte"),
        ({"depth": 1}, "transformer_blocks.2.* is missing in the network for frames"),
        ({"patch": 4}, r"pos_embed.proj.weight is of shape \(16, 4, 4, 4\) in the network for frames"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(changes, name):
    latte = build_network(NETWORKS["latte"], CLIP, CLASSES, seed=0)
    before = {key: tensor.clone() for key, tensor in latte.state_dict().items()}
    with pytest.raises(RdmError, match=name):
        start_from_frames(latte, frames_network(**changes).state_dict())
    assert all(torch.equal(tensor, before[key]) for key, tensor in latte.state_dict().items())


def test_a_start_of_other_classes_is_refused():
    latte = build_network(NETWORKS["latte"], CLIP, 0, seed=0)
    with pytest.raises(RdmError, match="embedder.class_embedder.embedding_table.weight is .* missing in the Latte"):
        start_from_frames(latte, frames_network().state_dict())
