"""The networks themselves, against what their papers say."""

import math

import pytest
import torch

from rdm.models.dit import DiT as Network
from rdm.models.zoo import build_network
from rdm.params.schema import DiT
from tests.models.small import CLASSES, NETWORKS, SHAPE, run


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_a_function_of_the_seed(name):
    first, second, other = (build_network(NETWORKS[name], SHAPE, CLASSES, seed) for seed in (0, 0, 1))
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_dit_starts_as_the_identity_of_zero():
    """adaLN-Zero: every block is the identity, and the output layer zero."""
    network = build_network(NETWORKS["dit"], SHAPE, CLASSES, seed=0)
    assert torch.count_nonzero(run(network)) == 0
    hidden = torch.randn(2, 16, 16)
    conditioning = torch.randn(2, 16)
    assert torch.equal(network.transformer_blocks[0](hidden, timestep=conditioning), hidden)


def test_dit_xl_has_the_official_number_of_parameters():
    """674,834,720 with learned variance, whose 4 output channels are not predicted here."""
    with torch.device("meta"):
        network = Network(DiT(kind="dit", width=1152, depth=28, heads=16, patch=2), channels=4, size=32, classes=1000)
    learned_variance = (1152 + 1) * 2 * 2 * 4
    assert sum(p.numel() for p in network.parameters()) + learned_variance == 674_834_720


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
    network = build_network(NETWORKS[name], SHAPE, CLASSES, seed=0).eval()
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    latents = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    reference = network(latents, torch.tensor([10]), torch.tensor([0]))
    assert not torch.equal(network(latents, torch.tensor([10]), torch.tensor([CLASSES])), reference)
    assert not torch.equal(network(latents, torch.tensor([11]), torch.tensor([0])), reference)
