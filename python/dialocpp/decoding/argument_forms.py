"""In which forms may a rule name tokens? Each is checked and becomes tuples, which nobody can change and JSON can hold.

TypeError for a wrong form, ValueError for a value out of range; both name the argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dialocpp.text.words import words_of_list

Ids = tuple[int, ...]
Bias = tuple[Ids, float]

_LARGEST_BIAS = 1e6


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _listed(name: str, value: Any, wanted: str) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, set, frozenset)):
        raise TypeError(f"{name} must be {wanted}, but is {value!r}.")
    return list(value)


def _id(name: str, value: Any) -> int:
    if not _is_int(value):
        raise TypeError(f"{name} must hold token ids, which are integers, but holds {value!r}.")
    if not 0 <= value < 2**31:
        raise ValueError(f"{name} must hold token ids from 0 to 2**31 - 1, but holds {value}.")
    return int(value)


def _sequence(name: str, value: Any) -> Ids:
    ids = tuple(_id(name, id_) for id_ in _listed(name, value, "made of lists of token ids"))
    if not ids:
        raise ValueError(f"{name} must hold sequences of at least one token, but one is empty.")
    return ids


def _bias(name: str, value: Any) -> float:
    if not _is_int(value) and not isinstance(value, float):
        raise TypeError(f"{name} must give each bias as a number, but one is {value!r}.")
    if not abs(value) <= _LARGEST_BIAS and value != -math.inf:
        raise ValueError(f"{name} must hold biases from -1e6 to 1e6, or minus infinity, but one is {value}.")
    return float(value)


def ids(name: str, value: Any) -> Ids:
    """`[50256, 13]`"""
    return tuple(_id(name, id_) for id_ in _listed(name, value, "a list of token ids or None"))


def id_or_ids(name: str, value: Any) -> int | Ids:
    """`50256` or `[50256, 13]`"""
    if _is_int(value):
        return _id(name, value)
    return tuple(
        _id(name, id_) for id_ in _listed(name, value, "a token id, a list of token ids or None")
    )


def sequences(name: str, value: Any) -> tuple[Ids, ...]:
    """`[[11, 12], [13]]`"""
    wanted = "a list of lists of token ids or None"
    return tuple(dict.fromkeys(_sequence(name, item) for item in _listed(name, value, wanted)))


def sequence_biases(name: str, value: Any) -> tuple[Bias, ...]:
    """`{(11, 12): -2.0}` or `[[[11, 12], -2.0]]`; of equal sequences the last one counts."""
    wanted = "a dict of tuples of token ids and biases, a list of [ids, bias] or None"
    return tuple(
        {_sequence(name, key): _bias(name, bias) for key, bias in _pairs(name, value, wanted)}.items()
    )


def token_biases(name: str, value: Any) -> tuple[tuple[int, float], ...]:
    """`{50256: -100}`; the ids may be strings, as they are in JSON."""
    wanted = "a dict of token ids and biases or None"

    def key_of(key: Any) -> int:
        return _id(name, int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key)

    return tuple({key_of(key): _bias(name, bias) for key, bias in _pairs(name, value, wanted)}.items())


def _pairs(name: str, value: Any, wanted: str) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    pairs = [
        tuple(item) if isinstance(item, (list, tuple)) else () for item in _listed(name, value, wanted)
    ]
    if any(len(pair) != 2 for pair in pairs):
        raise TypeError(f"{name} must be {wanted}, but is {value!r}.")
    return pairs


def words(name: str, value: Any) -> tuple[str, ...]:
    """`["darn", "shut up"]`"""
    found = _listed(name, value, "a list of strings or None")
    for word in found:
        if not isinstance(word, str):
            raise TypeError(f"{name} must hold strings, but holds {word!r}.")
        if not word.strip():
            raise ValueError(f"{name} must hold words, but one is empty.")
    words_of_list(listed := tuple(dict.fromkeys(found)))  # ValueError for a list that is too long
    return listed


# GenerationConfig's argument -> its form. All may be None: no such rule.
FORMS: dict[str, Callable[[str, Any], Any]] = {
    "bad_words": words,
    "bad_words_ids": sequences,
    "sequence_bias": sequence_biases,
    "logit_bias": token_biases,
    "suppress_tokens": ids,
    "begin_suppress_tokens": ids,
    "forced_eos_token_id": id_or_ids,
}
