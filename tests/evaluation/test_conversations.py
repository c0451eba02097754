"""Do long conversations stay good, and are they the same with any number of threads and in any batch?"""

from dialocpp import Model
from dialocpp.evaluation.conversations import read_lines, simulate
from shared_data import SHARED


def test_simulated_conversations() -> None:
    folder = SHARED / "data" / "dialogues"
    lines = read_lines(folder if folder.is_dir() else None)
    models = {threads: Model.from_pretrained(num_threads=threads) for threads in (1, 2)}
    tallies = [
        simulate(models[threads], lines, conversations=6, turns=20, batch=batch)
        for threads, batch in ((1, 1), (2, 6), (1, 4))
    ]
    for tally in tallies:
        assert tally.faults == []
        assert (tally.conversations, tally.replies) == (6, 120)
    assert len({tally.digest for tally in tallies}) == 1
    assert tallies[0].drops and 0 < tallies[0].recomputed_tokens < 0.5 * tallies[0].fresh_tokens


def test_idle_time_changes_no_reply() -> None:
    model, lines = Model.from_pretrained(num_threads=1), read_lines(None)
    tallies = [
        simulate(model, lines, conversations=2, turns=12, batch=2, prepare=prepare)
        for prepare in (False, True)
    ]
    assert tallies[0].digest == tallies[1].digest
    assert tallies[0].fresh_tokens > tallies[1].fresh_tokens


def test_candidates_are_the_same_in_any_batch() -> None:
    model, lines = Model.from_pretrained(num_threads=1), read_lines(None)
    tallies = [
        simulate(model, lines, conversations=3, turns=6, batch=batch, num_candidates=4)
        for batch in (1, 3)
    ]
    assert tallies[0].digest == tallies[1].digest
    assert all(tally.faults == [] for tally in tallies)
