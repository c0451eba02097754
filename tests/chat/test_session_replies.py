"""Is the reply the best candidate that will do, and is nothing shown that will not? Here a model says its lines."""

import dataclasses
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from dialocpp import Candidate, ChatSession, Model, ReplyCancelledError, _core
from dialocpp.chat.config import FALLBACK
from dialocpp.chat.guards import key_of
from dialocpp.engine import scheduler
from dialocpp.prompt.turns import Turn
from scripted_runtime import serve_with
from sentences import one_sentence
from small_models import Gpt2, gpt2_config, random_gpt2


class Scripted(scheduler.Scheduler):
    """Reads prompts as always, but each request that is submitted says the next line."""

    def __init__(self, model: Model, lines: Sequence[str]) -> None:
        super().__init__(model.runtime.engine)
        self._model, self.left = model, list(lines)
        self._lines: dict[int, list[int]] = {}
        self.requests: list[Any] = []

    def submit(self, request: Any) -> None:
        super().submit(request)
        self.requests.append(request)
        self._lines[id(request)] = [*self._model.tokenizer.encode(self.left.pop(0)), request.rules.eos_token_ids[0]]

    def advance(self, request: Any, unless: Any = None) -> bool:
        known = [*request.prompt, *request.generated]
        if request.finish_reason is not None:
            return False
        start = min(len(request.sequence), len(known) - 1)
        request.sequence.truncate(start)
        self.engine.step([_core.Work(request.sequence, known[start:], None)])
        request.generated.append(self._lines[id(request)].pop(0))
        return True


@pytest.fixture(scope="module")
def model(save_folder: Callable[[Gpt2], Path]) -> Model:
    """Its tokens are ASCII characters, one each."""
    return Model.from_pretrained(save_folder(random_gpt2(gpt2_config(n_positions=512), seed=3)), num_threads=1)


@pytest.fixture
def script(model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scripted]:
    def replace(*lines: str) -> Scripted:
        scripted = Scripted(model, lines)
        serve_with(monkeypatch, model, scripted)
        return scripted

    return replace


Script = Callable[..., Scripted]


def session(model: Model, **settings: Any) -> ChatSession:
    return ChatSession(model, seed=1, **settings)


# Retries


def test_an_empty_reply_is_tried_again(model: Model, script: Script) -> None:
    script("", "  \n", "Hi.")
    reply = session(model).reply("Hello")
    assert (reply.text, reply.retries, reply.finish_reason) == ("Hi.", 2, "eos")
    assert [candidate.rejected_because for candidate in reply.candidates] == ["empty", "empty", None]
    assert reply.usage.completion_tokens == 4
    assert reply.usage.generated_tokens == 1 + 4 + 4
    assert len({candidate.seed for candidate in reply.candidates}) == 3
    assert reply.seed == reply.candidates[-1].seed


def test_what_was_said_is_not_said_again(model: Model, script: Script) -> None:
    script("I like music.", "i LIKE music", "I like cats.")
    chat = session(model)
    chat.reply("Hello")
    reply = chat.reply("And you?")
    assert (reply.text, reply.retries) == ("I like cats.", 1)
    assert chat.history[-1]["content"] == "I like cats."
    assert reply.usage.cached_tokens == reply.usage.prompt_tokens - len("And you?") - 2


def test_the_user_is_not_echoed(model: Model, script: Script) -> None:
    script("how are you then", "Fine.")
    assert session(model).reply("How are you, then?").text == "Fine."


def test_a_short_reply_may_come_again_but_not_at_once(model: Model, script: Script) -> None:
    script("Yes.", "yes", "No.", "Yes!")
    chat = session(model)
    assert [chat.reply(line).text for line in ("a", "b", "c")] == ["Yes.", "No.", "Yes!"]


def test_a_greedy_reply_is_not_altered_unless_asked(model: Model, script: Script) -> None:
    scripted = script("I like music.", "I like music.", "")
    chat = session(model, do_sample=False)
    replies = [chat.reply(line) for line in ("a", "b", "c")]
    assert [reply.text for reply in replies] == ["I like music.", "I like music.", ""]
    assert all(reply.retries == 0 for reply in replies)
    scripted = script("I like music.", "Hi.")
    assert chat.fork().reply("d").text == "I like music."
    scripted = script("I like music.", "I like music.", "Hi.")
    chat = session(model, do_sample=False, echo_guard=True)
    assert [chat.reply(line).text for line in ("a", "b")] == ["I like music.", "Hi."]
    assert scripted.left == []


