"""Do long conversations stay good, and are they the same with any number of threads and in any batch?"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from dialocpp import Model
from shared_data import SHARED


@pytest.fixture(scope="module")
def conversations() -> ModuleType:
    """bench/conversations.py, which does the same a thousand times."""
    path = Path(__file__).parents[2] / "bench" / "conversations.py"
    spec = importlib.util.spec_from_file_location("conversations", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["conversations"] = module
    spec.loader.exec_module(module)
    return module


def test_simulated_conversations(conversations: ModuleType) -> None:
    folder = SHARED / "data" / "dialogues"
    lines = conversations.read_lines(folder if folder.is_dir() else None)
    models = {threads: Model.from_pretrained(num_threads=threads) for threads in (1, 2)}
    tallies = [
        conversations.simulate(models[threads], lines, conversations=6, turns=20, batch=batch)
        for threads, batch in ((1, 1), (2, 6), (1, 4))
    ]
    for tally in tallies:
        assert tally.faults == []
        assert (tally.conversations, tally.replies) == (6, 120)
    assert len({tally.digest for tally in tallies}) == 1
    assert tallies[0].drops and 0 < tallies[0].recomputed_tokens < 0.5 * tallies[0].fresh_tokens


def test_idle_time_changes_no_reply(conversations: ModuleType) -> None:
    model, lines = Model.from_pretrained(num_threads=1), conversations.read_lines(None)
    tallies = [
        conversations.simulate(model, lines, conversations=2, turns=12, batch=2, prepare=prepare)
        for prepare in (False, True)
    ]
    assert tallies[0].digest == tallies[1].digest
    assert tallies[0].fresh_tokens > tallies[1].fresh_tokens


def test_candidates_are_the_same_in_any_batch(conversations: ModuleType) -> None:
    model, lines = Model.from_pretrained(num_threads=1), conversations.read_lines(None)
    tallies = [
        conversations.simulate(model, lines, conversations=3, turns=6, batch=batch, num_candidates=4)
        for batch in (1, 3)
    ]
    assert tallies[0].digest == tallies[1].digest
    assert all(tally.faults == [] for tally in tallies)
