"""A smaller network: channels or single weights taken out of the backbone that a run starts from."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import register_parametrization

from dafw.classifier import Classifier
from dafw.errors import UsageError
from dafw.extras import imported
from dafw.method import evaluating

KINDS = ("channels", "magnitude")
MASK, ORIGINAL = ".parametrizations.weight.0.mask", ".parametrizations.weight.original"  # in a state, after the layer
SHAPE, BITS, KEPT = ".pruned.shape", ".pruned.bits", ".pruned.kept"  # the same, packed


class Mask(nn.Module):
    """The parametrization of a pruned weight: 0 where `mask`, of the weight's shape, is false."""

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight, 0.0)

    right_inverse = forward  # what is held is 0 there too, so that the mask and the other weights are all of it


def prune(model: Classifier, amount: float, kind: str, shape: tuple[int, ...]) -> None:
    """Take the share `amount` of what the backbone has left out of it; bottleneck and head keep their outputs.

    kind: "channels" or "magnitude"; shape: of one example. Raises UsageError for a backbone that cannot be pruned so.
    """
    whole = model.pruned_from or size(model.backbone)
    if kind == "channels":
        prune_channels(model, amount, shape)
    else:
        prune_weights(model, amount)
    model.pruned_from = whole


def size(network: nn.Module) -> int:
    """The number of parameters, without those that pruning holds at zero."""
    masked = sum(int((~part.mask).sum()) for part in network.modules() if isinstance(part, Mask))
    return sum(parameter.numel() for parameter in network.parameters()) - masked


# ---- single weights


def prune_weights(model: Classifier, amount: float) -> None:
    """Hold the smallest weights of the backbone's convolutions and linear layers at zero (Han et al. 2015, section 3,
    arXiv 1506.02626), by their absolute value over all layers together; of equal ones those that come first.
    """
    layers = {n: m for n, m in model.backbone.named_modules() if isinstance(m, (_ConvNd, nn.Linear))}
    if not layers:
        raise UsageError(
            "prune.kind=magnitude: this backbone has neither convolutions nor linear layers; expected another backbone"
        )
    masks = {name: mask_of(layer) for name, layer in layers.items()}
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers.values()]).abs()
    places = kept.nonzero().flatten()
    kept[places[weights[places].argsort(stable=True)[: round(amount * len(places))]]] = False
    parts = kept.split([mask.numel() for mask in masks.values()])
    for (name, layer), part in zip(layers.items(), parts, strict=True):
        hold(layer, part.view_as(masks[name]))
        if f"backbone.{name}.weight" in model.pretrained:  # the parameter has another name now
            new = f"backbone.{name}{ORIGINAL}"
            model.pretrained = model.pretrained - {f"backbone.{name}.weight"} | {new}


def mask_of(layer: _ConvNd | nn.Linear) -> Tensor:
    """Which weights of a layer are left, bool of its weight's shape."""
    if hasattr(layer, "parametrizations"):
        held: Any = layer.parametrizations
        return held["weight"][0].mask  # type: ignore[no-any-return]
    return torch.ones_like(layer.weight, dtype=torch.bool)


def hold(layer: nn.Module, mask: Tensor) -> None:
    """Hold a layer's weights at zero where the mask is false."""
    if not hasattr(layer, "parametrizations"):
        register_parametrization(layer, "weight", Mask(mask))
        return
    held: Any = layer.parametrizations["weight"]  # type: ignore[index]
    held[0].mask = mask
    held.original.data = held[0](held.original.data)


# ---- channels


def prune_channels(model: Classifier, amount: float, shape: tuple[int, ...]) -> None:
    """Take the channels whose filters have the smallest L1 norm out of every convolution of the backbone, the same
    share of each (Li et al. 2017, section 3.1, arXiv 1608.08710), and what they are the inputs of.

    Channels that a network adds or normalises together (a residual stage, a depthwise convolution and the one before
    it) go together, by the sum of the norms of all filters that make them. Without a bottleneck the channels that the
    head reads stay.
    """
    if not any(isinstance(m, _ConvNd) for m in model.backbone.modules()):
        raise UsageError("prune.kind=channels: this backbone has no convolutions; expected prune.kind=magnitude")
    if any(isinstance(m, Mask) for m in model.backbone.modules()):
        raise UsageError(
            "prune.kind=channels: single weights of this network are pruned already, and channels come before them; "
            "expected prune.kind=magnitude"
        )
    library = imported("torch_pruning", "prune", "prune.kind=channels")
    inputs = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
    whole = copy.deepcopy(model)
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.requires_grad_(True)  # the library follows gradients
    try:
        with evaluating(model):
            graph = library.DependencyGraph().build_dependency(
                model, inputs, forward_fn=lambda network, example: network(example).logits, verbose=False
            )
            for layer, channels in list(chosen(graph, model, amount)):
                group = graph.get_pruning_group(layer, library.prune_conv_out_channels, channels)
                group.prune(record_history=False)
        _check(model, whole, inputs)
    except Exception as error:  # each family of networks objects in its own way; the reason is passed on
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"prune.kind=channels: this backbone's channels cannot be taken out one by one ({reason[:200]}); "
            "expected prune.kind=magnitude"
        ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
    _tell_width(model)


