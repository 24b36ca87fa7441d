"""timm's models as backbones: each family runs, small images keep their resolution, and files are checked."""

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dafw.backbones.timm_model import TimmBackbone, is_timm_name, read_weights, timm_backbone, timm_names
from dafw.errors import UsageError
from dafw.registry import options

timm = pytest.importorskip("timm")

FAMILIES = {  # the side of the last map on 32 x 32 images; tokens of a transformer as a square
    "vgg11_bn": 2,
    "resnet18": 4,
    "efficientnet_b0": 2,
    "vit_tiny_patch16_224": 8,
    "convnext_atto": 4,
}


def built(name: str, size: int = 32, pretrained: bool = False, **given: Any) -> Any:
    return timm_backbone(name)((3, size, size), pretrained, **given)


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def side_of(maps: Tensor) -> int:
    """The side of a map (1, C, H, W), or of the square of tokens (1, 1 + H * W, C)."""
    return maps.shape[-1] if maps.ndim == 4 else int((maps.shape[1] - 1) ** 0.5)


def first_convolution(name: str) -> str:
    return str(timm.models.get_pretrained_cfg(name).first_conv)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_trains_and_keeps_the_resolution_of_small_images(name: str) -> None:
    torch.manual_seed(0)
    backbone = built(name, small_images=True)
    inputs = torch.rand(2, 3, 32, 32)
    features = backbone(inputs)
    assert features.shape == (2, backbone.features)
    (features * torch.randn_like(features)).sum().backward()
    for part, parameter in backbone.named_parameters():
        assert torch.isfinite(parameter.grad).all(), part
    assert backbone.network.get_submodule(first_convolution(name)).weight.grad.abs().max() > 0

    with torch.no_grad():
        small = backbone.eval().network.forward_features(inputs[:1])
    with (
        torch.no_grad(),
        torch.device("meta" if name == "vgg11_bn" else "cpu"),
    ):  # a shape without the cost of 128 M weights
        arguments = {"img_size": 32} if name.startswith("vit") else {}
        network = timm.create_model(name, num_classes=0, **arguments).eval()
        plain = network.forward_features(torch.zeros(1, 3, 32, 32))
    assert side_of(small) == FAMILIES[name]
    assert side_of(plain) == (2 if name.startswith("vit") else 1)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
@torch.no_grad()
def test_a_plain_backbone_is_timms_network_on_normalised_images(name: str) -> None:
    torch.manual_seed(0)
    backbone = built(name).eval()
    torch.manual_seed(0)
    arguments = {"img_size": 32} if name == "test_vit" else {}
    network = timm.create_model(name, num_classes=0, **arguments).eval()
    mean, deviation = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    grey, varied = torch.full((1, 3, 32, 32), 0.8), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(backbone(grey), network((grey - mean) / deviation))
    torch.testing.assert_close(backbone(varied), network((varied - mean) / deviation))
    twice = ((varied - mean) / deviation - mean) / deviation
    assert not torch.allclose(backbone(varied), network(varied), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(backbone(varied), network(twice), rtol=1e-3, atol=1e-4)


def test_a_new_backbone_is_in_training_mode_and_untouched_by_its_trial() -> None:
    torch.manual_seed(0)
    backbone = built("test_resnet")
    after = torch.rand(1)
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0)
    assert torch.equal(after, torch.rand(1))
    assert all(part.training for part in backbone.modules())
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in backbone.network.state_dict().items())


def test_the_stem_of_a_resnet_is_adapted_and_its_weights_stay(tmp_path: Path) -> None:
    torch.manual_seed(1)
    published = timm.create_model("test_resnet")  # with its classifier, as published files have it
    torch.save(published.state_dict(), file := tmp_path / "weights.pth")
    plain = built("test_resnet", pretrained=True, path=file).network
    small = built("test_resnet", pretrained=True, small_images=True, path=file).network
    drawn = built("test_resnet", small_images=True, path=file).network
    for network in (plain, small):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, published.state_dict()[name]), name
    first = first_convolution("test_resnet")
    assert not torch.equal(drawn.state_dict()[f"{first}.weight"], published.state_dict()[f"{first}.weight"])
    assert plain.get_submodule(first).stride == (2, 2)
    assert small.get_submodule(first).stride == (1, 1)
    assert isinstance(plain.maxpool, nn.MaxPool2d)
    assert isinstance(small.maxpool, nn.Identity)


