"""The network that every method trains: backbone + bottleneck + head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dafw.errors import UsageError
from dafw.setting import Output
from dafw.split import to_float


class Classifier(nn.Module):
    """backbone (B, ...) → (B, backbone.features); bottleneck Linear-BN-ReLU-dropout → (B, feature_dim); linear head.

    feature_dim=0 leaves the bottleneck out: the head then sits on the backbone's features.
    `pretrained` names the parameters that were loaded and not drawn at random: they move at a tenth of the rate.
    `pruned_from` is the number of parameters that the backbone had before it was pruned; None for a whole one.
    """

    def __init__(self, backbone: nn.Module, classes: int, feature_dim: int = 128, dropout: float = 0.0):
        super().__init__()
        self.backbone = backbone
        width: int = backbone.features  # type: ignore[assignment]
        self.bottleneck: nn.Module
        if feature_dim:
            linear = nn.Linear(width, feature_dim, bias=False)  # batch norm would subtract a bias again
            parts: list[nn.Module] = [linear, nn.BatchNorm1d(feature_dim), nn.ReLU()]
            self.bottleneck = nn.Sequential(*parts, *([nn.Dropout(dropout)] if dropout else []))
        else:
            self.bottleneck = nn.Identity()
        self.feature_dim = feature_dim or width
        self.classes = classes
        self.head = nn.Linear(self.feature_dim, classes)
        self.pretrained: frozenset[str] = frozenset()
        self.pruned_from: int | None = None
        self.convolutional = any(isinstance(m, nn.Conv2d) for m in backbone.modules())

    def forward(self, inputs: Tensor) -> Output:
        """Inputs (B, ...), as they are held or as floats (images in [0, 1]), to features and logits in float32."""
        inputs = to_float(inputs)
        if self.convolutional and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        features = self.bottleneck(self.backbone(inputs))
        return Output(features.float(), self.head(features).float())

    def together(self, *parts: Tensor) -> list[Output]:
        """One forward pass over several batches: batch norm sees their mixture, and it is faster than several.

        For labelled batches. Without labels give each domain a pass of its own, as most authors' code does: on a fresh
        bottleneck mixed statistics hide the shift from batch norm (on frozen synth→digits dann fell from .65 to .54).
        """
        output = self(torch.cat(parts))
        sizes = [len(part) for part in parts]
        return [Output(*pair) for pair in zip(output.features.split(sizes), output.logits.split(sizes), strict=True)]

    def load(self, state: dict[str, Tensor], *, head: bool) -> None:
        """Take another run's weights; the head only where its classes are the same.

        Raises UsageError where the networks are not the same.
        """
        wanted = {k: v for k, v in self.state_dict().items() if head or not k.startswith("head.")}
        given = {k: v for k, v in state.items() if head or not k.startswith("head.")}
        differ = sorted(k for k in wanted.keys() | given.keys() if k not in wanted or k not in given)
        differ += sorted(k for k in wanted.keys() & given.keys() if wanted[k].shape != given[k].shape)
        if differ:
            raise UsageError(
                f"the weights do not fit this network: {differ[0]} differs (and {len(differ) - 1} more); "
                "expected a run with the same backbone, image size and feature_dim"
            )
        self.load_state_dict(given, strict=False)
        self.pretrained = frozenset(given) & {name for name, _ in self.named_parameters()}

    def new_head(self) -> nn.Linear:
        """A freshly drawn head of the same shape, on the same device."""
        return nn.Linear(self.feature_dim, self.classes).to(self.head.weight.device)
