"""Are perplexity and bits per byte those that the logits say?"""

import math

import numpy as np
import pytest
from dialocpp import Model
from dialocpp.evaluation.dialogue_files import SAMPLE, token_ids
from dialocpp.evaluation.perplexity import read_texts


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained(num_threads=1)


def nats_of(model: Model, ids: list[int]) -> float:
    logits = model.logits(ids)[:-1].astype(np.float64)
    top = logits.max(axis=1)
    chosen = logits[np.arange(len(ids) - 1), ids[1:]]
    return float((top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - chosen).sum())


@pytest.mark.parametrize("positions", [None, 7, 10_000])
def test_against_the_logits(model: Model, positions: int | None) -> None:
    texts = list(token_ids(SAMPLE, model.tokenizer))[:20]
    cut = [text[: min(positions or 256, 256)] for text in texts]
    found = read_texts(model, texts, positions)
    assert (found.texts, found.tokens) == (20, sum(len(text) - 1 for text in cut))
    assert found.nats == pytest.approx(sum(nats_of(model, text) for text in cut), rel=1e-4)
    assert found.perplexity == pytest.approx(math.exp(found.nats / found.tokens))


def test_bytes_are_those_of_the_text_and_one_for_each_end(model: Model) -> None:
    turns = ["Grüß dich! 🙂", "Hi there."]
    end = model.tokenizer.eos_token_id
    ids = [token for turn in turns for token in (*model.tokenizer.encode(turn), end)]
    found = read_texts(model, [ids])
    assert found.bytes == sum(len(turn.encode()) + 1 for turn in turns)
    assert found.bits_per_byte == pytest.approx(found.nats / math.log(2) / found.bytes)


def test_texts_of_one_token_foresee_nothing(model: Model) -> None:
    with pytest.raises(ValueError, match="expected at least one text of two tokens or more"):
        read_texts(model, [[1], []])


def test_a_batch_changes_no_figure(model: Model) -> None:
    texts = list(token_ids(SAMPLE, model.tokenizer))[:18]
    alone = [read_texts(model, [text]) for text in texts]
    together = read_texts(model, texts)
    assert together.nats == pytest.approx(math.fsum(one.nats for one in alone), rel=1e-12)
    assert together.bytes == sum(one.bytes for one in alone)
