"""Class names of different data sets that mean the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dafw.errors import UsageError

# Only words that mean the same in every benchmark that uses them. "tv" and "monitor" do not: Office-Home has both.
SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("airplane", "aeroplane", "plane"),
    ("car", "automobile"),
    ("bicycle", "bike"),
    ("motorcycle", "motorbike"),
    ("couch", "sofa"),
    ("laptop", "laptopcomputer"),
    ("telephone", "phone"),
    ("mobilephone", "cellphone"),
    ("television", "tv"),
    ("0", "zero"),
    ("1", "one"),
    ("2", "two"),
    ("3", "three"),
    ("4", "four"),
    ("5", "five"),
    ("6", "six"),
    ("7", "seven"),
    ("8", "eight"),
    ("9", "nine"),
)
_MEANING = {word: words[0] for words in SYNONYMS for word in words}


def canonical(name: str) -> str:
    """One spelling of a class name: case, spaces, hyphens and underscores dropped, synonyms replaced.

    >>> canonical("Mobile Phone"), canonical("mobile_phone"), canonical("automobile")
    ('mobilephone', 'mobilephone', 'car')
    """
    plain = re.sub(r"[\s_-]+", "", name).casefold()
    return _MEANING.get(plain, plain)


def match(source: Sequence[str], target: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs (in source, in target) of the classes both have, in the source's order.

    Raises UsageError where two names of one side mean the same class.

    >>> match(["automobile", "frog", "truck"], ["monkey", "truck", "car"])
    [(0, 2), (2, 1)]
    """
    of_source, of_target = _by_meaning(source), _by_meaning(target)
    return [(index, of_target[meaning]) for meaning, index in of_source.items() if meaning in of_target]


def _by_meaning(names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        first = found.setdefault(canonical(name), index)
        if first != index:
            raise UsageError(
                f"the class names {names[first]!r} and {name!r} of one data set mean the same; "
                "expected one name a class: rename one, or put its examples into the other"
            )
    return found
