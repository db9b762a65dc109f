"""`rdm models import`: everything in the file is used, or the file is refused in one sentence."""

import argparse
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from rdm.errors import UsageError
from rdm.models.dit import DiT
from rdm.models.latte import Latte
from rdm.models.official import import_transformer
from rdm.models.published import load_published
from tests.models import official_latte, official_ldm
from tests.test_cli import fails, rdm


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory that holds an official file, `latte.pt`."""
    monkeypatch.chdir(tmp_path)
    torch.save(official_latte.checkpoint(), "latte.pt")
    return tmp_path


def import_(*arguments):
    return rdm("models", "import", *arguments, params=None)


@torch.no_grad()
def test_the_folder_computes_what_the_file_did(place):
    assert import_("latte.pt", "out/latte", "--heads", "4").output == "out/latte\n"
    assert {path.name for path in Path("out/latte").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    network = Latte.from_pretrained("out/latte", low_cpu_mem_usage=False)
    clips, timesteps, labels = torch.randn(2, 3, 4, 6, 6), torch.tensor([17, 999]), torch.tensor([2, 3])
    expected = official_latte.forward(official_latte.checkpoint(), clips, timesteps, labels, heads=4)
    torch.testing.assert_close(network(clips, timesteps, labels), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_dit_computes_what_the_official_one_does(place):
    """At the first, some middle and the last timestep: diffusers' own frequencies agree at 0 alone. 3: no label."""
    weights = official_latte.checkpoint(frames=0)
    torch.save(weights, "dit.pt")
    assert import_("dit.pt", "dit", "--heads", "4").exit_code == 0
    network = DiT.from_pretrained("dit", low_cpu_mem_usage=False)
    images, timesteps, labels = torch.randn(4, 4, 6, 6), torch.tensor([0, 17, 500, 999]), torch.tensor([0, 1, 2, 3])
    expected = official_latte.forward(weights, images[:, None], timesteps, labels, heads=4)[:, 0]
    torch.testing.assert_close(network(images, timesteps, labels), expected, atol=1e-5, rtol=1e-5)


def test_a_folder_is_read_without_a_warning(place, caplog):
    torch.save(official_latte.checkpoint(frames=0), "dit.pt")
    import_("dit.pt", "dit", "--heads", "4")
    DiT.from_pretrained("dit", low_cpu_mem_usage=False)
    assert "were passed to" not in caplog.text
    assert set(json.loads(Path("dit/config.json").read_text())) >= {"width", "heads", "learned_sigma"}
    assert "num_layers" not in Path("dit/config.json").read_text()


def test_a_unet_becomes_one_of_diffusers(place):
    weights = official_ldm.checkpoint()
    torch.save({"state_dict": weights}, "model.ckpt")
    assert import_("model.ckpt", "ldm", "--heads", "1,1").exit_code == 0
    _, report = UNet2DConditionModel.from_pretrained("ldm", output_loading_info=True, low_cpu_mem_usage=False)
    assert not any(report.values())
    tokens = load_file("ldm/label_embedding.safetensors")["weight"]
    assert torch.equal(tokens, weights["cond_stage_model.embedding.weight"])
    fails(import_("model.ckpt", "other", "--heads", "1"), 2, "2 resolutions", "do not fit heads (1,)")
    fails(import_("model.ckpt", "other"), 2, "does not tell its heads; give --heads 1,1,1,1 for LDM-4")
    fails(import_("latte.pt", "other", "--heads", "4,4"), 2, "only an LDM has several numbers of heads")
    fails(import_("latte.pt", "other", "--heads", "4,"), 2, "--heads 4,: give a number")


OFFICIAL = {"width": 16, "depth": 4, "heads": 4, "patch": 2, "frequency_shift": 0, "learned_sigma": True}


def declared(**changes):
    return DiT(**OFFICIAL | {"channels": 4, "size": 6, "classes": 3} | changes)


