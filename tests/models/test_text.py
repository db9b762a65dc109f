"""Text encoders that stay what they are, and the networks that attend to them, against plain torch."""

import copy
import json
import shutil

import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from rdm.errors import RdmError, UsageError
from rdm.models import registry
from rdm.models.official_unet import import_unet
from rdm.models.text import build_text, folder_digest, save_encoder, words_of
from rdm.models.zoo import build_network
from rdm.params.network import PixArt, PublishedEncoder, TextUNet, WordEncoder
from tests.models import official_ldm, official_pixart
from tests.models.small import CAPTIONS, ENCODER, SHAPE, TEXT, WORDS, build
from tests.test_cli import rdm

PADDING, UNKNOWN, START, END = range(4)
A, FIVE, FOUR, HANDWRITTEN = range(4, 8)
LENGTH = ENCODER.length


@pytest.fixture
def text():
    return build_text(ENCODER, WORDS)


def test_tokens_are_words_between_two_marks(text):
    rows = text.tokens(["a handwritten four", "five seven", "", "a a a a a a a"])
    assert rows.dtype == torch.int64
    assert rows.tolist() == [
        [START, A, HANDWRITTEN, FOUR, END, -1],
        [START, FIVE, UNKNOWN, END, -1, -1],
        [START, END, -1, -1, -1, -1],
        [START, A, A, A, A, END],
    ]
    assert text.null.tolist() == rows[2].tolist()
    assert text.tokens(CAPTIONS * 700).shape == (2100, LENGTH)


def test_words_are_those_of_the_captions():
    assert words_of(["a handwritten four", "the digit four", ""]) == ["a", "digit", "four", "handwritten", "the"]


@torch.no_grad()
def test_what_follows_a_caption_does_not_matter(text):
    """As if each caption were encoded alone, without padding."""
    hidden, is_token = text(text.tokens(CAPTIONS))
    [encoder] = text._held
    for row, (caption, length) in enumerate(zip(CAPTIONS, (5, 3, 2), strict=True)):
        assert is_token[row].tolist() == [True] * length + [False] * (LENGTH - length)
        alone = encoder(text.tokens([caption])[:, :length]).last_hidden_state[0]
        torch.testing.assert_close(hidden[row, :length], alone, atol=1e-6, rtol=1e-5)
    assert (hidden[0, 3] - hidden[1, 1]).abs().max() > 0.1  # four is not five


def test_its_weights_are_a_function_of_its_own_seed(text):
    def encoded(seed):
        torch.manual_seed(5)
        return build_text(ENCODER.model_copy(update={"seed": seed}), WORDS)(text.tokens(CAPTIONS))[0]

    assert torch.equal(encoded(0), text(text.tokens(CAPTIONS))[0])
    assert not torch.equal(encoded(1), encoded(0))


@pytest.mark.parametrize("name", TEXT)
def test_the_encoder_is_no_part_of_the_network(name):
    """Neither trained, averaged, saved, nor copied; moved where the network goes, and never in training mode."""
    network = build(name)
    held = {id(p) for p in network.text._held[0].parameters()}
    assert held.isdisjoint(map(id, network.parameters()))
    assert not any("text" in key for key in network.state_dict())
    copied = copy.deepcopy(network).train()
    assert copied.text is network.text
    assert not network.text._held[0].training
    network.double()
    assert {p.dtype for p in network.text._held[0].parameters()} == {torch.float64}


@torch.no_grad()
def test_the_captions_of_a_sampler_are_encoded_once(text, monkeypatch):
    calls, encode = [], text._held[0].forward
    monkeypatch.setattr(text._held[0], "forward", lambda *a, **k: (calls.append(1), encode(*a, **k))[1])
    first, other = text.tokens(CAPTIONS), text.tokens(["five", "five", ""])
    expected = [text(first)[0], text(first.clone())[0], text(other)[0], text(first)[0]]
    assert len(calls) == 3
    assert torch.equal(expected[0], expected[1])
    assert torch.equal(expected[0], expected[3])
    assert not torch.equal(expected[0], expected[2])


