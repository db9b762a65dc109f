"""Our Latte against the official forward pass, written out again; its sizes, and its folder."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from rdm.models.latte import FewTokens, Latte
from rdm.models.official import import_transformer
from tests.models import official_latte
from tests.models.small import build, run

SIZES = {"width": 1152, "depth": 28, "heads": 16, "patch": 2, "channels": 4, "size": 32, "frames": 16}


def imported(tmp_path, weights, heads=2):
    torch.save(weights, tmp_path / "official.pt")
    return import_transformer(tmp_path / "official.pt", heads)


def inputs(classes):
    clips = torch.randn(4, 3, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, classes]) if classes else None
    return clips, torch.tensor([0, 17, 999, 500]), labels


@pytest.mark.parametrize("classes", [3, 0], ids=["conditional", "unconditional"])
@torch.no_grad()
def test_output_is_the_official_one(tmp_path, classes):
    weights = official_latte.checkpoint(classes)
    network = imported(tmp_path, weights)
    clips, timesteps, labels = inputs(classes)
    expected = official_latte.forward(weights, clips, timesteps, labels, heads=2)
    assert expected.shape == (4, 3, 8, 6, 6)  # epsilon and the variance
    assert expected.std() > 0.3
    torch.testing.assert_close(network(clips, timesteps, labels), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["temp_embed", "blocks.1.attn.qkv.weight", "blocks.3.adaLN_modulation.1.bias"])
@torch.no_grad()
def test_the_official_output_depends_on_time(name):
    """Of the check above: what is peculiar to clips does move its expected value."""
    weights = official_latte.checkpoint()
    expected = official_latte.forward(weights, *inputs(3), heads=2)
    weights[name] = weights[name].flip(1 if name == "temp_embed" else 0)
    assert (official_latte.forward(weights, *inputs(3), heads=2) - expected).abs().max() > 0.1


@torch.no_grad()
def test_diffusers_frequencies_are_not_the_official_ones(tmp_path):
    """The trap of DiT: dividing by 127 in place of 128 is invisible at t = 0, and large at t = 999."""
    network = imported(tmp_path, official_latte.checkpoint())
    other = Latte.from_config(network.config, frequency_shift=1).eval()
    other.load_state_dict(network.state_dict())
    clips, _, labels = inputs(3)
    difference = [
        float((network(clips, t, labels) - other(clips, t, labels)).abs().max())
        for t in (torch.zeros(4, dtype=torch.int64), torch.full((4,), 999))
    ]
    assert difference[0] < 1e-5
    assert difference[1] > 0.1


@pytest.mark.parametrize(("classes", "parameters"), [(0, 673_681_568), (101, 673_799_072)], ids=["sky", "ucf"])
def test_latte_xl_has_the_official_number_of_parameters(classes, parameters):
    with torch.device("meta"):
        network = Latte(**SIZES, classes=classes, learned_sigma=True)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("options", [{}, {"low_cpu_mem_usage": False}, {"torch_dtype": torch.bfloat16}], ids=str)
@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(tmp_path, options):
    network = build("latte")
    network.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    loaded, report = Latte.from_pretrained(tmp_path, output_loading_info=True, **options)
    assert not any(report.values())
    if "torch_dtype" in options:
        torch.testing.assert_close(run(loaded, torch.bfloat16).float(), run(network), atol=0.05, rtol=0.05)
    else:
        assert torch.equal(run(loaded), run(network))


@pytest.mark.parametrize(("frames", "device", "fused"), [(16, "cuda", False), (17, "cuda", True), (16, "cpu", True)])
def test_few_frames_attend_without_a_fused_kernel_on_a_gpu(monkeypatch, frames, device, fused):
    attend, allowed = F.scaled_dot_product_attention, []

    def recorded(*args, **kwargs):
        allowed.append(torch.backends.cuda.flash_sdp_enabled())
        return attend(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    sizes = {"width": 32, "depth": 2, "heads": 2, "patch": 2, "channels": 4, "size": 4, "classes": 3}
    with FakeTensorMode(), torch.device(device), torch.no_grad():
        block = Latte(**sizes, frames=frames).transformer_blocks[1]
        block(torch.randn(4, frames, 32), timestep=torch.randn(4, 32))
    assert allowed == [fused]
    assert torch.backends.cuda.flash_sdp_enabled()


def test_only_attention_over_few_frames_is_changed():
    few, many = (Latte(32, 4, 2, 2, 4, 4, frames, 3).transformer_blocks for frames in (16, 17))
    assert [isinstance(block.attn1.processor, FewTokens) for block in few] == [False, True] * 2
    assert not any(isinstance(block.attn1.processor, FewTokens) for block in many)
