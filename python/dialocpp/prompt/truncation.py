"""What is left of a text that is too long for the model's positions, where the caller allows to cut it?"""

from __future__ import annotations


def truncated(ids: list[int], room: int, truncation: str | None) -> list[int]:
    """With `left` the last `room` tokens, at least one; with None the ids as they are. ValueError for another word."""
    if truncation is None:
        return ids
    if truncation != "left":
        raise ValueError(
            f"expected truncation to be 'left' or None, found {truncation!r}; with 'left' the oldest tokens are dropped"
        )
    return ids[-max(room, 1) :]
