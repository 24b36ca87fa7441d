"""Any model that timm knows, as a backbone: `backbone=resnet50`, `backbone=vit_tiny_patch16_224.augreg_in21k`.

Nothing is registered here: `timm_backbone(name)` serves a name that no registered backbone has.
timm is imported where it is used, because it takes as long to import as torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.errors import UsageError
from dafw.extras import reachable
from dafw.registry import nearest

# DANN in TLlib (Jiang et al. 2020): bottleneck 256, SGD .01, weight decay 1e-3, 32 + 32 examples an iteration
TLLIB_RECIPE = {
    "backbone.feature_dim": 256,
    "train.optimizer": "sgd",
    "train.lr": 0.01,
    "train.weight_decay": 1e-3,
    "train.steps": 1000,
    "train.batch_size": 32,
}

STEM_POOLS = ("maxpool", "stem.pool", "pool0", "features.pool0", "features.conv1_pool")  # in timm's module names


class TimmBackbone(Backbone):
    """A timm network without its classifier, under the mean and standard deviation it was made for.

    Raises UsageError where the network does not turn images of this shape into one vector each.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], name: str):
        config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
        super().__init__(config["mean"], config["std"])
        self.network = network
        self.features = self._width(shape, name)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(self.normalise(inputs))  # type: ignore[no-any-return]

    @torch.no_grad()
    def _width(self, shape: tuple[int, ...], name: str) -> int:
        """The length of the feature vector, by trying: timm's attributes name it for some families only."""
        self.eval()
        try:
            features = self(torch.zeros(1, *shape))
        except Exception as error:  # each family objects to a size in its own way; the reason is passed on
            raise UsageError(
                f"backbone={name} does not run on images of {shape[-2]}x{shape[-1]} pixels ({reason(error)}); "
                "type another image_size, or backbone.small_images=true if they are too small for it"
            ) from error
        self.train()
        if features.ndim != 2:
            raise UsageError(
                f"backbone={name} gives features of shape {tuple(features.shape)}; "
                "expected one vector an image, as classification models give"
            )
        return features.shape[1]


def timm_names() -> list[str]:
    """The names of all architectures that timm knows."""
    import timm

    return list(timm.list_models())


def is_timm_name(name: str) -> bool:
    """Whether timm knows this architecture, and the tag of its weights where one follows after a dot."""
    import timm

    return timm.is_model(name) and ("." not in name or name in timm.list_pretrained(name))


def timm_backbone(name: str) -> Callable[..., Backbone]:
    """A function like a registered backbone's, for a name that timm knows; UsageError with the nearest names if not."""
    import timm

    if not is_timm_name(name):
        architecture = name.partition(".")[0]
        known = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else timm_names()
        raise UsageError(f"timm has no model {name!r}; {nearest(name, known)}")
    config: Any = timm.models.get_pretrained_cfg(name)

    def build(
        shape: tuple[int, ...], pretrained: bool, *, small_images: bool = False, path: Path | None = None
    ) -> Backbone:
        """A model of timm.

        small_images: the stem keeps the resolution of small images. Convolutional networks: the first convolution
            moves by one pixel and the pooling of the stem is left out; pretrained weights stay. Vision transformers:
            patches of 4 pixels (of 1 where they were 4), to which timm resamples pretrained weights.
        path: the file of pretrained weights, in timm's names of its parts; without one, timm downloads them.
        """
        arguments = {"img_size": shape[-1]} if config.fixed_input_size else {}
        if small_images and config.fixed_input_size:
            arguments["patch_size"] = small_patch(create(name, **arguments), name)
        network = download(name, **arguments) if pretrained and path is None else create(name, **arguments)
        if pretrained and path is not None:
            load_by_name(network, read_weights(path), path, name)
        if small_images and not config.fixed_input_size:
            keep_resolution(network, name)
        check_patches(network, shape[-1], name)
        return TimmBackbone(network, shape, name)

    build.__name__ = build.__qualname__ = name
    build.registered_name = name  # type: ignore[attr-defined]
    build.recipe = TLLIB_RECIPE  # type: ignore[attr-defined]
    build.input_size = config.input_size[-1]  # type: ignore[attr-defined]
    build.channels = 3  # type: ignore[attr-defined]
    return build


def create(name: str, **arguments: Any) -> nn.Module:
    """timm's model without classifier; UsageError where it cannot be built with these arguments."""
    import timm

    try:
        return timm.create_model(name, num_classes=0, **arguments)
    except OSError:  # a download; its caller knows what to say
        raise
    except Exception as error:  # each family objects in its own way; the reason is passed on
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise UsageError(
            f"timm cannot build {name} with {given or 'its own defaults'} ({reason(error)}); "
            "type another image_size, or a backbone that takes any size, such as resnet50"
        ) from error


def download(name: str, **arguments: Any) -> nn.Module:
    """timm's model with its published weights, downloaded on first use; UsageError where they cannot be had."""
    import timm

    config: Any = timm.models.get_pretrained_cfg(name)
    advice = "type backbone=published, or give a file of weights by backbone.path=FILE"
    if not config.has_weights:
        raise UsageError(f"timm has no published weights of {name}; {advice}")
    if not hub_is_reachable(config):
        raise UsageError(f"the published weights of {name} cannot be downloaded (no network); {advice}")
    try:
        return create(name, pretrained=True, **arguments)
    except OSError as error:
        raise UsageError(f"the published weights of {name} cannot be downloaded ({reason(error)}); {advice}") from error


