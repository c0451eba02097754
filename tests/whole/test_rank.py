"""Does a GPT-2 that ranks replies, as DialogRPT, score as in transformers, and is it never asked to write?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import entries, stored, write_folder
from click.testing import CliRunner
from dialocpp import CapacityError, ChatSession, CheckpointError, Model, _core
from dialocpp.checkpoint import export_checkpoint
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.packed import cache as quantised_cache
from dialocpp.checkpoint.packed.pack import DTYPES
from dialocpp.cli import main
from dialocpp.evaluation.quantisation import compare
from forward_probe import engine
from small_models import END_OF_TEXT, Gpt2, byte_level_tokenizer, gpt2_config, random_gpt2

TOLERANCE = 1e-4  # on float32 logits, absolute: the project's promise
CLASSIFIER = "GPT2ForSequenceClassification"
CONTEXT = ["Hi there", "how are you?"]
REPLIES = ["fine, thanks", "no", "I am a bit tired today. And you?", "!"]


def classifier(labels: int = 1, **changes: Any) -> Gpt2:
    """The tiny model with a score for its head; its config is written as DialogRPT's is."""
    names = {str(i): f"LABEL_{i}" for i in range(labels)}
    written = {"architectures": [CLASSIFIER], "id2label": names, "pad_token_id": 96}
    made = random_gpt2(gpt2_config(num_labels=labels, **changes), seed=6)
    return Gpt2({k: v for k, v in made.config.items() if k != "num_labels"} | written, made.tensors)


@pytest.fixture(scope="session")
def reranker() -> Gpt2:
    return classifier()


@pytest.fixture(scope="session")
def folder(reranker: Gpt2, save_folder: Callable[[Gpt2], Path]) -> Path:
    return save_folder(reranker)


def load(folder: Path, dtype: str = "float32", num_threads: int = 1) -> Model:
    return Model.from_pretrained(folder, dtype=dtype, num_threads=num_threads)


def logit(probability: float) -> float:
    return float(np.log(probability) - np.log1p(-probability))