def test_the_weights_of_a_vision_transformer_are_resampled(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from timm.layers import resample_abs_pos_embed, resample_patch_embed

    torch.manual_seed(1)
    published = timm.create_model("test_vit")
    save_file(published.state_dict(), tmp_path / "weights.safetensors")
    backbone = built("test_vit", pretrained=True, small_images=True, path=tmp_path / "weights.safetensors")
    loaded, given = backbone.network.state_dict(), published.state_dict()
    prefix = published.num_prefix_tokens
    assert loaded["pos_embed"].shape[1] == 8 * 8 + prefix
    assert torch.equal(
        loaded["pos_embed"], resample_abs_pos_embed(given["pos_embed"], [8, 8], num_prefix_tokens=prefix)
    )
    assert torch.equal(
        loaded["patch_embed.proj.weight"], resample_patch_embed(given["patch_embed.proj.weight"], [4, 4])
    )
    assert torch.equal(loaded["blocks.0.attn.qkv.weight"], given["blocks.0.attn.qkv.weight"])


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    state = timm.create_model("test_resnet").state_dict()

    def refused(weights: dict[str, Tensor]) -> str:
        torch.save(weights, file)
        with pytest.raises(UsageError) as error:
            built("test_resnet", pretrained=True, path=file)
        assert "does not fit test_resnet" in one_line(error)
        return str(error.value)

    assert "it lacks layer1.0.conv1.weight" in refused({k: v for k, v in state.items() if k != "layer1.0.conv1.weight"})
    assert "it has layer9.weight" in refused({**state, "layer9.weight": torch.zeros(1)})
    assert "size mismatch for layer1.0.conv1.weight" in refused({**state, "layer1.0.conv1.weight": torch.zeros(1)})
    refused(timm.create_model("test_efficientnet").state_dict())


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.file,))


def test_files_that_are_not_weights_are_refused_and_never_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"a": Trap(sprung)}, tmp_path / "trap.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"epoch": 3, "model": {}}, tmp_path / "checkpoint.pth")
    (tmp_path / "text.pth").write_text("these are no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("these are no weights")
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(UsageError, match="expected a file of named tensors") as error:
            read_weights(file)
        assert str(file) in one_line(error)
    assert not sprung.exists()
    with pytest.raises(UsageError, match=r"backbone\.path: no file .*absent\.pth"):
        built("test_resnet", pretrained=True, path=tmp_path / "absent.pth")


def unheard_of(*_: Any) -> None:
    """The cache's answer to a file that it does not hold."""


def test_without_a_network_the_download_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[str] = []

    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", unheard_of)
    monkeypatch.setattr(timm, "create_model", lambda name, **_: created.append(name))
    with pytest.raises(UsageError) as error:
        built("resnet18", pretrained=True)
    message = one_line(error)
    assert "published weights of resnet18 cannot be downloaded (no network)" in message
    assert "type backbone=published, or give a file of weights by backbone.path=FILE" in message
    assert created == []


def test_a_download_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str, **arguments: Any) -> None:
        assert arguments["pretrained"]
        raise ConnectionResetError("the connection\nwas reset")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "file")
    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(UsageError, match=r"cannot be downloaded \(the connection was reset\); type") as error:
        built("resnet18", pretrained=True)
    one_line(error)


def test_a_model_without_published_weights_says_so() -> None:
    name = next(n for n in timm_names() if not timm.models.get_pretrained_cfg(n).has_weights)
    with pytest.raises(UsageError, match=f"timm has no published weights of {name}; type"):
        built(name, pretrained=True)


def test_names() -> None:
    assert "resnet50" in timm_names()
    assert is_timm_name("resnet50")
    assert is_timm_name("resnet50.a1_in1k")
    assert not is_timm_name("resnet50.no_such_tag")
    assert not is_timm_name("convnet")
    with pytest.raises(UsageError, match=r"timm has no model 'resnett18'; did you mean .*resnet18") as error:
        timm_backbone("resnett18")
    one_line(error)
    with pytest.raises(UsageError, match=r"did you mean .*resnet18\.a1_in1k") as error:
        timm_backbone("resnet18.a1_in")
    one_line(error)


@pytest.mark.parametrize("name", ["dla34", "levit_128s", "mixer_s32_224"])
def test_a_stem_of_no_known_kind_is_left_alone(name: str) -> None:
    with pytest.raises(
        UsageError, match=f"small_images=true knows no way to adapt the stem of {name}; .*=false"
    ) as error:
        built(name, small_images=True)
    one_line(error)


def test_images_that_a_model_cannot_take_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"inception_v3 does not run on images of 32x32 pixels .*type another image_size"
    ) as e:
        built("inception_v3")
    one_line(e)
    wanted = (
        "patches of 16 pixels, which do not fill 28x28; type image_size=16 or image_size=32 or backbone.small_images"
    )
    with pytest.raises(UsageError, match=wanted):
        built("test_vit", 28)
    with pytest.raises(
        UsageError, match="patches of 4 pixels, which do not fill 30x30; type image_size=28 or image_size=32"
    ):
        built("test_vit", 30, small_images=True)
    assert isinstance(built("test_vit", 28, small_images=True), TimmBackbone)


def test_the_function_looks_like_a_registered_one() -> None:
    build: Any = timm_backbone("inception_v3")
    found = {option.name: (option.type, option.default) for option in options(build)}
    assert found == {"small_images": (bool, False), "path": (Path | None, None)}
    assert (build.registered_name, build.input_size, build.channels) == ("inception_v3", 299, 3)
    assert build.recipe == {
        "backbone.feature_dim": 256,
        "train.optimizer": "sgd",
        "train.lr": 0.01,
        "train.weight_decay": 1e-3,
        "train.steps": 1000,
        "train.batch_size": 32,
    }


def test_listing_backbones_does_not_import_timm() -> None:
    program = (
        "import sys; from dafw.registry import BACKBONES; names = BACKBONES.names(); "
        "assert {'conv9', 'convnet', 'published'} <= set(names) and 'timm_model' not in names, names; "
        "assert 'timm' not in sys.modules and 'huggingface_hub' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