def test_weights_of_the_declared_network_alone_are_taken(place):
    weights = official_latte.checkpoint(frames=0)
    torch.save(weights, "dit.pt")
    network = declared(label_std=0.5)  # a matter of random weights, and of no weight that is read
    load_published(network, Path("dit.pt"))
    assert torch.equal(network.proj_out_2.weight, weights["final_layer.linear.weight"])
    for name, value in {"frequency_shift": 1, "learned_sigma": False, "depth": 3, "size": 8, "classes": 4}.items():
        with pytest.raises(UsageError, match=f"dit.pt has {name} .*; the parameters declare {value}"):
            load_published(declared(**{name: value}), Path("dit.pt"))
    with pytest.raises(UsageError, match="latte.pt is a Latte; the parameters declare a DiT"):
        load_published(declared(), Path("latte.pt"))
    with pytest.raises(UsageError, match="no published checkpoint is of a network like this"):
        load_published(torch.nn.Linear(1, 1), Path("dit.pt"))


def test_sizes_are_those_of_the_tensors(place):
    sizes = {"width": 24, "depth": 3, "patch": 1, "channels": 5, "frames": 2, "classes": 7}
    torch.save(official_latte.checkpoint(side=4, parts=1, **sizes), "other.pt")
    config = import_transformer(Path("other.pt"), heads=3).config
    assert {name: config[name] for name in sizes} == sizes
    assert (config.size, config.heads, config.learned_sigma, config.frequency_shift) == (4, 3, False, 0)
    config = import_transformer(Path("latte.pt")).config
    assert (config.size, config.heads, config.learned_sigma, config.classes) == (6, 16, True, 3)


def test_averaged_weights_are_taken(place):
    averaged, raw = official_latte.checkpoint(seed=1), official_latte.checkpoint(seed=2)
    torch.save({"model": raw, "ema": averaged}, "both.pt")
    torch.save({"model": raw}, "raw.pt")
    for file, weights in (("both.pt", averaged), ("raw.pt", raw)):
        network = import_transformer(Path(file))
        assert torch.equal(network.proj_out_2.weight, weights["final_layer.linear.weight"])
        assert torch.equal(network.transformer_blocks[2].attn1.to_k.bias, weights["blocks.2.attn.qkv.bias"][16:32])


def refused(weights, *words, heads=16):
    torch.save(weights, "bad.pt")
    fails(import_("bad.pt", "out", "--heads", str(heads)), 2, "bad.pt", *words)
    assert not Path("out").exists()


def test_every_missing_and_every_unexpected_tensor_is_listed(place):
    weights = official_latte.checkpoint()
    del weights["blocks.1.attn.qkv.bias"], weights["pos_embed"]
    refused(weights, "missing are blocks.1.attn.qkv.bias, pos_embed, unexpected none")
    weights |= {"y_embedder.extra": torch.ones(1), "another": torch.ones(1)}
    refused(weights, "missing are blocks.1.attn.qkv.bias, pos_embed, unexpected another, y_embedder.extra")
    weights = official_latte.checkpoint()
    refused({name: tensor for name, tensor in weights.items() if "blocks.2" not in name}, "blocks.2.mlp.fc1.weight")
    refused({name: tensor for name, tensor in weights.items() if "blocks" not in name}, "blocks.0.mlp.fc1.weight")


def changed(name, change):
    weights = official_latte.checkpoint()
    return weights | {name: change(weights[name])}


