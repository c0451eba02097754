"""Is the chosen reply the one that the rankers like best, and are their scores what they say?"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dialocpp import MMI, AntiLM, Candidate, ChatSession, DialogRPT, Model
from dialocpp.prompt.turns import Turn
from small_models import Gpt2, gpt2_config, random_gpt2

LINES = ["Hello, how are you?", "Do you like music?", "What did you do last weekend?"]
REPLIES = ["I am fine.", "No.", "I like music a lot, and you?", ""]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained()


@pytest.fixture(scope="module")
def classifier(save_folder: Callable[[Gpt2], Path]) -> Model:
    sizes = {"vocab_size": 301, "n_positions": 60, "num_labels": 1, "architectures": ["GPT2ForSequenceClassification"]}
    return Model.from_pretrained(save_folder(random_gpt2(gpt2_config(**sizes))), dtype="float32")


def turns(model: Model, texts: list[str]) -> list[Turn]:
    return [Turn("user", text, tuple(model.tokenizer.encode(text))) for text in texts]


def candidates(model: Model, texts: list[str]) -> list[Candidate]:
    return [Candidate(text, tuple(model.tokenizer.encode(text)), "eos", 0) for text in texts]


def test_mmi_is_the_probability_of_what_was_said_before(model: Model) -> None:
    context = turns(model, LINES)
    found = MMI(model).score(context, candidates(model, REPLIES))
    assert found == pytest.approx([model.score([reply], LINES[-1]).total for reply in REPLIES], abs=1e-5)
    # The source in reverse order, as the reverse model was trained.
    two = MMI(model, source_turns=2).score(context, candidates(model, REPLIES))
    last, before = LINES[-1], LINES[-2]
    expected = [model.score([r], last).total + model.score([r, last], before).total for r in REPLIES]
    assert two == pytest.approx(expected, abs=1e-4)
    assert MMI(model).score(context, []) == []


def test_mmi_of_more_than_the_model_can_read(save_folder: Callable[[Gpt2], Path]) -> None:
    short = Model.from_pretrained(save_folder(random_gpt2(gpt2_config())), dtype="float32")
    long = "many words " * 40
    values = MMI(short).score(turns(short, [long]), candidates(short, [long, "few words", ""]))
    assert np.isfinite(values).all() and len(set(values)) == 3


def test_antilm_takes_off_what_is_probable_anyway(model: Model) -> None:
    given = [model.score(LINES, reply).total for reply in REPLIES]
    eos = model.tokenizer.eos_token_id
    alone = [
        model.logprobs([eos, *model.tokenizer.encode(reply), eos])[:3].sum(dtype=np.float64) for reply in REPLIES
    ]
    found = AntiLM(model, weight=0.7, tokens=3).score(turns(model, LINES), candidates(model, REPLIES))
    assert found == pytest.approx([g - 0.7 * a for g, a in zip(given, alone, strict=True)], abs=1e-4)


def test_dialogrpt_ranks_what_fits(classifier: Model) -> None:
    texts = ["ab cd", "ef", "gh ij"]
    ranker = DialogRPT(classifier)
    found = ranker.score(turns(classifier, texts), candidates(classifier, ["yes", "no no no"]))
    assert found == classifier.rank(texts, ["yes", "no no no"])
    # Old turns are left out where there is no room for them.
    found = ranker.score(turns(classifier, ["x" * 50, *texts]), candidates(classifier, ["yes"]))
    assert found == classifier.rank(texts, ["yes"])


def test_the_reply_is_the_best_of_sixteen_by_the_reverse_model(model: Model) -> None:
    chat = ChatSession(model, reverse=model, seed=5)
    for line in LINES:
        reply = chat.reply(line)
        assert len(reply.candidates) == 16 * (reply.retries + 1)
        fine = [c for c in reply.candidates if c.rejected_because is None]
        best = max(fine, key=lambda c: c.scores["mmi"])
        assert (reply.text, reply.token_ids) == (best.text, best.token_ids)
        assert best.scores["mmi"] == pytest.approx(model.score([best.text], line).total, abs=1e-4)
        assert len({c.text for c in fine}) > 1
    assert chat.history[-1]["content"] == reply.text


def test_a_ranked_conversation_can_be_repeated(model: Model) -> None:
    def told(threads: int) -> list[str]:
        running = Model.from_pretrained(num_threads=threads)
        chat = ChatSession(running, rankers=[(AntiLM(running), 0.5), MMI(running)], seed=6, num_candidates=5)
        return [str(chat.reply(line)) for line in LINES]

    assert told(1) == told(2) == told(2)


def test_sums_are_weighted(model: Model) -> None:
    def short(context: list[str], reply: str) -> float:
        return -len(reply)

    chat = ChatSession(model, rankers=[(short, 2.0), (MMI(model), 0.25)], seed=7)
    reply = chat.reply(LINES[0])
    for candidate in reply.candidates:
        if candidate.rejected_because is None:
            total = 2.0 * candidate.scores["short"] + 0.25 * candidate.scores["mmi"]
            assert candidate.total == pytest.approx(total)


# A time budget: deadlines of nothing and of ages, so that no clock matters.


def test_without_time_the_first_few_are_ranked(model: Model) -> None:
    reply = ChatSession(model, reverse=model, seed=8).reply(LINES[0], max_time=0.0, min_new_tokens=2)
    assert len(reply.candidates) == 16 and {c.finish_reason for c in reply.candidates} == {"max_time"}
    assert {len(c.token_ids) for c in reply.candidates} == {1}
    late = [c.rejected_because for c in reply.candidates].count("too late")
    ranked = [c for c in reply.candidates if c.scores]
    assert late and ranked and late + len(ranked) == 16
    assert reply.text == max(ranked, key=lambda c: c.total).text


def test_with_all_the_time_of_the_world_nothing_changes(model: Model) -> None:
    plain = [str(ChatSession(model, reverse=model, seed=9).reply(line)) for line in LINES]
    timed = [str(ChatSession(model, reverse=model, seed=9, max_time=1e9).reply(line)) for line in LINES]
    assert plain == timed


# Given replies


def test_choices_by_their_probability(model: Model) -> None:
    chosen = model.choose(LINES[:1], ["Banana.", "I'm good, thanks.", "I'm fine."])
    assert chosen[-1].text == "Banana." and sum(choice.probability for choice in chosen) == pytest.approx(1)
    for choice in chosen:
        assert choice.score.total == pytest.approx(model.score(LINES[:1], choice.text).total, abs=1e-5)
    ratio = np.exp(chosen[0].score.total - chosen[1].score.total)
    assert chosen[0].probability / chosen[1].probability == pytest.approx(ratio)
    with pytest.raises(ValueError, match="choices to hold at least one text"):
        model.choose(LINES, [])