@pytest.mark.parametrize("learned_sigma", [False, True])
@torch.no_grad()
def test_pixart_is_the_one_of_its_paper(learned_sigma):
    parameters = TEXT["pixart"].model_copy(update={"learned_sigma": learned_sigma})
    network = build_network(parameters, SHAPE, 0, 0, build_text(ENCODER, WORDS)).eval()
    random = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=random))
    captions, timesteps = ["a handwritten four", "five", "", "four"], torch.tensor([0, 17, 500, 999])
    latents, tokens = torch.randn(4, *SHAPE, generator=random), network.text.tokens(captions)
    hidden, is_token = network.text(tokens)
    kept = [row[keep] for row, keep in zip(hidden, is_token, strict=True)]
    expected = official_pixart.forward(network.state_dict(), latents, timesteps, kept, heads=2, patch=2)
    assert expected.shape == (4, 8 if learned_sigma else 4, 8, 8)
    assert expected.std() > 0.3
    torch.testing.assert_close(network(latents, timesteps, tokens), expected, atol=1e-5, rtol=1e-5)
    turned = official_pixart.forward(network.state_dict(), latents, timesteps, kept[::-1], heads=2, patch=2)
    assert (turned - expected).abs().amax((1, 2, 3)).min() > 1e-3  # the text moves each of them


def test_pixart_starts_as_officially():
    """The output is zero, and so is what attention to text adds; the blocks are not the identity, as DiT's are."""
    network = build_network(TEXT["pixart"], SHAPE, 0, 0, build_text(ENCODER, WORDS))
    latents, timesteps = torch.randn(3, *SHAPE), torch.tensor([0, 17, 999])
    assert not network(latents, timesteps, network.text.tokens(CAPTIONS)).any()
    for block in network.transformer_blocks:
        assert not block.attn2.to_out[0].weight.any()
        assert block.scale_shift_table.any()


def test_pixart_xl_has_its_size():
    """DiT-XL/2's stack with text in the place of labels: 610.9 M, as computed from the layers' sizes."""
    encoder = PublishedEncoder(weights="t5", width=4096, length=120)
    parameters = PixArt(kind="pixart", width=1152, depth=28, heads=16, patch=2, learned_sigma=True, text=encoder)
    with torch.device("meta"):
        network = build_network(parameters, [4, 32, 32], 0, 0, torch.nn.Identity())
    w = 1152
    square = w * w + w
    block = 8 * square + (4 * w * w + 4 * w) + (4 * w * w + w) + 6 * w
    embedders = (256 * w + w) + square + (6 * w * w + 6 * w) + (4096 * w + w) + square
    ends = (16 * w + w) + 2 * w + (32 * w + 32)
    assert sum(p.numel() for p in network.parameters()) == 28 * block + embedders + ends


