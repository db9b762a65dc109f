"""Random numbers are functions of a key."""

import numpy as np
import pytest
import torch

from rdm.randomness import batch_items, generator, proportional, seed_of


def test_keys_do_not_collide():
    keys = [(1, "a"), ("1", "a"), (1, "a", 0), (11,), (1, 1), ("1a",), (1, "a/int:0")]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert torch.equal(torch.rand(3, generator=generator(1, "x")), torch.rand(3, generator=generator(1, "x")))


def test_every_epoch_holds_every_item_once():
    items = torch.cat([batch_items(seed=3, step=step, batch=4, count=10) for step in range(15)])
    for epoch in items.view(6, 10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert not torch.equal(items[:10], items[10:20])


def test_a_batch_larger_than_the_data():
    counts = torch.bincount(batch_items(seed=0, step=0, batch=25, count=10))
    assert set(counts.tolist()) == {2, 3}
    assert counts.sum() == 25


def test_proportional_indices_by_hand():
    """Half of four classes with 6, 2, 2 and 0 items; and all, if there are no more."""
    labels = np.array([0, 3, 0, 1, 0, 0, 3, 1, 0, 0])
    chosen = proportional(labels, 5)
    assert np.bincount(labels[chosen], minlength=4).tolist() == [3, 1, 0, 1]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    for count in (10, 11, 1000):
        assert proportional(labels, count).tolist() == list(range(10))


@pytest.mark.parametrize("count", [1, 7, 100, 256, 999])
def test_proportions_are_kept_to_one_item(count):
    labels = np.random.default_rng(0).choice(7, 1000, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.04, 0.01])
    chosen = proportional(labels, count)
    assert len(np.unique(chosen)) == len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    share = np.bincount(labels, minlength=7) * count / 1000
    assert (np.abs(np.bincount(labels[chosen], minlength=7) - share) < 1).all()