def test_after_a_refused_greedy_reply_the_next_is_drawn(model: Model) -> None:
    """Greedy decoding would only say it again."""
    chat = ChatSession(model, seed=1, do_sample=False, max_new_tokens=12)
    first = chat.reply("Hello")
    assert chat.regenerate().text == first.text
    filtered = ChatSession(
        model, seed=1, do_sample=False, max_new_tokens=12, reply_filter=lambda text: text != first.text
    )
    other = filtered.reply("Hello")
    assert other.candidates[0].text == first.text and other.candidates[0].rejected_because == "filtered"
    assert other.retries >= 1 and other.text != first.text


def test_the_echo_guard_can_be_left_out(model: Model, script: Script) -> None:
    script("I like music.", "I like music.", "", "Hi.")
    chat = session(model, echo_guard=False)
    assert [chat.reply(line).text for line in ("a", "b", "c")] == ["I like music.", "I like music.", "Hi."]


# When nothing will do


def test_a_set_phrase_is_the_last_resort(model: Model, script: Script) -> None:
    chat = session(model)
    said = []
    for _ in range(12):
        script(*[""] * 4)
        reply = chat.reply("Say nothing.")
        assert (reply.finish_reason, reply.retries, len(reply.candidates)) == ("fallback", 3, 4)
        assert reply.token_ids == tuple(model.tokenizer.encode(reply.text))
        said.append(reply.text)
    assert set(said) == set(FALLBACK)
    assert all(one != other for one, other in itertools.pairwise(said))
    assert len(set(said[:3])) == 3, "while it can, it says something new"


def test_phrases_are_the_caller_s_choice(model: Model, script: Script) -> None:
    script("", "")
    chat = session(model, fallback="Pardon?", max_retries=1)
    assert chat.reply("Hello").text == "Pardon?"
    script("", "")
    assert chat.reply("Hello").text == "Pardon?", "there is no other"


def test_a_sentence_said_again_is_better_than_a_phrase(model: Model, script: Script) -> None:
    again = "Well. I like to sing in the evening. You?"
    script("I like to sing in the evening.", *[again] * 8)
    chat = session(model, num_candidates=2)
    script("I like to sing in the evening.", "x")
    chat.reply("a")
    script(*["", "I like to sing in the evening", again, ""] * 2)
    reply = chat.reply("b")
    assert (reply.text, reply.finish_reason, reply.retries) == (again, "eos", 3)


def test_no_retries(model: Model, script: Script) -> None:
    script("")
    reply = session(model, max_retries=0).reply("Hello")
    assert (reply.finish_reason, reply.retries) == ("fallback", 0)


# Streaming


def test_text_is_shown_as_soon_as_it_is_no_echo(model: Model, script: Script) -> None:
    script("I like music.", "I like mice. They are small.")
    chat = session(model)
    chat.reply("a")
    pieces = list(chat.stream("b"))
    assert pieces[0] == "I like mi"
    assert pieces[1:4] == ["c", "e", "."]
    assert "".join(pieces) == "I like mice. They are small."


def test_an_echo_is_never_shown(model: Model, script: Script) -> None:
    script("I like music.", "I like music!", "Do you?")
    chat = session(model)
    chat.reply("a")
    assert "".join(chat.stream("b")) == "Do you?"


def test_a_reply_ends_before_it_repeats_a_sentence(model: Model, script: Script) -> None:
    script("I like to sing in the evening.", "Well, sure. I like to sing in the evening. And you?")
    chat = session(model)
    chat.reply("a")
    stream = chat.stream("b")
    assert "".join(stream) == "Well, sure."
    reply = stream.reply
    assert (reply.text, reply.finish_reason) == ("Well, sure.", "guard")
    assert model.tokenizer.decode(reply.token_ids) == "Well, sure."
    script("Fine.")
    assert chat.reply("c").usage.recomputed_tokens == 0


def test_a_circle_is_left(model: Model, script: Script) -> None:
    script("it is so " * 20)
    reply = session(model).reply("a")
    assert reply.finish_reason == "guard"
    assert reply.text == ("it is so " * 4).strip()[: len(reply.text)]


