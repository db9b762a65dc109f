"""LDM's U-Nets from their official layout."""

import pytest
import torch

from rdm.errors import UsageError
from rdm.models.official_unet import import_unet
from tests.models import official_ldm

LDM4 = {"channels": (32, 64), "layers": 1, "attention": (False, True)}  # attention at some resolutions, one head
LDM8 = {"channels": (32, 64, 96), "layers": 2, "attention": (True, True, True)}  # at all, heads of 32 channels
AVERAGED = "model_ema.diffusion_model"


@pytest.fixture
def stored(tmp_path):
    """Write a checkpoint; returns its path."""

    def write(content):
        torch.save({"state_dict": content, "epoch": 3}, tmp_path / "model.ckpt")
        return tmp_path / "model.ckpt"

    return write


def averaged(weights, extra):
    """The same checkpoint with moving averages of other values beside the weights, as Lightning stores them."""
    other = {n: t for n, t in extra.items() if n.startswith(official_ldm.PREFIX)}
    flat = {AVERAGED + n.removeprefix(official_ldm.PREFIX).replace(".", ""): t for n, t in other.items()}
    return weights | flat | {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(5)}


@pytest.mark.parametrize(("sizes", "heads"), [(LDM4, (1, 1)), (LDM8, (1, 2, 3))], ids=["ldm4", "ldm8"])
@torch.no_grad()
def test_computes_what_the_official_network_does(stored, sizes, heads):
    weights = official_ldm.checkpoint(**sizes)
    network = import_unet(stored(weights), heads)
    latents, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, 4, 5])  # 5: the null label
    timesteps = torch.tensor([0, 17, 500, 999])
    expected = official_ldm.forward(weights, latents, timesteps, labels, heads, **sizes)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(latents, timesteps, labels), expected, atol=1e-4, rtol=1e-4)


def test_averages_are_taken_where_there_are_some(stored):
    weights, others = official_ldm.checkpoint(), official_ldm.checkpoint(seed=1)
    network = import_unet(stored(averaged(weights, others)), (1, 1))
    assert torch.equal(network.conv_out.weight, others[official_ldm.PREFIX + "out.2.weight"])
    assert torch.equal(network.label_embedding.weight, weights["cond_stage_model.embedding.weight"])


def without(weights, name):
    return {n: t for n, t in weights.items() if n != name}


OUT = official_ldm.PREFIX + "out.2.weight"
FIRST = official_ldm.PREFIX + "input_blocks.0.0.weight"
LABELS = "cond_stage_model.embedding.weight"
WRONG = {
    "no U-Net": (lambda w: without(w, FIRST), "no class-conditional LDM"),
    "text": (lambda w: without(w, LABELS) | {"cond_stage_model.transformer.x": torch.ones(1)}, "no class-conditional"),
    "lacks": (lambda w: without(w, OUT), "missing are conv_out.weight, unexpected none"),
    "extra": (lambda w: w | {official_ldm.PREFIX + "more": torch.ones(1)}, "missing are none, unexpected more"),
    "extra beside": (lambda w: w | {"another": torch.ones(1)}, "unexpected another"),
    "shape": (lambda w: w | {OUT: w[OUT][:, :5]}, "conv_out.weight has shape"),
    "labels": (lambda w: w | {LABELS: w[LABELS][:, :5]}, "not those of a class-conditional LDM"),
    "flat": (lambda w: w | {FIRST: w[FIRST][0]}, "4 dimensions are needed"),
    "averages": (
        lambda w: without(averaged(w, w), f"{AVERAGED}out2weight"),
        "missing are model_ema.diffusion_modelout2weight",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_that_do_not_fit_are_refused(stored, case):
    change, words = WRONG[case]
    with pytest.raises(UsageError, match=words):
        import_unet(stored(change(official_ldm.checkpoint())), (1, 1))


@pytest.mark.parametrize("heads", [(1,), (1, 3), (1, 0)])
def test_heads_must_fit(stored, heads):
    with pytest.raises(UsageError, match=r"2 resolutions of \(32, 64\) channels do not fit heads"):
        import_unet(stored(official_ldm.checkpoint()), heads)


@pytest.mark.parametrize(
    ("channels", "removed"),
    [
        ((32, 48), ()),
        ((33, 66), ()),
        ((32, 64), "input_blocks.3.0.out_layers.3.bias"),
        ((32, 64), "input_blocks.3."),
    ],
    ids=["no multiple of 32", "odd from the first", "a block without its width", "a block too few"],
)
def test_widths_and_blocks_that_are_no_ldms_are_refused(stored, channels, removed):
    """In one sentence, before diffusers' GroupNorm of 32 groups fails on them; the heads would fit."""
    weights = official_ldm.checkpoint(channels=channels)
    if removed:
        weights = {n: t for n, t in weights.items() if not n.startswith(official_ldm.PREFIX + removed)}
    with pytest.raises(UsageError, match="its blocks are not those of a class-conditional LDM; give an official"):
        import_unet(stored(weights), (1, 1))
