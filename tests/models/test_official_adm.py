"""ADM's networks from their official layout."""

import json

import pytest
import torch
from diffusers import UNet2DModel

from rdm.errors import UsageError
from rdm.models.adm import ADM, NoisyClassifier, build_classifier
from rdm.models.gates import attach_gates, fold_gates, gate_parameters, gates_of
from rdm.models.official_adm import import_adm
from rdm.params import network as networks
from tests.models import official_adm
from tests.test_cli import fails, rdm

SIZES = {  # as ADM-256: two blocks, and attention at the coarser resolutions, two heads and more
    "small": {"channels": (32, 32, 64), "layers": 1, "attention": (False, True, True)},
    "like 256": {"channels": (32, 32, 64, 96), "layers": 2, "attention": (False, False, True, True)},
}
HEAD = 16
TIMESTEPS = torch.tensor([0, 17, 500, 999])
XL = {"layers_per_block": 2, "norm_groups": 32, "attention": (False,) * 3 + (True,) * 3}


@pytest.fixture
def stored(tmp_path):
    """Write a checkpoint; returns its path."""

    def write(content):
        torch.save(content, tmp_path / "adm.pt")
        return tmp_path / "adm.pt"

    return write


def heads_of(sizes):
    return max(SIZES[sizes]["channels"]) // HEAD