@torch.no_grad()
def test_the_unet_attends_to_the_text_as_ldm_does(tmp_path):
    """In the official layout, each caption by itself without padding."""
    weights = official_ldm.checkpoint(latents=4)
    torch.save({"state_dict": weights}, tmp_path / "model.ckpt")
    given = import_unet(tmp_path / "model.ckpt", (1, 1)).state_dict()
    del given["label_embedding.weight"]
    encoder = WordEncoder(width=official_ldm.CONTEXT, depth=1, heads=2, length=LENGTH)
    sizes = {"block_channels": (32, 64), "layers_per_block": 1, "norm_groups": 32, "attention": (False, True)}
    parameters = TextUNet(kind="text_unet", **sizes, text=encoder)
    network = build_network(parameters, SHAPE, 0, 0, build_text(encoder, WORDS)).eval()
    network.load_state_dict(given)
    captions, timesteps = ["a handwritten four", "five", "", "four"], torch.tensor([0, 17, 500, 999])
    latents, tokens = (
        torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(1)),
        network.text.tokens(captions),
    )
    output = network(latents, timesteps, tokens)
    hidden, is_token = network.text(tokens)
    for row in range(4):
        one, kept = slice(row, row + 1), hidden[row : row + 1, is_token[row]]
        expected = official_ldm.forward(weights, latents[one], timesteps[one], None, (1, 1), tokens=kept)
        assert expected.std() > 0.1
        torch.testing.assert_close(output[one], expected, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------- published encoders


@pytest.fixture
def folder(tmp_path, text):
    """A folder as save_pretrained writes it: a tiny T5 or BERT with random weights, and a tokenizer."""

    def write(kind="t5"):
        torch.manual_seed(0)
        size = len(text.tokenizer)
        if kind == "t5":
            config = T5Config(vocab_size=size, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
            encoder = T5EncoderModel(config)
        else:
            config = BertConfig(vocab_size=size, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
            encoder = BertModel(config)
        encoder.eval().save_pretrained(tmp_path / kind)
        fast = PreTrainedTokenizerFast(tokenizer_object=text.tokenizer.backend_tokenizer, pad_token="[PAD]")
        fast.save_pretrained(tmp_path / kind)
        return tmp_path / kind, encoder

    return write


def published(folder, width=8, length=6):
    return build_text(PublishedEncoder(weights=str(folder), width=width, length=length), [])


@pytest.mark.parametrize("kind", ["t5", "bert"])
@torch.no_grad()
def test_a_published_encoder_is_read_from_its_folder(folder, kind):
    place, encoder = folder(kind)
    found = published(place)
    tokens = found.tokens(CAPTIONS)
    assert tokens[0].tolist() == [START, A, HANDWRITTEN, FOUR, END, -1]
    hidden, is_token = found(tokens)
    expected = encoder(tokens.clamp(min=0), attention_mask=is_token.long()).last_hidden_state
    torch.testing.assert_close(hidden, expected)


def test_the_digest_follows_every_file(folder):
    place, _ = folder()
    before = folder_digest(place)
    assert folder_digest(place) == before
    (place / "tokenizer_config.json").write_text("{}")
    assert folder_digest(place) != before


def shorter(place):
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"num_layers": 3}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda place: (place / "config.json").unlink(),
            "holds no config.json; remove it, and put a text encoder there",
        ),
        (lambda place: (place / "model.safetensors").unlink(), "cannot be loaded as a text encoder"),
        (lambda place: (place / "model.safetensors").write_bytes(b"no"), "cannot be loaded as a text encoder"),
        (shorter, "lacks weights, encoder.block.2"),
    ],
    ids=["no folder", "no weights", "damaged", "a layer too few"],
)
def test_a_folder_that_is_not_whole_is_refused(folder, change, message):
    place, _ = folder()
    change(place)
    with pytest.raises(UsageError, match=message):
        published(place)


@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_an_encoder_is_fetched_into_its_folder(folder, kind, tmp_path, monkeypatch):
    """From a folder, which transformers takes like a name at huggingface.co."""
    source, _ = folder(kind)
    own = registry.Encoder(kind, f"{registry.HUB}{source}", 1e9, "none", "a test")
    monkeypatch.setitem(registry.WEIGHTS, kind, own)
    place = tmp_path / "here" / kind
    for _ in range(2):  # the second time it is there
        assert rdm("models", "fetch", kind, "--folder", str(place.parent), params=None).stdout == f"{place}\n"
        shutil.rmtree(source, ignore_errors=True)
    assert published(place).width == 8
    (place / "config.json").unlink()
    with pytest.raises(UsageError, match=f"`rdm models fetch {kind} --folder {place.parent}` puts it there"):
        published(place)


def test_an_encoder_that_cannot_be_had(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(RdmError, match="source cannot be fetched .*the same command goes on with it"):
        save_encoder(str(tmp_path / "source"), tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_another_width_is_refused(folder):
    place, _ = folder()
    with pytest.raises(UsageError, match="has width 8; the parameters declare 16"):
        published(place, width=16)


def test_no_folder_has_no_digest(tmp_path):
    with pytest.raises(UsageError, match="is not there, or empty; put a text encoder there"):
        folder_digest(tmp_path / "none")
