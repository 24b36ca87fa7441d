"""What one example is: how the domains of a pair are brought to one shape, and what is said of it. One file a modality.

A modality `name` is the module `dafw.modalities.name`, which has the two functions of `Modality`, beside its views in
`dafw.augment.name` and the picture of its examples in `dafw.plots_examples`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from dafw.domain import Domain
from dafw.errors import UsageError
from dafw.registry import nearest


class Fitted(NamedTuple):
    """Domains of one shape.

    image_size: the side of images; None for all else
    shape: that of one example, as the backbone is given it
    """

    image_size: int | None
    shape: tuple[int, ...]
    domains: list[Domain]


class Modality(Protocol):
    """What a modality's module offers."""

    def fitted(
        self,
        domains: Sequence[Domain],
        image_size: int | None,
        network: Callable[..., Any],
        options: Mapping[str, Any],
        notes: list[str],
    ) -> Fitted:
        """The domains at the one shape that this registered backbone takes; notes what that changed.

        image_size: as typed, null where it was not; options: the backbone's own. A domain without examples (known by
        its published weights) stays as it is.
        """

    def said(self, shape: tuple[int, ...]) -> dict[str, str]:
        """The words of a protocol for examples of this shape, as {"image size": "16x16"}."""


def modality(name: str) -> Modality:
    """The module of a modality; UsageError for an unknown one."""
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if name not in known:
        raise UsageError(f"no modality {name!r}; {nearest(name, known)}")
    found: Any = importlib.import_module(f"{__name__}.{name}")
    return found  # type: ignore[no-any-return]


def common_modality(domains: Sequence[Domain], name: str, network: Callable[..., Any]) -> str:
    """The modality of all domains and of the backbone of this name. UsageError where they differ."""
    first, wanted = domains[0].name, domains[0].modality
    for other in domains[1:]:
        if other.modality != wanted:
            raise UsageError(
                f"{first} holds {wanted} and {other.name} holds {other.modality}; expected a pair of one modality"
            )
    takes = getattr(network, "modality", "image")
    if takes != wanted:
        raise UsageError(
            f"backbone={name} takes {takes}, and {first} holds {wanted}; expected another, as in "
            f"backbone={EXAMPLES.get(wanted, 'a plug-in of yours')}"
        )
    return wanted


EXAMPLES = {"image": "convnet", "text": "minilm", "audio": "speech_embedding"}  # a backbone of each, for the hint
