"""Do packed rows hold what the dialogues hold, and does no piece see another one?"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from dialocpp.evaluation.dialogue_formats import Dialogue
from dialocpp.training.dataset import IGNORED, Pieces, endless_rows, epoch_rows, pieces_of, row_of
from dialocpp.training.trainer import _batch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import gpt2_config, random_gpt2, write_checkpoint

EOS = 96


def encode(turns: list[str]) -> list[list[int]]:
    return [[ord(letter) % 90 for letter in turn] for turn in turns]


def made(dialogues: list[Dialogue], context: int = 32, **how: bool) -> Pieces:
    return pieces_of([(dialogues, 1.0)], encode, EOS, context, **how)


TURNS = st.lists(st.text("abcdefgh", min_size=1, max_size=20), min_size=2, max_size=6)


@given(st.lists(TURNS, min_size=1, max_size=12), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_an_epoch_holds_every_token_once(texts: list[list[str]], seed: int) -> None:
    pieces = made([Dialogue(tuple(turns)) for turns in texts])
    rows = epoch_rows(pieces, 32, seed, 0)
    assert sorted(index for row in rows for index in row) == list(range(len(pieces)))
    for members in rows:
        row = row_of(pieces, members, 32)
        read = [row.ids[row.pieces == number].tolist() for number in range(len(members))]
        assert read == [pieces.ids[pieces.starts[i] : pieces.starts[i + 1]].tolist() for i in members]
        for number in range(len(members)):
            assert row.positions[row.pieces == number].tolist() == list(range(len(read[number])))


def test_targets_are_the_next_tokens_of_the_same_piece() -> None:
    pieces = made([Dialogue(("ab", "c")), Dialogue(("d", "e"))], 16)
    row = row_of(pieces, [0, 1], 16)
    first = [*encode(["ab"])[0], EOS, *encode(["c"])[0], EOS]
    assert row.targets[:4].tolist() == first[1:]
    assert row.targets[4] == IGNORED, "nothing follows the end of a piece"
    assert set(row.targets[9:].tolist()) == {IGNORED}


@pytest.mark.parametrize(
    ("how", "dialogue", "learnt"),
    [
        ({}, Dialogue(("a", "b", "c")), "abc"),
        ({"replies_only": True}, Dialogue(("a", "b", "c")), "b"),
        ({"reverse": True}, Dialogue(("a", "b", "c")), "cba"),
        ({}, Dialogue(("a", "b", "c"), (False, False, True)), "c"),
        ({"replies_only": True}, Dialogue(("a", "b", "c"), (True, False, True)), "ac"),
        ({"reverse": True}, Dialogue(("a", "b", "c"), (True, False, False)), "a"),
    ],
)
def test_what_is_learnt(how: dict[str, bool], dialogue: Dialogue, learnt: str) -> None:
    pieces = made([dialogue], **how)
    counted = [id_ for id_, counts in zip(pieces.ids.tolist(), pieces.learnt.tolist(), strict=True) if counts]
    assert counted == [id_ for letter in learnt for id_ in (*encode([letter])[0], EOS)]


def test_a_long_dialogue_is_cut_between_turns() -> None:
    pieces = made([Dialogue(("a" * 10, "b" * 10, "c" * 10, "d" * 50))], 24)
    lengths = np.diff(pieces.starts).tolist()
    assert lengths == [22, 11, 24], "two turns, one turn, and one that is itself too long"


def test_weights_are_how_often_an_epoch_holds_a_dialogue() -> None:
    sources = [([Dialogue(("a", "b"))] * 400, 0.25), ([Dialogue(("c", "d"))] * 10, 2.0), ([Dialogue(("e", "f"))], 0.0)]
    pieces = pieces_of(sources, encode, EOS, 16)
    drawn = [index for row in epoch_rows(pieces, 16, 1, 0) for index in row]
    assert 60 < sum(index < 400 for index in drawn) < 140
    assert [drawn.count(400 + i) for i in range(10)] == [2] * 10
    assert 410 not in drawn


def test_a_run_that_skips_reads_what_it_would_have_read() -> None:
    pieces = made([Dialogue((f"{'abcdefgh'[i % 8] * (i % 7 + 1)}", "b")) for i in range(40)], 16)
    whole = endless_rows(pieces, 16, seed=3)
    rows = [next(whole).ids.tolist() for _ in range(60)]
    for skip in (0, 1, 17, 45):
        assert [next(endless_rows(pieces, 16, 3, skip)).ids.tolist()] == [rows[skip]]


def test_packed_side_by_side_is_alone(tmp_path) -> None:
    """The judge is transformers' own forward of each piece by itself."""
    folder = write_checkpoint(tmp_path, random_gpt2(gpt2_config()))
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    pieces = made([Dialogue(("abc", "de")), Dialogue(("fgh", "a")), Dialogue(("b", "c"))], 24)
    batch = _batch([row_of(pieces, [2, 0, 1], 24)], torch.device("cpu"))
    with torch.no_grad():
        packed = model(
            input_ids=batch["ids"], position_ids=batch["positions"], attention_mask=batch["mask"], use_cache=False
        ).logits[0]
        at = 0
        for index in (2, 0, 1):
            ids = torch.from_numpy(pieces.ids[pieces.starts[index] : pieces.starts[index + 1]]).long()
            alone = model(ids[None]).logits[0]
            torch.testing.assert_close(packed[at : at + len(ids)], alone, atol=2e-5, rtol=0)
            at += len(ids)