def chosen(graph: Any, model: Classifier, amount: float) -> Iterator[tuple[nn.Module, list[int]]]:
    """A convolution and the numbers of its channels to be taken out, for each group that can only go together."""
    stays = [model.head, *model.bottleneck.children()]
    for group in graph.get_all_groups(ignored_layers=stays, root_module_types=[_ConvNd]):
        layer = group[0].dep.target.module
        if any(item.dep.target.module is model.head for item in group):
            continue
        scores = torch.zeros(len(group[0].idxs), dtype=torch.float64)
        parts = 1
        for item in group:
            other = item.dep.target.module
            if isinstance(other, _ConvNd) and graph.is_out_channel_pruning_fn(item.dep.handler):
                filters = other.weight.detach().double().transpose(0, int(isinstance(other, _ConvTransposeNd)))
                scores.index_add_(0, torch.tensor(item.root_idxs), filters.flatten(1).abs().sum(1)[item.idxs])
            parts = math.lcm(parts, _parts(other))
        scores = scores.view(parts, -1).sum(0)  # grouped convolutions lose the same places of each group
        count = min(round(amount * len(scores)), len(scores) - 1)
        places = scores.argsort(stable=True)[:count].sort().values
        yield layer, [part * len(scores) + place for part in range(parts) for place in places.tolist()]


def _parts(layer: Any) -> int:
    """Into how many groups of equal size a layer divides its channels; a depthwise convolution does not."""
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups
    if isinstance(layer, _ConvNd) and layer.groups < layer.out_channels:
        return layer.groups
    return 1


def _check(model: Classifier, whole: Classifier, inputs: Tensor) -> None:
    """The pruned network must answer, and a whole one that takes its weights, as `load` does, must answer the same."""
    with torch.no_grad(), evaluating(model), evaluating(whole):
        answer = model(inputs).logits
        fit(whole, model.state_dict())
        whole.load_state_dict(model.state_dict())
        if not torch.equal(answer, whole(inputs).logits):
            raise ValueError("loaded again it answers otherwise")


def _tell_width(model: Classifier) -> None:
    """The backbone says how many features it has left."""
    if isinstance(model.bottleneck, nn.Sequential):
        model.backbone.features = model.bottleneck[0].in_features  # type: ignore[assignment]


# ---- loading


def fitted_to(model: Classifier, state: Mapping[str, Tensor], pruned_from: int | None) -> None:
    """Give a whole network the channels and masks of a pruned classifier's state, so that the state loads into it.

    pruned_from: the parameters of the backbone that was pruned, None for a state that was not. Where this network's
    backbone has another number nothing is done, and loading says that the weights do not fit.
    """
    if pruned_from is None or pruned_from != size(model.backbone):
        return
    kept = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    joint = state.get("bottleneck.0.weight")
    if joint is not None and len(joint) == model.feature_dim:
        kept["bottleneck.0.weight"] = joint
    fit(model, kept)
    _tell_width(model)
    model.pruned_from = pruned_from


def fit(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the layers of a whole network the sizes and masks that a pruned network's state has under their names."""
    for name, layer in list(network.named_modules()):
        prefix = f"{name}." if name else ""
        mask = state.get(name + MASK)
        smaller = False
        for leaf, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            saved = mask if mask is not None and leaf == "weight" else state.get(prefix + leaf)
            if saved is None or saved.ndim != tensor.ndim or saved.shape == tensor.shape:
                continue
            if any(now > then for now, then in zip(saved.shape, tensor.shape, strict=True)):
                continue
            empty = torch.zeros(saved.shape, dtype=tensor.dtype, device=tensor.device)
            trained = isinstance(tensor, nn.Parameter)
            setattr(layer, leaf, nn.Parameter(empty, tensor.requires_grad) if trained else empty)
            smaller = True
        if smaller:
            _tell_size(layer)
        if mask is not None:
            hold(layer, mask.clone())


def _tell_size(layer: nn.Module) -> None:
    """A layer says the sizes that its weights have."""
    match layer:
        case _ConvNd():
            first, second = layer.weight.shape[:2]
            if layer.groups == layer.out_channels > 1:  # depthwise
                layer.groups = first
            outer, inner = (second, first) if isinstance(layer, _ConvTransposeNd) else (first, second)
            layer.out_channels, layer.in_channels = outer, inner
            if isinstance(layer, _ConvTransposeNd):
                layer.out_channels *= layer.groups
            else:
                layer.in_channels *= layer.groups
        case nn.Linear():
            layer.out_features, layer.in_features = layer.weight.shape
        case _NormBase():
            layer.num_features = len(layer.weight if layer.running_mean is None else layer.running_mean)
        case nn.LayerNorm():
            layer.normalized_shape = tuple(layer.weight.shape)
        case nn.GroupNorm():
            layer.num_channels = len(layer.weight)
        case nn.PReLU():
            layer.num_parameters = len(layer.weight)


# ---- saving


def packed(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state that holds of each pruned weight one bit a place, and the values that are left."""
    small = dict(state)
    for layer in [key.removesuffix(MASK) for key in state if key.endswith(MASK)]:
        mask, weight = small.pop(layer + MASK), small.pop(layer + ORIGINAL)
        small[layer + SHAPE] = list(mask.shape)
        small[layer + BITS] = torch.from_numpy(np.packbits(mask.cpu().numpy()))
        small[layer + KEPT] = weight.detach()[mask]
    return small


def unpacked(small: Mapping[str, Any]) -> dict[str, Any]:
    """The state that was packed, bit for bit."""
    state = dict(small)
    for layer in [key.removesuffix(SHAPE) for key in small if key.endswith(SHAPE)]:
        shape = tuple(state.pop(layer + SHAPE))
        bits, kept = state.pop(layer + BITS), state.pop(layer + KEPT)
        mask = torch.from_numpy(np.unpackbits(bits.numpy(), count=math.prod(shape)).astype(bool).reshape(shape))
        state[layer + MASK] = mask
        state[layer + ORIGINAL] = torch.zeros(shape, dtype=kept.dtype).masked_scatter(mask, kept)
    return state