WRONG = [
    ("temp_embed", lambda t: t + 1e-3, "temp_embed is not the fixed sine-cosine embedding"),
    ("temp_embed", lambda t: t * torch.nan, "temp_embed is not the fixed sine-cosine embedding"),
    ("pos_embed", lambda t: t.flip(2), "pos_embed is not the fixed sine-cosine embedding"),
    ("pos_embed", lambda t: t[:, :8], "8 positions do not fit patches of 4 x 2 x 2 in a square"),
    ("pos_embed", lambda t: t[0], "pos_embed has shape (9, 16), where 3 dimensions are needed"),
    ("temp_embed", lambda t: t[..., :12], "temp_embed has shape (1, 3, 12)", "make it (1, 3, 16)"),
    ("final_layer.linear.weight", lambda t: t[:17], "output of 17 rows"),
    ("final_layer.linear.weight", lambda t: t[0, 0], "final_layer.linear.weight has shape ()"),
    ("x_embedder.proj.weight", lambda t: t[:0], "x_embedder.proj.weight has shape (0, 4, 2, 2)"),
    ("blocks.3.attn.qkv.weight", lambda t: t[:-1], "blocks.3.attn.qkv.weight has shape (47, 16)", "make it (48, 16)"),
    ("blocks.0.mlp.fc1.bias", lambda t: t[:, None], "blocks.0.mlp.fc1.bias has shape (64, 1)", "make it (64,)"),
    ("y_embedder.embedding_table.weight", lambda t: t[:1], "label table has one row"),
]


@pytest.mark.parametrize(("name", "change", "words"), [(n, c, w) for n, c, *w in WRONG], ids=[w[2] for w in WRONG])
def test_tensors_that_do_not_fit_are_named(place, name, change, words):
    refused(changed(name, change), *words)


def test_heads_must_divide_the_width(place):
    for heads in ("5", "0", "-1"):
        fails(import_("latte.pt", "out", "--heads", heads), 2, f"width 16 is not a multiple of 4 and of {heads} heads")
    refused(official_latte.checkpoint(width=24), "width 24", "give other --heads")


class Malicious:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("harmed"),)


def test_files_that_hold_something_else_are_refused(place):
    refused({"weight": torch.ones(2)}, "is no DiT", "weight for one")
    refused([torch.ones(2)], "holds no state dict")
    refused({}, "holds no state dict")
    refused({"ema": {"a": "text"}}, "holds no state dict")
    whole = Path("latte.pt").read_bytes()
    for content in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        Path("bad.pt").write_bytes(content)
        fails(import_("bad.pt", "out"), 2, "bad.pt", "download it again")
    with zipfile.ZipFile("bad.pt", "w") as archive:
        archive.writestr("readme", "a zip file of something else")
    fails(import_("bad.pt", "out"), 2, "bad.pt", "download it again")
    fails(import_("nowhere.pt", "out"), 2, "nowhere.pt is not there; `rdm models fetch`")
    fails(import_(".", "out"), 2, ". is a folder; name the checkpoint in it")


def test_the_old_format_is_named(place):
    """It is whole, and to download it again would change nothing."""
    torch.save(official_latte.checkpoint(), "old.pt", _use_new_zipfile_serialization=False)
    fails(import_("old.pt", "out"), 2, "old.pt has torch's format of before 1.6", "as safetensors")


def test_code_in_a_file_is_not_run(place):
    torch.save({"ema": official_latte.checkpoint(), "args": Malicious()}, "bad.pt")
    fails(import_("bad.pt", "out"), 2, "holds code beside its tensors, which is not run")
    Path("bad.pt").write_bytes(pickle.dumps(Malicious()))
    fails(import_("bad.pt", "out"), 2, "bad.pt")
    assert not Path("harmed").exists()
    assert not Path("out").exists()


def test_what_lies_beside_the_tensors_is_not_needed(place):
    """DiT's train.py stores its arguments, Lightning its callbacks: neither is imported, let alone called."""
    weights, arguments = official_latte.checkpoint(), argparse.Namespace(data=Path("elsewhere"), seed=0)
    torch.save({"ema": weights, "args": arguments, "callbacks": {argparse.Namespace: 1}}, "trained.pt")
    assert torch.equal(import_transformer(Path("trained.pt")).proj_out_2.weight, weights["final_layer.linear.weight"])


def test_a_folder_that_is_there_is_kept(place):
    Path("out").mkdir()
    fails(import_("latte.pt", "out"), 2, "out is there already; name a new folder")
    assert not list(Path("out").iterdir())


def test_sizes_can_be_told_from_python_too(place):
    with pytest.raises(UsageError, match="width 16 is not a multiple of 4 and of 3 heads"):
        import_transformer(Path("latte.pt"), heads=3)
