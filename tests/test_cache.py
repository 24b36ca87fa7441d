"""What is remembered within one process."""

from typing import Any

from dafw.cache import remembered


def test_only_the_last_few_are_remembered():
    cache: dict[Any, int] = {}
    made: list[int] = []
    for key in (1, 2, 3, 1, 4, 1):
        remembered(cache, key, lambda key=key: made.append(key) or key, most=3)
    assert made == [1, 2, 3, 4, 1]
    assert len(cache) == 3