def test_closing_before_anything_was_shown(model: Model, script: Script) -> None:
    script("I like music.", "I like music!", "Do you?")
    chat = session(model)
    chat.reply("a")
    before = chat.history
    stream = chat.stream("b")
    stream.close()
    assert chat.history == before
    with one_sentence(ReplyCancelledError, "cancelled before it began"):
        _ = stream.reply


def test_a_cancelled_retry_keeps_what_was_shown(model: Model, script: Script) -> None:
    script("", "Hi there.")
    chat = session(model)
    stream = chat.stream("b")
    text = next(stream)
    stream.close()
    reply = stream.reply
    assert (reply.text, reply.finish_reason, reply.retries) == (text, "cancelled", 1)
    assert [candidate.text for candidate in reply.candidates] == [""]
    assert chat.history[-1]["content"] == text


def test_a_stop_string_is_not_shown(model: Model, script: Script) -> None:
    script("Hello. User: hi")
    stream = session(model, stop_strings=["User:"]).stream("a")
    pieces = list(stream)
    assert "".join(pieces) == stream.reply.text == "Hello. "


def test_logprobs_reach_the_reply(model: Model) -> None:
    reply = ChatSession(model, seed=1, top_logprobs=1, max_new_tokens=8).reply("Hello")
    assert len(reply.logprobs) == reply.usage.completion_tokens
    total = reply.candidates[-1].logprob
    assert total == pytest.approx(sum(token.logprob for token in reply.logprobs))


# Candidates


def longest(context: list[str], reply: str) -> float:
    return len(reply)


def test_the_best_candidate_is_given(model: Model, script: Script) -> None:
    script("No.", "Perhaps.", "Yes.")
    chat = session(model, num_candidates=3, rankers=longest)
    stream = chat.stream("a")
    assert list(stream) == ["Perhaps."], "whole, once it is chosen"
    reply = stream.reply
    assert [(c.text, dict(c.scores)) for c in reply.candidates] == [
        ("No.", {"longest": 3.0, "total": 3.0}),
        ("Perhaps.", {"longest": 8.0, "total": 8.0}),
        ("Yes.", {"longest": 4.0, "total": 4.0}),
    ]
    assert reply.seed == reply.candidates[1].seed
    assert reply.usage.generated_tokens == 4 + 9 + 5
    script("x", "y", "z")
    after = chat.reply("b").usage
    assert after.prompt_tokens - after.cached_tokens == 3, "the chosen candidate's cache is kept"


def test_guards_overrule_rankers(model: Model, script: Script) -> None:
    script("I like music.", "No.")
    chat = session(model, num_candidates=2, rankers=longest)
    chat.reply("a")
    script("I like music.", "Yes.")
    reply = chat.reply("b")
    assert reply.text == "Yes."
    assert reply.candidates[0].rejected_because == "repeats a turn"


def test_without_rankers_the_first_that_will_do(model: Model, script: Script) -> None:
    script("", "One.", "Two.")
    assert session(model, num_candidates=3).reply("a").text == "One."


