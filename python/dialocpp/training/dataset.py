"""How do dialogues become rows of token ids to learn from?

A dialogue is its turns, each followed by end-of-text, cut into pieces at turn borders where it is longer than the
context. Pieces are packed into rows of the context's length; no piece sees another one of its row: positions begin at
0 in each, and attention stays inside. Which pieces lie in which row depends on the seed and the epoch alone, so that a
run which was interrupted goes on with what it would have read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dialocpp.evaluation.dialogue_formats import Dialogue

I32 = npt.NDArray[np.int32]
IGNORED = -100  # cross_entropy's mark of a target that does not count
Encode = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True)
class Pieces:
    """Token ids of many pieces one after the other, and where each begins. `weights`: how often an epoch holds each."""

    ids: I32  # (sum of lengths,)
    learnt: npt.NDArray[np.bool_]  # (sum of lengths,): does this token count in the loss?
    starts: npt.NDArray[np.int64]  # (pieces + 1,)
    weights: npt.NDArray[np.float32]  # (pieces,)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def tokens(self) -> int:
        """Of one epoch, as the weights have it."""
        return int((np.diff(self.starts) * self.weights).sum())


@dataclass(frozen=True)
class Row:
    """T positions: what is read, what shall follow each, the position in its piece, and which piece it is of."""

    ids: I32  # (T,)
    targets: I32  # (T,), IGNORED where nothing is to be learnt
    positions: I32  # (T,)
    pieces: I32  # (T,), from 0; -1 is padding


def pieces_of(
    sources: Iterable[tuple[Iterable[Dialogue], float]],
    encode: Encode,
    end_of_text: int,
    context: int,
    *,
    reverse: bool = False,
    replies_only: bool = False,
) -> Pieces:
    """All dialogues as pieces of at most `context` tokens. `sources`: dialogues and how often an epoch holds them.

    `reverse`: the last turn first, for P(source | reply). `replies_only`: of each dialogue only every second turn
    counts, the answers; where a file says itself which turns count, that holds.
    """
    ids: list[I32] = []
    learnt: list[npt.NDArray[np.bool_]] = []
    weights: list[float] = []
    for dialogues, weight in sources:
        for dialogue in dialogues:
            turns, counts = list(dialogue.turns), _counts(dialogue, replies_only)
            if reverse:
                turns, counts = turns[::-1], counts[::-1]
            encoded = [[*turn, end_of_text] for turn in encode(turns)]
            for piece_ids, piece_counts in _cut(encoded, counts, context):
                ids.append(piece_ids)
                learnt.append(piece_counts)
                weights.append(weight)
    if not ids:
        raise ValueError("expected at least one dialogue to learn from, found none; check the files")
    starts = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    return Pieces(np.concatenate(ids), np.concatenate(learnt), starts, np.array(weights, np.float32))


def _counts(dialogue: Dialogue, replies_only: bool) -> list[bool]:
    if dialogue.learnt is not None:
        return list(dialogue.learnt)
    return [not replies_only or index % 2 == 1 for index in range(len(dialogue.turns))]


def _cut(
    turns: Sequence[list[int]], counts: Sequence[bool], context: int
) -> Iterator[tuple[I32, npt.NDArray[np.bool_]]]:
    ids: list[int] = []
    learnt: list[bool] = []
    for turn, counted in zip(turns, counts, strict=True):
        turn = turn[:context]  # a longer turn loses its end
        if len(ids) + len(turn) > context:
            yield np.array(ids, np.int32), np.array(learnt, np.bool_)
            ids, learnt = [], []
        ids += turn
        learnt += [counted] * len(turn)
    yield np.array(ids, np.int32), np.array(learnt, np.bool_)


def epoch_rows(pieces: Pieces, context: int, seed: int, epoch: int) -> list[list[int]]:
    """Which pieces lie in each row of an epoch, in the order in which they are read."""
    rng = random.Random(f"{seed}/{epoch}")
    drawn: list[int] = []
    for index, weight in enumerate(pieces.weights.tolist()):
        whole = int(weight)
        drawn += [index] * (whole + (rng.random() < weight - whole))
    rng.shuffle(drawn)
    lengths = np.diff(pieces.starts)
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (room left, row); a few at a time: little padding, and still shuffled
    for index in drawn:
        length = int(lengths[index])
        fitting = [entry for entry in open_rows if entry[0] >= length]
        if fitting:
            best = min(fitting)
            open_rows.remove(best)
            room, row = best
            rows[row].append(index)
        else:
            rows.append([index])
            room, row = context, len(rows) - 1
        if room - length > context // 32:
            open_rows.append((room - length, row))
            if len(open_rows) > 16:
                open_rows.pop(0)
    return rows


def endless_rows(pieces: Pieces, context: int, seed: int, skip: int = 0) -> Iterator[Row]:
    """Epoch after epoch, without the first `skip` rows."""
    epoch = 0
    while True:
        rows = epoch_rows(pieces, context, seed, epoch)
        for members in rows[skip:]:
            yield row_of(pieces, members, context)
        skip = max(0, skip - len(rows))
        epoch += 1


def row_of(pieces: Pieces, members: Sequence[int], context: int) -> Row:
    """These pieces side by side."""
    ids = np.zeros(context, np.int32)
    targets = np.full(context, IGNORED, np.int32)
    positions = np.zeros(context, np.int32)
    owner = np.full(context, -1, np.int32)
    at = 0
    for number, index in enumerate(members):
        begin, end = int(pieces.starts[index]), int(pieces.starts[index + 1])
        length = end - begin
        ids[at : at + length] = pieces.ids[begin:end]
        following = np.where(pieces.learnt[begin + 1 : end], pieces.ids[begin + 1 : end], IGNORED)
        targets[at : at + length - 1] = following
        positions[at : at + length] = np.arange(length)
        owner[at : at + length] = number
        at += length
    return Row(ids, targets, positions, owner)