@pytest.mark.parametrize("container", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("labels", [1, 3])
def test_equals_transformers(tmp_path: Path, container: str, labels: int) -> None:
    """The file that transformers writes; in one padded batch, of which it takes each reply's last token."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(labels)
    config = transformers.GPT2Config(**gpt2_config(), num_labels=labels, pad_token_id=96, initializer_range=0.2)
    theirs = transformers.GPT2ForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    if container != "safetensors":
        (tmp_path / "model.safetensors").unlink()
        is_zip = container == "zip"
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    tokenizer = byte_level_tokenizer(97)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = [tokenizer.encode(END_OF_TEXT.join([*CONTEXT, reply])).ids for reply in REPLIES]
    longest = max(map(len, texts))
    ids = torch.tensor([text + [96] * (longest - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    with torch.no_grad():
        logits = theirs(ids, attention_mask=mask).logits
    ours = load(tmp_path)
    assert ours.config.num_labels == labels
    for text, expected in zip(texts, logits.numpy(), strict=True):
        assert ours.logits(text).shape == (len(text), labels)
        np.testing.assert_allclose(ours.logits(text)[-1], expected, rtol=0, atol=TOLERANCE)
    if labels == 1:
        expected_scores = torch.sigmoid(logits)[:, 0].tolist()
        np.testing.assert_allclose(ours.rank(CONTEXT, REPLIES), expected_scores, rtol=0, atol=TOLERANCE / 4)


def test_every_dtype_ranks_alike(folder: Path) -> None:
    scores = {dtype: load(folder, dtype).rank(CONTEXT, REPLIES) for dtype in DTYPES}
    logits = {dtype: np.array([logit(score) for score in of_dtype]) for dtype, of_dtype in scores.items()}
    spread = logits["float32"].std()
    assert 0 < np.abs(logits["float16"] - logits["float32"]).max() < 0.01 * spread
    assert 0 < np.abs(logits["int8"] - logits["float32"]).max() < 0.1 * spread
    assert len({tuple(np.argsort(of_dtype)) for of_dtype in scores.values()}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_score_depends_on_nothing_but_the_texts(folder: Path, dtype: str) -> None:
    one, two = load(folder, dtype), load(folder, dtype, num_threads=2)
    scores = one.rank(CONTEXT, REPLIES)
    assert two.rank(CONTEXT, REPLIES) == scores == [one.rank(CONTEXT, [reply])[0] for reply in REPLIES]
    assert all(0 < score < 1 for score in scores) and len(set(scores)) == len(REPLIES)
    assert one.rank(CONTEXT[1:], REPLIES) != scores
    assert one.rank(CONTEXT, []) == []


def test_text_cannot_end_a_turn(folder: Path) -> None:
    """A reply that spells end-of-text is scored as these letters."""
    model = load(folder)
    assert model.rank(["a"], [f"b{END_OF_TEXT}c"]) != model.rank(["a", "b"], ["c"])


def test_the_packed_file_and_the_copy_hold_the_same_score(
    tmp_path: Path, reranker: Gpt2, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {dtype: load(folder, dtype) for dtype in DTYPES}
    for dtype, direct in expected.items():
        packed = load(export_checkpoint(folder, tmp_path / dtype, dtype=dtype), "auto")
        assert (packed.dtype, packed.config.num_labels) == (dtype, 1)
        assert packed.rank(CONTEXT, REPLIES) == direct.rank(CONTEXT, REPLIES)
        head = packed._checkpoint.tensors["score.weight"]
        assert head.dtype == np.float32 and head.shape == (1, 40, 16)
        np.testing.assert_array_equal(head[0, :, 0], reranker.tensors["score.weight"][0])
        assert not head[0, :, 1:].any()
    monkeypatch.setattr(quantised_cache, "MIN_SOURCE_BYTES", 0)
    for _ in range(2):  # makes the copy, then reads it
        assert load(folder, "int8").rank(CONTEXT, REPLIES) == expected["int8"].rank(CONTEXT, REPLIES)


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        ({"id2label": {"0": "LABEL_0"}}, 1),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "num_labels": 3}, 3),
        ({"num_labels": 1}, 1),
        ({"id2label": None}, 2),
        ({}, 2),
    ],
)
def test_the_labels_are_as_transformers_counts_them(written: dict[str, Any], labels: int) -> None:
    config = ModelConfig.from_dict({"architectures": [CLASSIFIER]} | written)
    assert config.num_labels == labels
    assert ModelConfig.from_dict(config.to_dict()) == config
    transformers = pytest.importorskip("transformers")
    assert transformers.GPT2Config.from_dict(written).num_labels == labels
    assert ModelConfig.from_dict(written).num_labels == 0  # without the architecture it is a language model


def test_what_was_noted_of_a_language_model_stays_true() -> None:
    """Else every int8 copy would be made anew."""
    assert "num_labels" not in ModelConfig.from_dict({"id2label": {"0": "x"}}).architecture()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"id2label": {}}, "expected id2label to be an object of 1 to 65536 labels, found {}"),
        ({"id2label": ["a"]}, r"expected id2label to be an object .*, found \['a'\]"),
        ({"id2label": {"0": "a"}, "num_labels": 2}, "expected num_labels to count the 1 labels of id2label, found 2"),
        ({"num_labels": 0}, "expected num_labels to be a whole number from 1 to 65536, found 0"),
        ({"num_labels": "1"}, "expected num_labels to be a whole number .*, found '1'"),
    ],
)
def test_wrong_labels_are_refused(written: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelConfig.from_dict({"architectures": [CLASSIFIER]} | written)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score.weight": None}, r"1 missing: score\.weight \(1, 40\)"),
        ({"score.weight": np.ones((2, 40))}, r"misshaped: score\.weight \(expected \(1, 40\), found \(2, 40\)\)"),
        ({"score.weight": np.ones((1, 41))}, r"misshaped: score\.weight \(expected \(1, 40\), found \(1, 41\)\)"),
        ({"score.weight": np.ones(40)}, r"misshaped: score\.weight \(expected \(1, 40\), found \(40,\)\)"),
        ({"score.bias": np.ones(1)}, r"1 surplus: score\.bias \(1,\)"),
        ({"score.weight": np.full((1, 40), np.nan)}, r"expected finite numbers in score\.weight, found NaN"),
    ],
)
def test_wrong_heads_are_refused(tmp_path: Path, reranker: Gpt2, changes: dict[str, Any], message: str) -> None:
    tensors = entries(reranker)
    for name, value in changes.items():
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = stored(value.astype(np.float32))
    with pytest.raises(CheckpointError, match=message):
        load(write_folder(tmp_path, reranker.config, tensors))


def test_the_core_asks_a_classifier_for_no_token() -> None:
    core = engine(random_gpt2(gpt2_config(num_labels=1)), "float32")
    sequence = core.sequence()
    with pytest.raises(ValueError, match=r"found one that ranks texts \(num_labels = 1\); read its labels by logits"):
        core.step([_core.Work(sequence, [1, 2], _core.SamplingParams())])
    assert len(sequence) == 0 and core.step([_core.Work(sequence, [1, 2])])[0].token == -1
    with pytest.raises(ValueError, match="ranks texts"):
        core.logprobs([1, 2])
    with pytest.raises(ValueError, match="expected num_labels from 0 to 65536, found -1"):
        _core.Config(
            vocab_size=8,
            n_positions=8,
            n_embd=8,
            n_layer=1,
            n_head=1,
            n_inner=8,
            activation_function="relu",
            layer_norm_epsilon=1e-5,
            num_labels=-1,
        )


def test_a_reranker_is_not_asked_to_write(folder: Path) -> None:
    model = load(folder)
    writing: list[Callable[[], object]] = [
        lambda: ChatSession(model),
        lambda: ChatSession.from_pretrained(folder),
        lambda: model.generate("Hi"),
        lambda: model.score(CONTEXT, "no"),
        lambda: model.logprobs([1, 2]),
        lambda: compare(model, model, [[1, 2]]),
    ]
    for ask in writing:
        with pytest.raises(ValueError, match=r"a model that writes, found .*, which ranks replies; use Model\.rank"):
            ask()


def test_rank_says_what_it_needs(
    folder: Path, tiny_folder: Path, save_folder: Callable[[Gpt2], Path]
) -> None:
    model = load(folder)
    with pytest.raises(ValueError, match=r"a model that ranks, found .*, which writes replies; use Model\.score"):
        load(tiny_folder).rank(CONTEXT, REPLIES)
    with pytest.raises(ValueError, match=r"expected a model with one label, found 3 in .*; read Model\.logits"):
        load(save_folder(classifier(3))).rank(CONTEXT, REPLIES)
    for context in ("Hi", []):
        with pytest.raises(ValueError, match="at least one turn"):
            model.rank(context, REPLIES)
    with pytest.raises(TypeError, match="replies to be a list of texts"):
        model.rank(CONTEXT, "no")
    with pytest.raises(ValueError, match=r"some text in each reply, found none in number 1 \(from 0\)"):
        model.rank(CONTEXT, ["no", ""])
    with pytest.raises(CapacityError, match="64 tokens, the model's positions, found"):
        model.rank(CONTEXT, ["no" * 40])


def test_info_shows_a_reranker(folder: Path) -> None:
    result = CliRunner().invoke(main, ["info", str(folder), "--threads", "1"])
    assert result.exit_code == 0
    assert "reranker: it ranks replies and writes none" in result.stdout
    assert "head a score of 1 label" in " ".join(result.stdout.split())
    assert json.loads((folder / "config.json").read_text())["architectures"] == [CLASSIFIER]


def test_chat_refuses_a_reranker_in_one_sentence(folder: Path) -> None:
    result = CliRunner().invoke(main, ["chat", str(folder)], input="Hi\n")
    assert result.exit_code == 1 and "which ranks replies" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_context_that_is_too_long_is_cut_where_it_is_allowed(folder: Path) -> None:
    model = Model.from_pretrained(folder, dtype="float32", num_threads=1)
    turns, replies = ["abc " * 12, "def " * 12], ["ab", "hijk", "c"]
    with pytest.raises(CapacityError):
        model.rank(turns, replies)
    encode, end = model.tokenizer.encode, model.tokenizer.eos_token_id
    prefix = [id_ for turn in turns for id_ in (*encode(turn), end)]
    room = model.n_positions - max(len(encode(reply)) for reply in replies)
    assert len(prefix) > room
    logits = [float(model.logits(prefix[-room:] + encode(reply))[-1, 0]) for reply in replies]
    found = model.rank(turns, replies, truncation="left")
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array(logits))), rtol=0, atol=1e-5)
