"""ImageNet, known here only through published weights."""

from __future__ import annotations

from dafw.domain import Domain
from dafw.place import Place
from dafw.registry import register_dataset


@register_dataset
def imagenet(place: Place) -> Domain:  # noqa: ARG001 (what every data set is given)
    """A source without images: its source model is a network with published weights."""
    return Domain("imagenet", classes=(), train=None, test=None, flip=True)


imagenet.backbone = "published"
imagenet.recipe = {"image_size": 128, "backbone.feature_dim": 0}