class Fixed:
    """A ranker of its own."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self._values = name, values

    def score(self, context: Sequence[Turn], candidates: Sequence[Candidate]) -> list[float]:
        assert [turn.content for turn in context][-1] == "a"
        return self._values[: len(candidates)]


def test_weighted_sums(model: Model, script: Script) -> None:
    script("One.", "Two.")
    rankers = [(Fixed("first", [1.0, 0.0]), 0.5), (Fixed("second", [0.0, 1.0]), 2.0)]
    reply = session(model, num_candidates=2, rankers=rankers).reply("a")
    assert reply.text == "Two."
    assert reply.candidates[1].scores == {"first": 0.0, "second": 1.0, "total": 2.0}


def test_bad_rankers(model: Model, script: Script) -> None:
    for values in ([1.0], [1.0, float("nan")]):
        script("One.", "Two.")
        chat = session(model, num_candidates=2, rankers=Fixed("odd", values))
        with one_sentence(ValueError, "ranker odd: expected 2 numbers"):
            chat.reply("a")
        assert chat.history == []
    with one_sentence(ValueError, "different names"):
        session(model, rankers=[longest, longest])
    with one_sentence(TypeError, "a ranker with name and score"):
        session(model, rankers=[5])  # type: ignore[list-item]


def test_a_filter_takes_another_candidate_and_then_another_attempt(model: Model, script: Script) -> None:
    script("A dog.", "My DOG!", "A cat.", "x")
    chat = session(model, num_candidates=2, reply_filter=["dog"])
    reply = chat.reply("a")
    assert (reply.text, reply.retries) == ("A cat.", 1)
    script(*["dog"] * 8)
    assert chat.reply("b").finish_reason == "fallback"


def test_a_filter_shows_nothing_before_it_has_seen_all(model: Model, script: Script) -> None:
    script("I have a dog.", "I have a cat.")
    seen: list[str] = []
    stream = session(model, reply_filter=lambda text: seen.append(text) or "dog" not in text).stream("a")
    assert list(stream) == ["I have a cat."]
    assert seen == ["I have a dog.", "I have a cat."]


def test_candidates_share_the_prompt_and_are_drawn_alone(model: Model) -> None:
    """On the real scheduler: each candidate is what it would be by itself."""
    chat = ChatSession(model, seed=5, num_candidates=4, max_new_tokens=12)
    reply = chat.reply("Hello there")
    ids = [*model.tokenizer.encode("Hello there"), model.tokenizer.eos_token_id]
    for candidate in reply.candidates:
        (alone,) = model.generate(
            ids, chat.generation_config, seed=candidate.seed, max_new_tokens=12, no_repeat_ngram_size=0
        )
        if len({*zip(alone.token_ids, alone.token_ids[1:], alone.token_ids[2:], strict=False)}) == max(
            0, len(alone.token_ids) - 2
        ):
            assert candidate.token_ids == alone.token_ids
    assert len({candidate.token_ids for candidate in reply.candidates}) > 1


def test_many_scripts_end_well(model: Model, script: Script) -> None:
    """Whatever a model says: never empty, never the previous turn, pieces are the text, tokens are the text."""
    rng = random.Random(0)
    lines = ["", " ", "Yes.", "I like music.", "Well. I like to sing in the evening.", "I like to sing in the evening."]
    for case in range(60):
        chat = session(model, num_candidates=1 + case % 2, reply_filter=["forbidden"] if case % 3 == 0 else None)
        for turn in range(6):
            script(*(rng.choice(lines) for _ in range(8)))
            stream = chat.stream(rng.choice(["I like music.", "And?"]))
            text = "".join(stream)
            assert text == stream.reply.text == chat.history[-1]["content"]
            assert text.strip()
            assert model.tokenizer.decode(stream.reply.token_ids) == text
            assert turn == 0 or key_of(text) != key_of(chat.history[-3]["content"])


PHRASES = ("Oh no!", "Go on, user:", "Tell me more.")
RULES: list[tuple[dict[str, object], set[str]]] = [
    ({"bad_words": ["NO"]}, {PHRASES[1], PHRASES[2]}),
    ({"stop_strings": ["user:"]}, {PHRASES[0], PHRASES[2]}),
    ({"reply_filter": ["tell"]}, {PHRASES[0], PHRASES[1]}),
    ({"reply_filter": lambda text: "o" not in text.split()[0].lower()}, {PHRASES[2]}),
    ({"bad_words": ["ＧＯ"], "stop_strings": ["."]}, {PHRASES[0]}),
    ({"bad_words": ["oh", "more"], "stop_strings": "user"}, {""}),
]


@pytest.mark.parametrize(("rules", "allowed"), RULES, ids=range(len(RULES)))
def test_set_phrases_obey_the_rules(model: Model, script: Script, rules: dict[str, object], allowed: set[str]) -> None:
    chat = session(model, fallback=PHRASES, max_retries=0, **rules)
    said = set()
    for _ in range(8):
        script("")
        reply = chat.reply("Say nothing.")
        assert reply.finish_reason == "fallback"
        said.add(reply.text)
    assert said == allowed


def test_a_sentence_said_again_is_no_way_around_the_filter(model: Model, script: Script) -> None:
    script("I like to sing with my dog.", *["Well. I like to sing with my dog. You?"] * 4)
    chat = session(model)
    chat.reply("a")
    chat.settings = dataclasses.replace(chat.settings, reply_filter=["dog"])
    assert chat.reply("b").finish_reason == "fallback"
