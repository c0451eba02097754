"""What is a good error message? A helper for tests of bad input."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def one_sentence(kind: type[BaseException], about: str = "") -> Iterator[None]:
    """The block raises exactly this type, with one sentence that matches `about`.

    Unlike pytest.raises, nothing holds the error afterwards, nor by its traceback what the block had in hand.
    """
    try:
        yield
    except kind as error:
        found, message = type(error), str(error)
    else:
        pytest.fail(f"no {kind.__name__} was raised")
    assert found is kind
    assert message and "\n" not in message and ". " not in message and len(message) < 400, message
    assert re.search(about, message), message