@pytest.mark.parametrize("classes", [5, 0])
@pytest.mark.parametrize("sizes", SIZES)
@torch.no_grad()
def test_computes_what_the_official_network_does(stored, sizes, classes):
    weights = official_adm.checkpoint(**SIZES[sizes], classes=classes)
    network = import_adm(stored(weights), heads_of(sizes))
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, 3, 4])
    expected = official_adm.forward(weights, images, TIMESTEPS, labels, HEAD, **SIZES[sizes])
    assert expected.std() > 0.1
    torch.testing.assert_close(network(images, TIMESTEPS, labels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sizes", SIZES)
@torch.no_grad()
def test_the_classifier_computes_what_the_official_one_does(stored, sizes):
    weights = official_adm.classifier(**SIZES[sizes])
    network = import_adm(stored(weights), heads_of(sizes))
    images = torch.randn(4, 3, 16, 16)
    expected = official_adm.classify(weights, images, TIMESTEPS, HEAD, **SIZES[sizes])
    assert expected.std() > 0.1
    torch.testing.assert_close(network(images, TIMESTEPS), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_order_of_heads_matters(stored):
    """The tests above would notice queries, keys and values cut as thirds, or heads of another width."""
    weights = official_adm.checkpoint()
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, 3, 4])
    right, wrong = (official_adm.forward(weights, images, TIMESTEPS, labels, head) for head in (HEAD, 32))
    assert (right - wrong).abs().max() > 1e-2


def test_sizes_are_the_published_ones():
    with torch.device("meta"):
        adm = networks.ADM(kind="adm", block_channels=(256, 256, 512, 512, 1024, 1024), heads=16, **XL)
        network = ADM(adm, 3, 256, 1000)
        half = networks.ADM(kind="adm", block_channels=(128, 128, 256, 256, 512, 512), heads=8, **XL)
        classifier = build_classifier(half, 3, 256, 1000)
    assert sum(p.numel() for p in network.parameters()) == 553_838_086
    assert sum(p.numel() for p in classifier.parameters()) / 1e6 == pytest.approx(54, abs=0.5)


@torch.no_grad()
def test_gates_attach_and_fold(stored):
    """At their start to the last bit what it was; folded what it became."""
    weights = official_adm.checkpoint()
    network, images, labels = import_adm(stored(weights), 4), torch.randn(2, 3, 16, 16), torch.tensor([0, 4])
    before = network(images, TIMESTEPS[:2], labels)
    attach_gates(network)
    blocks = [name for name in weights if name.endswith("out_layers.3.weight")]
    assert len(gates_of(network)) == len(blocks)
    assert torch.equal(network(images, TIMESTEPS[:2], labels), before)
    for parameter in gate_parameters(network):
        parameter.add_(0.1)
    gated = network(images, TIMESTEPS[:2], labels)
    assert not torch.allclose(gated, before, atol=1e-2)
    fold_gates(network)
    torch.testing.assert_close(network(images, TIMESTEPS[:2], labels), gated, atol=1e-4, rtol=1e-4)


def test_heads_are_of_64_channels_unless_they_are_named(stored):
    sizes = {"channels": (64, 128), "layers": 1, "attention": (False, True)}
    assert import_adm(stored(official_adm.checkpoint(**sizes))).config.attention_head_dim == 64
    assert import_adm(stored(official_adm.classifier(**sizes))).config.heads == 2


def without(weights, name):
    return {n: t for n, t in weights.items() if n != name}


QKV, FIRST, OUT = "middle_block.1.qkv.weight", "input_blocks.0.0.weight", "out.2.weight"
POSITIONS = "out.2.positional_embedding"
WRONG = {
    "no U-Net": (lambda w: without(w, FIRST), "is no ADM"),
    "no end": (lambda w: without(w, OUT), "is no ADM"),
    "lacks": (lambda w: without(w, QKV), f"missing are {QKV}, unexpected none"),
    "extra": (lambda w: w | {"more": torch.ones(1)}, "missing are none, unexpected more"),
    "shape": (lambda w: w | {QKV: w[QKV][:5]}, rf"{QKV} has shape \(5, 64, 1\), where .* \(192, 64, 1\)"),
    "linear": (lambda w: w | {QKV: w[QKV][..., 0]}, rf"{QKV} has shape \(192, 64\)"),
    "flat": (lambda w: w | {FIRST: w[FIRST][0]}, "4 dimensions are needed"),
    "labels": (lambda w: w | {"label_emb.weight": torch.ones(5)}, "2 dimensions are needed"),
    "widths": (lambda w: w | {"input_blocks.1.0.out_layers.3.bias": torch.ones(33)}, "not those of an ADM"),
    "no attention": (lambda w: {n: t for n, t in w.items() if ".1.norm." not in n}, "not those of an ADM"),
    "upsampler": (lambda w: w | {OUT: torch.cat([w[OUT], w[OUT]])}, "upsamplers cannot be imported"),
}
WRONG_CLASSIFIERS = {
    "positions": (lambda w: w | {POSITIONS: w[POSITIONS][:, :-1]}, rf"{POSITIONS} has shape \(64, 16\)"),
    "flat": (lambda w: w | {POSITIONS: w[POSITIONS][0]}, "2 dimensions are needed"),
    "extra": (lambda w: w | {"label_emb.weight": torch.ones(1)}, "unexpected label_emb.weight"),
    "lacks": (lambda w: without(w, "out.2.c_proj.bias"), "missing are out.2.c_proj.bias"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_that_do_not_fit_are_refused(stored, case):
    change, words = WRONG[case]
    with pytest.raises(UsageError, match=words):
        import_adm(stored(change(official_adm.checkpoint())), 4)


@pytest.mark.parametrize("case", WRONG_CLASSIFIERS)
def test_classifiers_that_do_not_fit_are_refused(stored, case):
    change, words = WRONG_CLASSIFIERS[case]
    with pytest.raises(UsageError, match=words):
        import_adm(stored(change(official_adm.classifier())), 4)


@pytest.mark.parametrize("heads", [3, 0, 128, 1])
def test_heads_must_fit(stored, heads):
    with pytest.raises(UsageError, match=r"\(32, 32, 64\) channels do not fit heads"):
        import_adm(stored(official_adm.checkpoint()), heads)


def test_published_files_of_other_attention_are_refused(stored):
    """ADM for 64x64 has the same tensors, and its queries, keys and values in another order."""
    sizes = {"channels": (192, 384, 576, 768), "layers": 3, "attention": (False, True, True, True)}
    empty = {n: torch.empty(0).new_empty(t.shape) for n, t in official_adm.checkpoint(**sizes).items()}
    with pytest.raises(UsageError, match="is ADM for 64x64, whose attention has other heads"):
        import_adm(stored(empty), 12)


@torch.no_grad()
def test_import_writes_what_diffusers_loads(stored, tmp_path):
    weights = official_adm.checkpoint()
    done = rdm("models", "import", str(stored(weights)), str(tmp_path / "adm"), "--heads", "4", params=None)
    assert done.exit_code == 0, done.output
    network = UNet2DModel.from_pretrained(tmp_path / "adm")
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, 3, 4])
    expected = official_adm.forward(weights, images, TIMESTEPS, labels, HEAD)
    torch.testing.assert_close(network(images, TIMESTEPS, labels).sample, expected, atol=1e-4, rtol=1e-4)
    weights = official_adm.classifier()
    done = rdm("models", "import", str(stored(weights)), str(tmp_path / "classifier"), "--heads", "4", params=None)
    assert done.exit_code == 0, done.output
    classifier = NoisyClassifier.from_pretrained(tmp_path / "classifier")
    expected = official_adm.classify(weights, images, TIMESTEPS, HEAD)
    torch.testing.assert_close(classifier(images, TIMESTEPS), expected, atol=1e-4, rtol=1e-4)
    assert json.loads((tmp_path / "classifier" / "config.json").read_text())["classes"] == 5


def test_bad_input_leaves_nothing_behind(stored, tmp_path):
    command = "models", "import", str(stored(without(official_adm.checkpoint(), QKV))), str(tmp_path / "adm")
    fails(rdm(*command, "--heads", "4", params=None), 2, f"missing are {QKV}")
    fails(rdm(*command, params=None), 2, "(32, 32, 64) channels do not fit heads 1; give another")
    fails(rdm(*command, "--heads", "4,4", params=None), 2, "only an LDM has several")
    assert [path.name for path in tmp_path.iterdir()] == ["adm.pt"]
