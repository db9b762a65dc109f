"""What frozen text encoders cost: reckoned from their sizes, since published ones need not be there yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rdm.params import Experiment, schema
from rdm.params.network import PublishedEncoder, TextEncoder, TextNetwork

# by the name of their folder: weights of all layers, and of the embeddings, which are looked up and multiply nothing
PUBLISHED = {
    "bert-base-uncased": (85_054_464, 23_837_184),
    "bert-large-uncased": (302_309_376, 31_782_912),
    "clip-vit-large-patch14": (85_056_000, 38_004_480),
    "t5-v1_1-large": (308_332_032, 32_899_072),
    "t5-v1_1-xl": (1_157_729_280, 65_798_144),
    "t5-v1_1-xxl": (4_630_714_368, 131_596_288),
}


@dataclass(frozen=True)
class TextCost:
    """parameters: numbers that are held. flops: of one caption; a multiply-add counts as two."""

    parameters: int = 0
    flops: int = 0


def of_text(network: schema.Network) -> TextCost:
    """Of the encoder of a network that attends to text; nothing of other networks, nor of an unknown encoder.

    A token costs two FLOPs for each weight of the layers; attention between so few tokens is left out.
    """
    if not isinstance(network, TextNetwork):
        return TextCost()
    layers, embeddings = _sizes(network.text)
    return TextCost(layers + embeddings, 2 * layers * network.text.length)


def unknown(experiment: Experiment) -> list[str]:
    """The folders of published encoders whose sizes are not known here."""
    networks = [baseline.network for baseline in experiment.train.baselines.values()]
    encoders = [network.text for network in networks if isinstance(network, TextNetwork)]
    return sorted(
        {e.weights for e in encoders if isinstance(e, PublishedEncoder) and Path(e.weights).name not in PUBLISHED}
    )


def _sizes(encoder: TextEncoder) -> tuple[int, int]:
    """Weights of its layers and of its embeddings. Of a BERT: four matrices w x w, two w x 4 w, a layer."""
    if isinstance(encoder, PublishedEncoder):
        return PUBLISHED.get(Path(encoder.weights).name, (0, 0))
    return encoder.depth * 12 * encoder.width**2, encoder.length * encoder.width
