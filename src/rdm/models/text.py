"""Captions as what a network attends to: a tokenizer and a text encoder of transformers, frozen.

At the paper's scale a published encoder; on digits a small BERT of random weights over the words of the captions.
Neither is trained: one code path for both, and with so few words a network that attends to random features of them
learns which word matters by itself.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rdm.errors import RdmError, UsageError
from rdm.models.registry import WEIGHTS
from rdm.params.network import PublishedEncoder, WordEncoder
from rdm.provenance.files import digest, file_digest, whole_folder
from rdm.randomness import seed_of

PADDING, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
BATCH = 1000  # captions tokenised at once


class FrozenText(nn.Module):
    """A text encoder that is no part of the weights of the network that holds it.

    What it holds is neither optimised nor averaged nor saved, stays in eval mode, and is shared by copies of the
    network. It remembers what it encoded last: the captions stay the same over all steps of a sampler.
    """

    def __init__(self, tokenizer: Any, encoder: Any, length: int) -> None:
        """tokenizer, encoder: of transformers. length: tokens of a caption."""
        super().__init__()
        self.tokenizer, self.length, self.width = tokenizer, length, int(encoder.config.hidden_size)
        self._held = [encoder.eval().requires_grad_(False)]  # in a list, where torch does not find it
        self._last: tuple[Tensor, Tensor] | None = None

    @property
    def null(self) -> Tensor:
        """The tokens of the empty caption, int64 (length,)."""
        return self.tokens([""])[0]

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Captions as int64 (N, length); what follows the last token is -1."""
        rows = []
        for start in range(0, len(captions), BATCH):
            some = list(captions[start : start + BATCH])
            found = self.tokenizer(some, padding="max_length", truncation=True, max_length=self.length)
            ids, kept = torch.tensor(found["input_ids"]), torch.tensor(found["attention_mask"])
            rows.append(ids.masked_fill(kept == 0, -1))
        return torch.cat(rows)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, length) -> hidden states (B, length, width), and which are of a token, bool (B, length).

        Sampling asks for the same at every step. In training they never are, and to look would be to wait for a GPU.
        """
        is_token = tokens >= 0
        if torch.is_grad_enabled():
            return self._encode(tokens, is_token), is_token
        if self._last is None or not torch.equal(self._last[0], tokens):
            self._last = tokens.clone(), self._encode(tokens, is_token)
        return self._last[1], is_token

    @torch.no_grad()
    def _encode(self, tokens: Tensor, is_token: Tensor) -> Tensor:
        [encoder] = self._held
        hidden: Tensor = encoder(tokens.clamp(min=0), attention_mask=is_token.long()).last_hidden_state
        return hidden

    def _apply(self, fn: Any, recurse: bool = True) -> FrozenText:
        """Move the encoder to where the network goes."""
        self._held[0]._apply(fn, recurse)
        self._last = None
        super()._apply(fn, recurse)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenText:
        return self


def build_text(parameters: WordEncoder | PublishedEncoder, words: Sequence[str]) -> FrozenText:
    """The encoder that parameters declare. words: of a BERT over words, its vocabulary.

    Raises UsageError if a published one is not there, not whole, or of another width.
    """
    if isinstance(parameters, PublishedEncoder):
        return _published(parameters)
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate([PADDING, UNKNOWN, START, END, *words])}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(name, numbers[name]) for name in (START, END)]
    )
    torch.manual_seed(seed_of(parameters.seed, "text encoder"))
    config = BertConfig(
        vocab_size=len(numbers),
        hidden_size=parameters.width,
        num_hidden_layers=parameters.depth,
        num_attention_heads=parameters.heads,
        intermediate_size=4 * parameters.width,
        max_position_embeddings=parameters.length,
    )
    encoder = BertModel(config, add_pooling_layer=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PADDING, unk_token=UNKNOWN)
    return FrozenText(fast, encoder, parameters.length)


def words_of(captions: Iterable[str]) -> list[str]:
    """The different words of these captions, sorted."""
    from tokenizers.pre_tokenizers import Whitespace

    return sorted({word for caption in captions for word, _ in Whitespace().pre_tokenize_str(caption)})


def save_encoder(source: str, folder: Path) -> None:
    """Write a text encoder and its tokenizer to a folder, unless that holds something.

    source: their name at huggingface.co. Raises RdmError if they cannot be had or read.
    """
    if folder.is_dir() and any(folder.iterdir()):
        return
    from transformers import AutoModelForTextEncoding, AutoTokenizer

    _silence()
    try:
        with whole_folder(folder) as scratch:
            for kind in (AutoTokenizer, AutoModelForTextEncoding):  # the small one first
                kind.from_pretrained(source).save_pretrained(scratch)
    except Exception as error:  # whatever the network, a foreign file or what it lacks makes transformers raise
        raise RdmError(
            f"{source} cannot be fetched ({_reason(error)}); the same command goes on with it; a T5 needs "
            "`pip install sentencepiece` first."
        ) from None


def folder_digest(folder: Path) -> str:
    """sha256 over the files of a published encoder. Raises UsageError if there are none."""
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    if not files:
        raise UsageError(f"{folder} is not there, or empty; {_remedy(folder)}.")
    return digest({file.name: file_digest(file) for file in files})


def _remedy(folder: Path) -> str:
    """How a whole encoder gets into a folder."""
    removed = "remove it, and " if folder.is_dir() else ""
    if folder.name in WEIGHTS:
        return f"{removed}`rdm models fetch {folder.name} --folder {folder.parent}` puts it there"
    return f"{removed}put a text encoder there as save_pretrained writes it, with its weights as safetensors"


def _silence() -> None:
    """A T5's decoder is left out, and transformers says so at length."""
    logging.getLogger("transformers").setLevel(logging.ERROR)


def _reason(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")


def _published(parameters: PublishedEncoder) -> FrozenText:
    from transformers import AutoModelForTextEncoding, AutoTokenizer

    folder = Path(parameters.weights)
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} holds no config.json; {_remedy(folder)}.")
    _silence()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        encoder, report = AutoModelForTextEncoding.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # whatever a foreign folder makes transformers raise
        raise UsageError(
            f"{folder} cannot be loaded as a text encoder ({_reason(error)}); {_remedy(folder)}."
        ) from None
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])[0]
        raise UsageError(f"{folder} lacks weights, {missing} for one; {_remedy(folder)}.")
    if encoder.config.hidden_size != parameters.width:
        raise UsageError(f"{folder} has width {encoder.config.hidden_size}; the parameters declare {parameters.width}.")
    return FrozenText(tokenizer, encoder, parameters.length)
