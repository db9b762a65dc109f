"""`rdm models import latte`: everything in the file is used, or the file is refused in one sentence."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from rdm.errors import UsageError
from rdm.models.latte import Latte
from rdm.models.official import import_latte
from tests.models import official_latte
from tests.test_cli import fails, rdm


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory that holds an official file, `latte.pt`."""
    monkeypatch.chdir(tmp_path)
    torch.save(official_latte.checkpoint(), "latte.pt")
    return tmp_path


def import_(*arguments):
    return rdm("models", "import", "latte", *arguments, params=None)


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


def test_sizes_are_those_of_the_tensors(place):
    sizes = {"width": 24, "depth": 3, "patch": 1, "channels": 5, "frames": 2, "classes": 7}
    torch.save(official_latte.checkpoint(side=4, parts=1, **sizes), "other.pt")
    config = import_latte(Path("other.pt"), heads=3).config
    assert {name: config[name] for name in sizes} == sizes
    assert (config.size, config.heads, config.learned_sigma, config.frequency_shift) == (4, 3, False, 0)
    config = import_latte(Path("latte.pt")).config
    assert (config.size, config.heads, config.learned_sigma, config.classes) == (6, 16, True, 3)


def test_averaged_weights_are_taken(place):
    averaged, raw = official_latte.checkpoint(seed=1), official_latte.checkpoint(seed=2)
    torch.save({"model": raw, "ema": averaged}, "both.pt")
    torch.save({"model": raw}, "raw.pt")
    for file, weights in (("both.pt", averaged), ("raw.pt", raw)):
        network = import_latte(Path(file))
        assert torch.equal(network.proj_out_2.weight, weights["final_layer.linear.weight"])
        assert torch.equal(network.transformer_blocks[2].attn1.to_k.bias, weights["blocks.2.attn.qkv.bias"][16:32])


def refused(weights, *words, heads=16):
    torch.save(weights, "bad.pt")
    fails(import_("bad.pt", "out", "--heads", str(heads)), 2, "bad.pt", *words)
    assert not Path("out").exists()


def test_every_missing_and_every_unexpected_tensor_is_listed(place):
    weights = official_latte.checkpoint()
    del weights["blocks.1.attn.qkv.bias"], weights["temp_embed"]
    refused(weights, "missing are blocks.1.attn.qkv.bias, temp_embed, unexpected none")
    weights |= {"y_embedder.extra": torch.ones(1), "another": torch.ones(1)}
    refused(weights, "missing are blocks.1.attn.qkv.bias, temp_embed, unexpected another, y_embedder.extra")
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
    refused({"weight": torch.ones(2)}, "is no Latte", "weight for one")
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
    fails(import_("nowhere.pt", "out"), 2, "nowhere.pt is no file")
    fails(import_(".", "out"), 2, ". is no file")


def test_code_in_a_file_is_not_run(place):
    torch.save({"ema": official_latte.checkpoint(), "args": Malicious()}, "bad.pt")
    fails(import_("bad.pt", "out"), 2, "could run code and is not loaded")
    Path("bad.pt").write_bytes(pickle.dumps(Malicious()))
    fails(import_("bad.pt", "out"), 2, "bad.pt")
    assert not Path("harmed").exists()
    assert not Path("out").exists()


def test_a_folder_that_is_there_is_kept(place):
    Path("out").mkdir()
    fails(import_("latte.pt", "out"), 2, "out is there already; name a new folder")
    assert not list(Path("out").iterdir())


def test_sizes_can_be_told_from_python_too(place):
    with pytest.raises(UsageError, match="width 16 is not a multiple of 4 and of 3 heads"):
        import_latte(Path("latte.pt"), heads=3)


@pytest.mark.parametrize("verb", [("models",), ("models", "import"), ("models", "import", "latte")])
def test_every_verb_explains_itself(verb):
    result = rdm(*verb, "--help", params=None)
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5
