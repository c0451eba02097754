"""What does the thread pool do with an exception? Its caller gets the first one, and the pool is as before."""

from typing import Any

import pytest
from dialocpp import CapacityError, _core

THREADS = [1, 2, 3, 8]
ITEMS = 1000
ROUNDS = 20


@pytest.fixture(params=THREADS, ids=lambda threads: f"{threads} threads")
def pool(request: pytest.FixtureRequest) -> Any:
    return _core.testing.ThreadPool(request.param)


def check_whole(pool: Any) -> None:
    """Every item exactly once, in a long loop and in short ones."""
    for items in (0, 1, 2, ITEMS):
        assert pool.loop(items) == [1] * items


@pytest.mark.parametrize("item", [0, 1, ITEMS // 2, ITEMS - 1])
def test_the_caller_gets_what_an_item_throws(pool: Any, item: int) -> None:
    for _ in range(ROUNDS):
        with pytest.raises(CapacityError, match=f"^item {item}$"):
            pool.loop(ITEMS, [item])
        with pytest.raises(MemoryError):
            pool.loop(ITEMS, [item], memory=True)
        check_whole(pool)


def test_one_wins_when_all_throw(pool: Any) -> None:
    for _ in range(ROUNDS):
        with pytest.raises(CapacityError, match=r"^item \d+$"):
            pool.loop(ITEMS, list(range(ITEMS)))
    check_whole(pool)


@pytest.mark.parametrize("threads", [n for n in THREADS if n > 1])
@pytest.mark.parametrize("in_worker", [True, False], ids=["worker", "caller"])
def test_one_throws_while_another_is_inside_an_item(threads: int, in_worker: bool) -> None:
    pool = _core.testing.ThreadPool(threads)
    for _ in range(ROUNDS):
        with pytest.raises(CapacityError, match="^worker$" if in_worker else "^caller$"):
            pool.fail(in_worker)
        check_whole(pool)
