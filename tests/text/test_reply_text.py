"""Does a reply end at the token that completes a stop string, found without decoding all of it at each token?"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import tokenizers
from dialocpp.text.reply_text import ReplyEnd
from dialocpp.text.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import END_OF_TEXT

WORDS = ["a", "b", "ab", " a", " ", ".", " .", "n't", " n't", "'", "'s", " '", "hello there, you", "é", "你", "\n"]


def byte_level(clean_up: bool = False) -> Tokenizer:
    """Every byte is a token, so that a character is cut in up to four; and some words are."""
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = ["".join(part for part, _ in level.pre_tokenize_str(word)) for word in WORDS]
    symbols = [*sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), *spelled]
    vocab = {symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True)])
    return Tokenizer(made, len(vocab), clean_up)


def byte_fallback() -> Tokenizer:
    """As Llama's: spaces are ▁, the first one is dropped, and what is no piece is spelled by byte tokens."""
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), *(word.replace(" ", "▁") for word in WORDS)]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    decoders = tokenizers.decoders
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True)])
    return Tokenizer(made, len(vocab))


def word_piece() -> Tokenizer:
    """As BERT's: pieces bring their spaces, ## joins them."""
    pieces = ["[UNK]", "a", "##a", "b", "##b", "ab", "##n", "don", "'", "t", ".", "你", "好"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    made.decoder = tokenizers.decoders.WordPiece()
    made.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True)])
    return Tokenizer(made, len(vocab))


TOKENIZERS: dict[str, Tokenizer] = {
    "bytes": byte_level(),
    "bytes, cleaned up": byte_level(clean_up=True),
    "byte fallback": byte_fallback(),
    "word pieces": word_piece(),
}


def holds(tokenizer: Tokenizer, ids: Sequence[int], strings: Sequence[str]) -> bool:
    """The definition: all of it is decoded."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return any(string in text for string in strings)


def chunks(tokenizer: Tokenizer) -> list[list[int]]:
    """Parts of replies: words, characters byte by byte, bytes that are no character, special tokens."""
    size = tokenizer.vocab_size
    spelled = [list(range(max(0, size - 1 - len(WORDS)), size - 1)), [size - 1], [size - 1] * 5]
    inner = tokenizer._tokenizer
    byte_names = [inner.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
    if byte_names[0] is not None:
        spelled += [[byte_names[byte] for byte in text.encode()] for text in ("你好", "é👍", "ab")]
        spelled += [[byte_names[0xE4]], [byte_names[0xFF]], [byte_names[0x80]]]
    return [*spelled, *([i] for i in range(max(0, size - 20), size))]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_reply_ends_where_the_decoded_whole_first_holds_a_stop_string(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    size = tokenizer.vocab_size
    part = st.one_of(st.sampled_from(chunks(tokenizer)), st.lists(st.integers(0, size - 1), min_size=1, max_size=4))
    # A long beginning of few kinds of text, so that the end is far from it and is new where it comes.
    lead = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3)) * data.draw(st.integers(1, 60))
    ids = [*lead, *(token for tokens in data.draw(st.lists(part, min_size=1, max_size=40)) for token in tokens)]
    text = tokenizer.decode(ids, skip_special_tokens=True)
    strings = ["never in there!"]
    if text:
        start = data.draw(st.integers(0, len(text) - 1))
        strings.append(text[start : start + data.draw(st.integers(1, 12))])
    ends = ReplyEnd(tokenizer, strings)
    for count in range(1, len(ids) + 1):
        expected = holds(tokenizer, ids[:count], strings)
        assert ends(ids[:count]) == expected, (count, strings)
        if expected:
            break


@pytest.mark.parametrize("name", ["bytes", "byte fallback"])
@pytest.mark.parametrize("stop", ["你好", "👍", "é👍a", "\ufffd", "你" * 20])
def test_a_stop_string_far_in_is_found_at_its_last_byte(name: str, stop: str) -> None:
    tokenizer = TOKENIZERS[name]
    inner = tokenizer._tokenizer
    alphabet = _spell(name, inner)
    data = b"\xff" if stop == "\ufffd" else stop.encode()
    ends = ReplyEnd(tokenizer, [stop])
    for shift in range(8):  # the part that is decoded may begin at each byte of 人
        ids = [alphabet(byte) for byte in ("xyz 人 " * 40 + "x" * shift).encode()]
        seen = []
        for byte in data:
            ids.append(alphabet(byte))
            seen.append((ends(ids), holds(tokenizer, ids, [stop])))
        assert seen[-1] == (True, True)
        assert all(ours == expected for ours, expected in seen)


def _spell(name: str, inner: Any) -> Callable[[int], int]:
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if name == "byte fallback":
        return lambda byte: int(inner.token_to_id(f"<0x{byte:02X}>"))
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    assert level.pre_tokenize_str(" ")[0][0] == chr(256 + others.index(0x20))
    return lambda byte: int(inner.token_to_id(chr(byte) if byte in printable else chr(256 + others.index(byte))))


def test_the_work_of_a_token_does_not_grow_with_the_reply() -> None:
    tokenizer = copy.copy(TOKENIZERS["bytes"])
    decode, decoded = tokenizer.decode, 0

    def counted(ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        nonlocal decoded
        ids = list(ids)
        decoded += len(ids)
        return decode(ids, skip_special_tokens)

    tokenizer.decode = counted  # type: ignore[method-assign]
    ends, ids, most = ReplyEnd(tokenizer, ["never in there!"]), [5] * 64, []
    for _ in range(1000):
        ids.append(5)
        before = decoded
        assert not ends(ids)
        most.append(decoded - before)
    assert max(most[500:]) == max(most[:500]) < 100