def hub_is_reachable(config: Any) -> bool:
    """Whether timm can get the weights, asked first because without a network its client tries for a minute."""
    import huggingface_hub

    if not config.hf_hub_id:
        return True
    repository = config.hf_hub_id.partition("@")[0]
    for file in (config.hf_hub_filename or "model.safetensors", "pytorch_model.bin"):
        if isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str):
            return True
    return reachable(huggingface_hub.constants.ENDPOINT)


def small_patch(network: nn.Module, name: str) -> int:
    """The side of a patch that leaves a vision transformer enough of a small image, in pixels."""
    from timm.layers import PatchEmbed

    embed = getattr(network, "patch_embed", None)
    if not isinstance(embed, PatchEmbed):
        raise unknown_stem(name)
    return 4 if embed.patch_size[0] > 4 else 1


def check_patches(network: nn.Module, size: int, name: str) -> None:
    """UsageError where patches do not fill the image: timm would leave its right and lower border out unsaid."""
    from timm.layers import PatchEmbed

    embed = getattr(network, "patch_embed", None)
    if not isinstance(embed, PatchEmbed) or embed.dynamic_img_pad or size % embed.patch_size[0] == 0:
        return
    patch = embed.patch_size[0]
    fitting = [f"image_size={count * patch}" for count in (size // patch, size // patch + 1) if count]
    fitting += ["backbone.small_images=true"] if patch > 4 else []
    raise UsageError(
        f"{name} cuts images into patches of {patch} pixels, which do not fill {size}x{size}; "
        f"type {' or '.join(fitting)}"
    )


def keep_resolution(network: nn.Module, name: str) -> None:
    """The first convolution moves by one pixel, and the first pooling is left out; no weight changes."""
    first = network.pretrained_cfg["first_conv"] or ()  # type: ignore[index]
    adapted = False
    for part in (first,) if isinstance(first, str) else first:
        convolution = network.get_submodule(part)
        if isinstance(convolution, nn.Conv2d) and convolution.stride != (1, 1):
            if convolution.stride == convolution.kernel_size:  # patches without padding would lose the border
                convolution.padding = tuple(side // 2 for side in convolution.kernel_size)
            convolution.stride = (1, 1)
            adapted = True
    pool = stem_pool(network)
    if pool is not None:
        network.set_submodule(pool, nn.Identity())
    if not adapted and pool is None:
        raise unknown_stem(name)


def stem_pool(network: nn.Module) -> str | None:
    """The name of the pooling in a convolutional stem; in a plain stack of layers (VGG), of the first one."""
    modules = dict(network.named_modules())
    features = modules.get("features")
    plain = features.named_children() if isinstance(features, nn.Sequential) else ()
    plain_pools = tuple(f"features.{part}" for part, layer in plain if isinstance(layer, nn.MaxPool2d))
    for part in STEM_POOLS + plain_pools:
        if part in modules and getattr(modules[part], "stride", 2) != 1:
            return part
    return None


def unknown_stem(name: str) -> UsageError:
    return UsageError(
        f"backbone.small_images=true knows no way to adapt the stem of {name}; expected a network such as resnet18, "
        "vgg11_bn, efficientnet_b0, convnext_atto, vit_tiny_patch16_224; or type backbone.small_images=false"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a .safetensors file, or of a .pth or .pt file (nothing but tensors is unpickled).

    Raises UsageError where there is no such file or it holds something else.
    """
    file = path.expanduser()
    wanted = "expected a file of named tensors (.safetensors, or .pth or .pt as torch.save writes a state_dict)"
    if not file.is_file():
        raise UsageError(f"backbone.path: no file {path}; {wanted}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of something else can fail to load in any way
        raise UsageError(
            f"backbone.path: {path} cannot be read as weights ({type(error).__name__}); {wanted}"
        ) from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"backbone.path: {path} holds no named tensors but {type(state).__name__}; {wanted}")
    return dict(state)


def load_by_name(network: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> None:
    """Load weights into timm's model of this name: all of them, and none but the classifier's left over.

    timm's own conversion of the family is applied, which resamples position embeddings and patches to the size at
    hand. Raises UsageError naming the first tensor that does not fit.
    """
    import timm

    family = inspect.getmodule(timm.models.model_entrypoint(name))
    convert = getattr(family, "checkpoint_filter_fn", None)
    classifier = network.pretrained_cfg["classifier"] or ()  # type: ignore[index]
    heads = {part.partition(".")[0] for part in ((classifier,) if isinstance(classifier, str) else classifier)}
    try:
        missing, unexpected = network.load_state_dict(convert(state, network) if convert else state, strict=False)
    except Exception as error:  # a shape that differs, or names that the family's conversion cannot read
        raise UsageError(f"backbone.path: {path} does not fit {name} ({reason(error)})") from error
    wrong = [f"it lacks {part}" for part in missing]
    wrong += [f"it has {part}" for part in unexpected if part.partition(".")[0] not in heads]
    if wrong:
        raise UsageError(
            f"backbone.path: {path} does not fit {name}: {wrong[0]} (and {len(wrong) - 1} more differences); "
            f"expected the weights of timm's {name}"
        )


def reason(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
