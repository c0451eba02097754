"""In which form is each generation argument given? Lists become tuples, which nobody can change and JSON can hold.

numpy's numbers and arrays become Python's. TypeError for a wrong form, ValueError for a value out of range; both name
the argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dialocpp.text.words import words_of_list

from .scalars import plain, plain_list

Ids = tuple[int, ...]
Bias = tuple[Ids, float]

_LARGEST_BIAS = 1e6


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _listed(name: str, value: Any, wanted: str) -> list[Any]:
    value = plain_list(value)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, set, frozenset)):
        raise TypeError(f"expected {name} to be {wanted}, found {value!r}; give it in this form")
    return list(value)


def _id(name: str, value: Any) -> int:
    value = plain(value)
    if not _is_int(value):
        raise TypeError(f"expected {name} to hold token ids, which are integers, found {value!r}; convert or remove it")
    if not 0 <= value < 2**31:
        raise ValueError(f"expected {name} to hold token ids from 0 to 2**31 - 1, found {value}; remove it")
    return int(value)


def _sequence(name: str, value: Any) -> Ids:
    ids = tuple(_id(name, id_) for id_ in _listed(name, value, "made of lists of token ids"))
    if not ids:
        raise ValueError(f"expected {name} to hold sequences of at least one token, found an empty one; remove it")
    return ids


def _bias(name: str, value: Any) -> float:
    value = plain(value)
    if not _is_int(value) and not isinstance(value, float):
        raise TypeError(f"expected {name} to give each bias as a number, found {value!r}; convert or remove it")
    if not abs(value) <= _LARGEST_BIAS and value != -math.inf:
        raise ValueError(f"expected {name} to hold biases from -1e6 to 1e6, or -inf, found {value}; change it")
    return float(value)


def ids(name: str, value: Any) -> Ids:
    """`[50256, 13]`"""
    return tuple(_id(name, id_) for id_ in _listed(name, value, "a list of token ids or None"))


def id_or_ids(name: str, value: Any) -> int | Ids:
    """`50256` or `[50256, 13]`"""
    if _is_int(plain(value)):
        return _id(name, value)
    return tuple(
        _id(name, id_) for id_ in _listed(name, value, "a token id, a list of token ids or None")
    )


def ends(name: str, value: Any) -> int | Ids:
    """The same, negative ones included: they stand for no token, and some models' files say -1."""
    wanted = "a token id, a list of token ids or None"
    given = [plain(value)] if _is_int(plain(value)) else [plain(id_) for id_ in _listed(name, value, wanted)]
    if not all(map(_is_int, given)):
        raise TypeError(f"expected {name} to be {wanted}, found {value!r}; give it in this form")
    return given[0] if _is_int(plain(value)) else tuple(given)


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
        raise TypeError(f"expected {name} to be {wanted}, found {value!r}; give it in this form")
    return pairs


def words(name: str, value: Any) -> tuple[str, ...]:
    """`["darn", "shut up"]`"""
    found = _listed(name, value, "a list of strings or None")
    for word in found:
        if not isinstance(word, str):
            raise TypeError(f"expected {name} to hold strings, found {word!r}; convert or remove it")
        if not word.strip():
            raise ValueError(f"expected {name} to hold words, found an empty one; remove it")
    words_of_list(listed := tuple(dict.fromkeys(found)))  # ValueError for a list that is too long
    return listed


def _one_of_type(wanted: str, fine: Callable[[Any], bool]) -> Callable[[str, Any], Any]:
    """The form of a value that stays as it is, but for numpy's numbers."""

    def form(name: str, value: Any) -> Any:
        value = plain(value)
        if not fine(value):
            raise TypeError(f"expected {name} to be {wanted}, found {value!r}; give it in this form")
        return value

    return form


def _or_none(form: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else form(name, value)


def _is_number(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)


def _fixed(form: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """A list is copied: it could change under us."""

    def fixed(name: str, value: Any) -> Any:
        checked = form(name, plain_list(value))
        return tuple(checked) if isinstance(checked, list) else checked

    return fixed


_integer = _one_of_type("an integer", _is_int)
_number = _one_of_type("a number", _is_number)
_flag = _one_of_type("True or False", lambda value: isinstance(value, bool))
_integer_or_none = _one_of_type("an integer or None", lambda value: value is None or _is_int(value))

# The rules that name tokens or words. All may be None: no such rule.
TOKEN_FORMS: dict[str, Callable[[str, Any], Any]] = {
    "bad_words": _or_none(words),
    "bad_words_ids": _or_none(sequences),
    "sequence_bias": _or_none(sequence_biases),
    "logit_bias": _or_none(token_biases),
    "suppress_tokens": _or_none(ids),
    "begin_suppress_tokens": _or_none(ids),
    "forced_eos_token_id": _or_none(id_or_ids),
}

# GenerationConfig's argument -> its form: checks the value and gives what the config keeps.
FORMS: dict[str, Callable[[str, Any], Any]] = {
    "max_new_tokens": _integer,
    "min_new_tokens": _integer,
    "do_sample": _flag,
    "temperature": _number,
    "top_k": _integer,
    "top_p": _number,
    "min_p": _number,
    "typical_p": _number,
    "epsilon_cutoff": _number,
    "eta_cutoff": _number,
    "repetition_penalty": _number,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "no_repeat_ngram_size": _integer,
    **TOKEN_FORMS,
    "num_beams": _integer,
    "length_penalty": _number,
    "early_stopping": _one_of_type(
        "True, False or 'never'", lambda value: isinstance(value, bool) or value == "never"
    ),
    "num_beam_groups": _integer,
    "diversity_penalty": _number,
    "num_return_sequences": _integer,
    "stop_strings": _fixed(
        _one_of_type(
            "a string, a list of strings or None",
            lambda value: value is None or isinstance(value, str) or _is_list_of(str, value),
        )
    ),
    "max_time": _one_of_type("a number of seconds or None", lambda value: value is None or _is_number(value)),
    "top_logprobs": _integer_or_none,
    "logits_processor": _one_of_type(
        "a function of (token ids, logits) or None", lambda value: value is None or callable(value)
    ),
    "eos_token_id": _or_none(ends),
    "seed": _integer_or_none,
}
