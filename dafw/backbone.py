"""What a backbone must offer.

A registered backbone is a function `name(shape, pretrained, *, options) -> Backbone`: `shape` is that of one example
((C, H, W) for images, (2, tokens) for text, (samples,) for audio), `pretrained` asks for its published weights
(UsageError where there are none). What it declares are attributes of the function:

    modality: "image" where it says nothing
    recipe: the values it is trained with where nothing else is said, as dotted keys
    frozen_recipe: those of them that a head on its cached features learns better with
    training_options: names of options that say how it is trained, and are refused where it is frozen
    published: whether its published weights are the default init
    input_size, channels: of images: the largest side it wants, how many channels it needs
    tokens(texts, **options) -> (ids and mask int64 (N, 2, tokens), how many were cut): of text
    save_tokeniser(folder, **options): of text; leaves the tokeniser's files beside an exported network
    waveform(**options) -> (sample rate in Hz, samples): of audio
    files(**options) -> list of Path: all that its published weights, and of text its tokens, are read from. One that
        names them is not loaded where its features are in the data cache and these files are as they were
    licence: whose terms hold for its published weights, told with an exported network
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """Normalises inputs and turns them into features.

    features: the width of what `forward` returns, (B, features)
    normalised: images in [0, 1] are shifted by `mean` and divided by `std`, one value a channel
    """

    mean: Tensor
    std: Tensor
    features: int

    def __init__(self, mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.5,)):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, inputs: Tensor) -> Tensor:
        """Float inputs in [0, 1], (B, C, H, W), to the scale the network was made for."""
        return (inputs - self.mean) / self.std


def recipe_of(register: Any, kind: str = "recipe") -> Mapping[str, Any]:
    """A backbone's `recipe` or `frozen_recipe`, as dotted keys; empty where its function declares none."""
    return getattr(register, kind, {})
