"""Which label or caption each sample is drawn with: a function of its index (and of random labels, of the seed)."""

from __future__ import annotations

import numpy as np
import torch

from rdm.data import stage as data
from rdm.errors import UsageError
from rdm.params import Experiment
from rdm.params.protocol import Protocol
from rdm.randomness import generator, proportional, seed_of

DEALT_FROM_DATA = ("reference", "captions")


def deal_labels(experiment: Experiment, dataset: str, rule: str, classes: int, seed: int) -> np.ndarray:
    """The label of every sample, int64 (N,); each is a function of its index (and, if random, of the seed).

    rule: as of `Experiment.label_rule`; those in DEALT_FROM_DATA take what the data set holds.
    reference: the reference split's own labels, over and over (or, if it has more, some of them in its proportions):
    its class proportions, in its order. captions: those of the items whose captions are dealt.
    balanced: 0, 1, ..., classes - 1, over and over. random: uniform. Of an unconditional set all are 0.
    """
    protocol = experiment.dealing(dataset)
    indices = np.arange(protocol.samples)
    if not classes:
        return np.zeros_like(indices)
    if rule in DEALT_FROM_DATA:
        reference = data.load(experiment, dataset, protocol.reference).labels
        dealt: np.ndarray = reference[deal_items(protocol, reference)]
        return dealt
    if rule == "balanced":
        return indices % classes
    return torch.randint(classes, (protocol.samples,), generator=generator(seed, "labels")).numpy()


def deal_items(protocol: Protocol, reference: np.ndarray) -> np.ndarray:
    """For every sample the item of the reference split whose label or caption it is given, int64 (N,).

    reference: the labels of that split, int64 (n,).
    captions: N different items at random, the same for every seed of training. Raises UsageError if there are fewer.
    """
    count = protocol.samples
    if protocol.labels == "captions":
        if len(reference) < count:
            raise UsageError(
                f"The {protocol.reference} split has {len(reference)} items, the protocol deals captions of {count}, "
                "one of each; complete the data set, or score fewer samples by another protocol."
            )
        return torch.randperm(len(reference), generator=generator("captions"))[:count].numpy()
    dealt = proportional(reference, count)
    return dealt[np.arange(count) % len(dealt)]


def deal_captions(experiment: Experiment, dataset: str) -> list[str]:
    """The caption of every sample: one of those of its item, chosen by the item's number."""
    protocol = experiment.dealing(dataset)
    captions = data.load_captions(experiment, dataset, protocol.reference)
    items = deal_items(protocol, data.load_labels(experiment, dataset, protocol.reference))
    return [captions[item][seed_of("caption", int(item)) % len(captions[item])] for item in items]
