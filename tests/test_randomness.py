"""Random numbers are functions of a key."""

import torch

from rdm.randomness import batch_items, generator, seed_of


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
