"""Is a session whole and free, and is nothing left behind, wherever an interrupt strikes? At length: `tests/soak`."""

import random

import pytest
from dialocpp import Model
from interrupts import STRIKES, WORKS, interrupted, raising_handlers, undisturbed

TIMES = 8  # of each kind, with fixed seeds


@pytest.mark.parametrize("strike", STRIKES)
@pytest.mark.parametrize("work", WORKS)
def test_an_interrupt_at_any_moment(bundled_model: Model, work: str, strike: str) -> None:
    expected, bytecodes = undisturbed(bundled_model, work)
    rng = random.Random(f"{work} {strike}")
    with raising_handlers():
        outcomes = [
            interrupted(bundled_model, work, rng.randint(1, bytecodes), STRIKES[strike], expected) for _ in range(TIMES)
        ]
    assert any(outcome.startswith("struck") for outcome in outcomes)
