"""Texts from Hugging Face."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

from dafw.datasets._texts import Row, checked_row, text_domain
from dafw.domain import Domain
from dafw.errors import UsageError
from dafw.extras import imported, reachable
from dafw.place import Place, called, called_by
from dafw.registry import register_dataset

READERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@register_dataset
def hf(
    place: Place,
    *,
    path: str,
    config: str | None = None,
    text: str = "text",
    label: str = "label",
    train_split: str = "train",
    test_split: str = "test",
) -> Domain:
    """Any data set of labelled texts that Hugging Face's datasets loads, without code of its own.

    path: its name there, as in src.path=stanfordnlp/imdb (src.name is dafw's own key), a local folder of csv, json or
        parquet files, or such files, as in src.path="reviews/*.csv"
    config: one of its configurations, where it has several
    text, label: the columns; a ClassLabel's names are the classes, else the labels as they are
    train_split, test_split: its splits, or slices as in src.test_split="train[80%:]"
    """
    parts: list[list[Row]] = []
    names: tuple[str, ...] = ()
    with loading(path, place.download) as load:
        for split in (train_split, test_split):
            try:
                part = load(config, split)
            except Exception as error:  # hubs, builders and splits object in their own ways; the reason is passed on
                raise unloadable(path, config, split, place.download, error) from error
            rows, names = rows_of(part, path, split, text, label)
            parts.append(rows)
    return text_domain(called(path), f"path={path}", parts[0], parts[1], names)


def rows_of(part: Any, path: str, split: str, text: str, label: str) -> tuple[list[Row], tuple[str, ...]]:
    """The rows of a split, and the class names of its label column, if any; UsageError for a column it lacks."""
    for key, column in (("text", text), ("label", label)):
        if column not in part.column_names:
            raise UsageError(
                f"path={path} has no column {column!r}; expected one of {', '.join(part.column_names)}, "
                f"as in src.{key}={part.column_names[0]}"
            )
    names = tuple(getattr(part.features[label], "names", ()))
    rows = []
    for number, (words, value) in enumerate(zip(list(part[text]), list(part[label]), strict=True)):
        if names:  # of a ClassLabel; -1 and None stand for a label that is withheld
            value = names[value] if value is not None and value >= 0 else None
        rows.append(checked_row(words, value, f"{path} {split}[{number}]"))
    if not rows:
        raise UsageError(f"path={path}: the split {split!r} holds no rows; expected another, as in src.test_split=test")
    return rows, names


@contextmanager
def loading(path: str, download: bool) -> Iterator[Any]:
    """A function of (config, split) that loads a split of `path`, from the local cache alone where it must.

    Within, the libraries of Hugging Face say nothing but errors, and draw no bars for local files.
    """
    datasets, hub = (imported(package, "text", "src=hf") for package in ("datasets", "huggingface_hub"))
    files = sorted(glob(str(Path(path).expanduser())))
    local = bool(files)
    offline = local or not download or not reachable(hub.constants.ENDPOINT)
    verbosity, bars = datasets.logging.get_verbosity(), datasets.is_progress_bar_enabled()
    before = datasets.config.HF_HUB_OFFLINE, hub.constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = hub.constants.HF_HUB_OFFLINE = offline or before[1]
    datasets.logging.set_verbosity_error()
    if local:
        datasets.disable_progress_bars()

    def load(config: str | None, split: str) -> Any:
        reader = READERS.get(Path(path.removesuffix(".gz")).suffix.lower()) if local else None
        if reader is None:
            return datasets.load_dataset(files[0] if local else path, config, split=split)
        return datasets.load_dataset(reader, config, data_files=files, split=split)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield load
    finally:
        datasets.config.HF_HUB_OFFLINE, hub.constants.HF_HUB_OFFLINE = before
        datasets.logging.set_verbosity(verbosity)
        if local and bars:
            datasets.enable_progress_bars()


def unloadable(path: str, config: str | None, split: str, download: bool, error: BaseException) -> UsageError:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    what = f"path={path}" + (f" config={config}" if config else "")
    hint = "check path, config and split" + ("" if download else ", or type src.download=true")
    return UsageError(
        f"{what}: the split {split!r} cannot be loaded ({why}); {hint}; without a network: a local folder"
    )


hf.backbone = "minilm"
hf.recipe = {"backbone.frozen": True}
hf.called = called_by("path")
