"""Images: uint8 (N, C, H, W), brought to one square size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dafw.cache import remembered
from dafw.domain import Domain, Table, resize
from dafw.modalities import Fitted

LEAST_SIDE = 16  # pixels: below this, three poolings leave nothing

_resized: dict[Any, list[Table]] = {}


def fitted(
    domains: Sequence[Domain],
    image_size: int | None,
    network: Callable[..., Any],
    options: Mapping[str, Any],  # noqa: ARG001 (what every modality is given)
    notes: list[str],
) -> Fitted:
    """Every domain at (C, S, S); see `common_shape`."""
    shape = common_shape(domains, image_size, network)
    return Fitted(shape[1], shape, [reconciled(domain, shape, notes) for domain in domains])


def said(shape: tuple[int, ...]) -> dict[str, str]:
    return {"image size": f"{shape[2]}x{shape[1]}"}


def common_shape(domains: Sequence[Domain], size: int | None, network: Callable[..., Any]) -> tuple[int, int, int]:
    """(C, S, S): the larger native side, at most the backbone's input size; colour where either has it."""
    shapes = [domain.shape for domain in domains if domain.shape is not None]
    if size is None:
        native = max(max(shape[1:]) for shape in shapes)
        size = max(min(native, getattr(network, "input_size", 32)), LEAST_SIDE)
    channels = getattr(network, "channels", None) or max(shape[0] for shape in shapes)
    return channels, size, size


def reconciled(domain: Domain, shape: tuple[int, int, int], notes: list[str]) -> Domain:
    """The domain at the pair's shape; notes what it changed."""
    if domain.train is None or domain.test is None or domain.shape == shape:
        return domain
    assert domain.shape is not None
    train, test = domain.train, domain.test

    def resized() -> list[Table]:
        return [replace(table, inputs=resize(table.inputs, shape[1], shape[0])) for table in (train, test)]

    tables = remembered(_resized, (domain.fingerprint, shape), resized)
    old, new = domain.shape, shape
    how = "area-averaged" if max(old[1:]) > new[1] else "bilinear"
    changes = [f"{old[1]}x{old[2]} → {new[1]}x{new[2]} ({how})"] if old[1:] != new[1:] else []
    if old[0] != new[0]:
        changes.append("grey → colour by repetition" if new[0] == 3 else "colour → grey")
    notes.append(f"{domain.name}: {', '.join(changes)}")
    return domain.with_tables(*tables)  # its own name and flips: another domain may hold the same bytes
