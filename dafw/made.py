"""Pairs that are made in a moment, one of each modality: what the conformance checks train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dafw import augment
from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.domain import Domain, Table
from dafw.pair import Pair, Protocol
from dafw.setting import Setting

CLASSES = ("circle", "square", "star")
TOKENS, VOCABULARY = 8, 12
SAMPLES = 256


@dataclass(frozen=True)
class Made:
    """A modality's examples: `table(count, shift, seed)`, a small network for them, other inputs of the same kind."""

    modality: str
    table: Callable[[int, float, int], Table]
    network: Callable[[], nn.Module]
    changed: Callable[[Tensor], Tensor]


def labels_of(count: int) -> Tensor:
    return torch.arange(count) % len(CLASSES)


def made_table(count: int, shift: float, seed: int) -> Table:
    """uint8 images (count, 1, 8, 8): a bright square whose place tells the class, on noise around `shift`."""
    generator = torch.Generator().manual_seed(seed)
    labels = labels_of(count)
    images = 60 * torch.rand((count, 1, 8, 8), generator=generator) + shift
    for row, label in enumerate(labels.tolist()):
        images[row, :, 2 * label : 2 * label + 3, 2 * label : 2 * label + 3] += 120
    return Table(images.to(torch.uint8), labels)


def made_texts(count: int, shift: float, seed: int) -> Table:
    """Ids and mask (count, 2, 8) int64: a class's own two tokens among random ones, more of these with `shift`."""
    generator = torch.Generator().manual_seed(seed)
    labels = labels_of(count)
    own = 1 + 2 * labels[:, None] + torch.randint(0, 2, (count, TOKENS), generator=generator)
    others = torch.randint(7, VOCABULARY, (count, TOKENS), generator=generator)
    ids = torch.where(torch.rand((count, TOKENS), generator=generator) < 0.3 + shift / 300, others, own)
    lengths = torch.randint(TOKENS // 2, TOKENS + 1, (count, 1), generator=generator)
    mask = (torch.arange(TOKENS) < lengths).long()
    return Table(torch.stack([ids * mask, mask], dim=1), labels)


def made_clips(count: int, shift: float, seed: int) -> Table:
    """int16 clips (count, 256): a tone whose pitch tells the class, in noise that grows with `shift`."""
    generator = torch.Generator().manual_seed(seed)
    labels = labels_of(count)
    phase = 6.3 * torch.rand((count, 1), generator=generator)
    tones = torch.sin(phase + 0.2 * (1 + labels[:, None]) * torch.arange(SAMPLES))
    noise = torch.randn((count, SAMPLES), generator=generator) * (0.1 + shift / 200)
    return Table((8000 * (tones + noise)).clamp(-32000, 32000).to(torch.int16), labels)


class WordNetwork(nn.Module):
    """The mean of the embedded tokens that the mask keeps, through a linear layer."""

    features = 24

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 16)
        self.linear = nn.Linear(16, self.features)

    def forward(self, inputs: Tensor) -> Tensor:
        ids, mask = inputs.unbind(1)
        kept = mask[..., None].float()
        return F.relu(self.linear((self.words(ids) * kept).sum(1) / kept.sum(1).clamp_min(1)))


class ToneNetwork(nn.Module):
    """Two strided convolutions over time, averaged."""

    features = 16

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 8, 16, stride=4, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, self.features, 8, 4)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return F.relu(self.layers(inputs[:, None])).mean(2)


IMAGES = Made("image", made_table, lambda: ConvNet(1, 4), lambda table: 255 - table)
TEXTS = Made("text", made_texts, WordNetwork, lambda table: torch.stack([table[:, 0].flip(1) % 5, table[:, 1]], dim=1))
CLIPS = Made("audio", made_clips, ToneNetwork, lambda table: table.flip(1) // 2)
EVERY = (IMAGES, TEXTS, CLIPS)


def made_pair(setting: Setting, seed: int = 0, made: Made = IMAGES) -> Pair:
    """Source and target of three classes, 48 + 24 examples each."""
    source, target = (
        Domain(name, CLASSES, made.table(48, shift, first), made.table(24, shift, first + 1), made.modality)
        for name, shift, first in (("made", 0.0, 1), ("made2", 60.0, 3))
    )
    pair = Pair([source], target, setting, seed, Protocol(), augment.views(made.modality), torch.device("cpu"))
    pair.modality, pair.input_shape = made.modality, tuple(pair.target_test.table.shape[1:])
    return pair


def made_model(seed: int, classes: int, made: Made = IMAGES) -> Classifier:
    torch.manual_seed(seed)
    model = Classifier(made.network(), classes, feature_dim=16)
    model.pretrained = frozenset(n for n, _ in model.named_parameters() if not n.startswith("head."))
    return model
