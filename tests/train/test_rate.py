"""The learning rate by step."""

import math

import pytest

from rdm.params.schema import FineTuned
from rdm.train.loop import rate_factor


def factors(**changes):
    optimisation = FineTuned(start="any", batch=1, learning_rate=1.0, ema_decay=0.5, **changes)
    return [rate_factor(optimisation, step) for step in range(optimisation.steps)]


def test_constant_unless_asked():
    assert factors(steps=3) == [1, 1, 1]


def test_a_linear_rise_and_half_a_cosine_down_to_a_twentieth():
    found = factors(steps=10, warmup_steps=4, cooldown_steps=5)
    assert found[:5] == [0.25, 0.5, 0.75, 1, 1]
    # cos from its top (at the last step before the fall) to its bottom (at the last step)
    expected = [0.525 + 0.475 * math.cos(math.pi * k / 5) for k in range(1, 6)]
    assert found[5:] == pytest.approx(expected)
    assert found[-1] == pytest.approx(0.05)
