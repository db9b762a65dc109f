"""Our networks as plain diffusers models: the same output, and no trace of this package."""

import json

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from rdm.errors import RdmError
from rdm.models.dit import DiT
from rdm.models.export import save_diffusers
from rdm.models.gates import attach_gates
from rdm.models.latte import Latte
from rdm.models.zoo import build_network
from tests.models.small import CLASSES, NETWORKS, SHAPE, build, run

PLAIN = {"dit": diffusers.DiTTransformer2DModel, "unet-add": diffusers.UNet2DModel}
PLAIN |= {"unet-cross": diffusers.UNet2DConditionModel, "latte": Latte}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_diffusers_computes_the_same(name, tmp_path):
    network = build(name)
    save_diffusers(network, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["_class_name"] == PLAIN[name].__name__
    assert "rdm" not in (tmp_path / "config.json").read_text()
    loaded, report = PLAIN[name].from_pretrained(tmp_path, output_loading_info=True, low_cpu_mem_usage=False)
    assert not any(report.values())
    if name == "unet-cross":
        random = torch.Generator().manual_seed(2)
        latents, timesteps = torch.randn(3, *SHAPE, generator=random), torch.tensor([0, 17, 999])
        tokens = load_file(tmp_path / "label_embedding.safetensors")["weight"][torch.tensor([0, 4, CLASSES])]
        output = loaded(latents, timesteps, tokens[:, None], return_dict=False)[0]
    else:
        output = run(loaded.eval())
    torch.testing.assert_close(output, run(network), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_unconditional_dit_has_one_label(tmp_path):
    network = build_network(NETWORKS["dit"], SHAPE, 0, seed=0).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_diffusers(network, tmp_path)
    loaded = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    latents, timesteps, labels = torch.randn(2, *SHAPE), torch.tensor([3, 900]), torch.zeros(2, dtype=torch.int64)
    expected = network(latents, timesteps, labels)
    assert expected.std() > 0.1
    torch.testing.assert_close(loaded(latents, timesteps, labels).sample, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_diffusers_cannot_compute_stays_ours(tmp_path):
    """The official timestep frequencies: as a published DiT is imported, so it is written when its gates are folded."""
    official = build_network(NETWORKS["dit"].model_copy(update={"frequency_shift": 0}), SHAPE, CLASSES, seed=0).eval()
    for parameter in official.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_diffusers(official, tmp_path)
    loaded = DiT.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    given = torch.randn(2, *SHAPE), torch.tensor([3, 900]), torch.tensor([1, CLASSES])
    assert torch.equal(loaded(*given), official(*given))


def test_gates_are_not_written_for_diffusers(tmp_path):
    with pytest.raises(RdmError, match="has gates, which diffusers does not know"):
        save_diffusers(attach_gates(build("dit")), tmp_path)
    assert not list(tmp_path.iterdir())
