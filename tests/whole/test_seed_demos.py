"""Do the two seed demos, held with ChatSession, give transformers' token ids, turn after turn?"""

import itertools
import json
import lzma
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from dialocpp import ChatSession, Model
from hf_loops import Peer, Turn, model_card_loop, paddlenlp_loop

Loop = Callable[[Peer, Iterable[str]], Iterator[Turn]]

# Where the best two logits are closer than this, float32 does not say which is larger: either is right.
TIE = 1e-5


@dataclass
class Tally:
    """What was compared."""

    conversations: int = 0
    turns: int = 0
    tokens: int = 0
    ties: int = 0
    cut: int = 0  # turns that ended by their length


def compare(peer: Peer, model: Model, loop: Loop, conversations: Iterable[list[str]]) -> Tally:
    """Hold each conversation with both; fail at the first id that differs without a tie."""
    tally = Tally()
    # transformers first, all of it: two thread pools that take turns wait for each other's idle spinning.
    references = [(lines, list(loop(peer, lines))) for lines in conversations]
    for lines, turns in references:
        chat = ChatSession(model)
        tally.conversations += 1
        for line, turn in zip(lines, turns, strict=False):  # the loop ends where the window does
            reply = chat.reply(line, do_sample=False, max_new_tokens=turn.limit)
            tally.turns += 1
            tally.tokens += len(turn.ids)
            tally.cut += not turn.ended
            ids = [*reply.token_ids, *([peer.tokenizer.eos_token_id] if reply.finish_reason == "eos" else [])]
            if ids == turn.ids:
                assert reply.finish_reason == ("eos" if turn.ended else "length")
                continue
            at = next(i for i, (a, b) in enumerate(itertools.zip_longest(ids, turn.ids)) if a != b)
            margin = turn.margins[at] if at < len(turn.margins) else float("inf")
            difference = (
                f"conversation {tally.conversations}, {line!r}: ours {ids}, transformers' {turn.ids}, first "
                f"difference at {at}, where transformers' choice won by {margin:.3g}"
            )
            assert margin < TIE, difference
            tally.ties += 1
            print(f"a tie in {difference}")
            break  # from here on the two hold different conversations
    print(tally)
    return tally


def user_lines(folder: Path, per_source: int, turns: int) -> list[list[str]]:
    """The even turns of the first conversations of each test split that have at least two of them."""
    found = []
    for path in sorted(folder.glob("*.test.jsonl.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            dialogues = [json.loads(row)["turns"] for row in file]
        found += [dialogue[0 : 2 * turns : 2] for dialogue in dialogues if len(dialogue) >= 4][:per_source]
    return found


@pytest.fixture(scope="module")
def demo(shared: Path) -> tuple[Peer, Model]:
    folder = shared / "models" / "demo"
    return Peer.load(folder), Model.from_pretrained(folder, dtype="float32")


def test_paddlenlp_loop_on_the_demo_model(shared: Path, demo: tuple[Peer, Model]) -> None:
    conversations = user_lines(shared / "data" / "dialogues", per_source=7, turns=5)
    tally = compare(*demo, paddlenlp_loop, conversations)
    assert tally.conversations >= 50
    assert tally.turns >= 200
    assert tally.ties < 0.01 * tally.turns


def test_model_card_loop_on_the_demo_model(shared: Path, demo: tuple[Peer, Model]) -> None:
    # The card's 1000 of 1024 positions are 250 of 256 here.
    conversations = user_lines(shared / "data" / "dialogues", per_source=2, turns=6)
    tally = compare(*demo, partial(model_card_loop, max_length=250), conversations)
    assert tally.conversations >= 12
    assert tally.turns >= 50
    assert tally.ties < 0.01 * tally.turns


LINES = ["Does money buy happiness?", "What is the best way to buy happiness ?", "This is so difficult !"]
MORE_LINES = ["Bonjour, ça va ? \N{SLIGHTLY SMILING FACE}", "  two\n lines\t", "\u4f60\u597d 42"]


def test_on_the_shape_of_dialogpt_small(shared: Path, small_shape_folder: Path, tmp_path: Path) -> None:
    """Random weights and GPT-2's own tokenizer, as DialoGPT-small's files are: float16, no tokenizer.json."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(small_shape_folder / name)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(shared / "data" / "gpt2-tokenizer" / name, tmp_path)
    peer = Peer.load(tmp_path)
    assert peer.tokenizer.eos_token_id == 50256
    model = Model.from_pretrained(tmp_path, dtype="float32")
    tally = compare(peer, model, partial(paddlenlp_loop, max_new_tokens=12), [LINES, MORE_LINES])
    assert tally.turns == len(LINES + MORE_LINES)
    assert 0 < tally.cut < tally.turns  # replies of both ends
    assert tally.ties == 0


@pytest.fixture(scope="module")
def small(wide_folder: Path) -> tuple[Peer, Model]:
    return Peer.load(wide_folder), Model.from_pretrained(wide_folder, dtype="float32")


CONVERSATIONS = [[f"{first} {line}" for line in LINES + MORE_LINES] for first in "abcdefgh"]


@pytest.mark.parametrize(
    "loop",
    [partial(paddlenlp_loop, max_new_tokens=16), partial(model_card_loop, max_length=150)],
    ids=["paddlenlp", "model card"],
)
def test_on_a_small_random_model(small: tuple[Peer, Model], loop: Loop) -> None:
    """Needs nothing beside the repository."""
    tally = compare(*small, loop, CONVERSATIONS)
    assert tally.turns >= 2 * len(CONVERSATIONS)
    assert 0 < tally.cut < tally.turns
    assert tally.ties == 0


@pytest.mark.parametrize("margin", [TIE / 2, 2 * TIE])
def test_another_id_is_a_tie_or_a_failure(small: tuple[Peer, Model], margin: float) -> None:
    def tampered(peer: Peer, lines: Iterable[str]) -> Iterator[Turn]:
        for turn in paddlenlp_loop(peer, lines, max_new_tokens=16):
            last = len(turn.ids) - 1
            yield replace(turn, ids=[*turn.ids[:last], 5], margins=[*turn.margins[:last], margin])

    if margin < TIE:
        tally = compare(*small, tampered, CONVERSATIONS[:2])
        assert (tally.ties, tally.turns) == (2, 2)  # what follows a tie is not compared
    else:
        with pytest.raises(AssertionError, match=f"choice won by {margin:.3g}"):
            compare(*small, tampered, CONVERSATIONS[:2])
