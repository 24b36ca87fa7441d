"""Features of a frozen network: computed once, kept on disk, and the network's own."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dafw import augment, frozen
from dafw.backbones.convnet import ConvNet
from dafw.classifier import Classifier
from dafw.domain import Domain, Table
from dafw.frozen import FrozenBackbone, FrozenNetwork, encode, encoded, features_of, fingerprint

WEAK = augment.views("image")["weak"]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAFW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def network(seed: int = 0) -> ConvNet:
    torch.manual_seed(seed)
    made = ConvNet(1, 2)
    for module in made.modules():  # so that eval and train mode differ
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return made


def table(count: int = 150, seed: int = 0) -> Table:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 16, 16), generator=generator).to(torch.uint8)
    return Table(images, torch.arange(count) % 3)


def features(given: Table, by: nn.Module, views: int = 1, flip: bool = False, notes: list[str] | None = None) -> Table:
    noted = [] if notes is None else notes
    return features_of(given, FrozenNetwork.of(by), views, WEAK, flip, noted.append)


# ---- features


def test_features_are_the_networks_in_eval_mode():
    given, by = table(), network().train()
    got = features(given, by)
    reference = copy.deepcopy(by).eval()
    wanted = torch.cat([reference(image[None].float() / 255) for image in given.inputs]).detach()
    assert got.inputs.shape == (150, 1, 32)
    assert got.inputs.dtype == torch.float32
    torch.testing.assert_close(got.inputs[:, 0], wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(got.labels, given.labels)
    statistics = [m.running_mean for m in by.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.equal(a, b.running_mean) for a, b in zip(statistics, norms(reference), strict=True))


def norms(of: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in of.modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_other_views_are_features_of_weak_views_and_the_first_is_clean():
    given, by = table(), network()
    got = features(given, by, views=3)
    assert got.inputs.shape == (150, 3, 32)
    assert torch.equal(got.inputs[:, 0], features(given, by).inputs[:, 0])
    for other in (1, 2):
        moved = (got.inputs[:, other] != got.inputs[:, 0]).any(1)
        assert moved.float().mean() > 0.5  # a weak view may by chance be the image itself
    assert not torch.equal(got.inputs[:, 1], got.inputs[:, 2])


def test_features_are_computed_once_and_found_on_disk(cache_folder):
    given, by, notes = table(), network(), []
    first = features(given, by, notes=notes)
    (file,) = cache_folder.iterdir()
    assert notes == [f"features of 150 examples, computed once: {file}"]
    assert np.array_equal(np.load(file, allow_pickle=False), first.inputs.numpy())

    def made_again() -> nn.Module:
        raise AssertionError("made again")

    again = features_of(given, FrozenNetwork(fingerprint(by), made_again), 1, WEAK, False, notes.append)
    assert torch.equal(again.inputs, first.inputs)
    assert len(notes) == 1


def test_features_are_mapped_into_memory_and_not_read(cache_folder):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("memory maps are listed in /proc on Linux alone")
    held = features(table(), network())
    (file,) = cache_folder.iterdir()
    assert str(file) in maps.read_text()
    before = file.read_bytes()
    held.inputs[0] = 7.0  # torch asks for memory that can be written; the file is not
    assert file.read_bytes() == before


def files(folder: Path) -> int:
    return len([*folder.iterdir()])


def test_other_weights_data_or_views_make_another_file(cache_folder):
    given, by = table(), network()
    features(given, by)
    bit = Table(given.inputs.clone(), given.labels)
    bit.inputs[3, 0, 2, 2] ^= 1
    weight = copy.deepcopy(by)
    with torch.no_grad():
        weight.layers[0].weight[0, 0, 0, 0] += 1e-6
    statistic = copy.deepcopy(by)
    norms(statistic)[0].running_mean[0] += 1e-6
    for number, (data, net, views, flip) in enumerate(
        [(bit, by, 1, False), (given, weight, 1, False), (given, statistic, 1, False), (given, by, 2, False)], start=2
    ):
        features(data, net, views, flip)
        assert files(cache_folder) == number
    features(given, by, 2, flip=True)
    assert files(cache_folder) == 6
    features(given, by, 1, flip=True)  # a single view is never mirrored
    features(given, by)
    assert files(cache_folder) == 6


def test_a_computation_that_fails_leaves_no_file(cache_folder):
    class Dying(ConvNet):
        def forward(self, inputs: Tensor) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features(table(), Dying(1, 2))
    assert files(cache_folder) == 0


# ---- the fingerprint of a network


def test_a_network_is_known_by_every_weight_and_statistic():
    prints = {fingerprint(network(0)), fingerprint(network(1))}
    assert fingerprint(network(0)) in prints
    changed = network(0)
    norms(changed)[-1].running_var.view(-1).view(torch.int32)[0] ^= 1  # one bit
    assert fingerprint(changed) not in prints
    assert len(prints) == 2


def test_networks_of_the_same_weights_that_normalise_otherwise_are_not_the_same():
    one, other = network(), network()
    other.mean = other.mean + 0.1
    images = table().inputs
    assert not torch.equal(encode(one, images), encode(other, images))
    assert fingerprint(one) != fingerprint(other)


def test_networks_of_the_same_weights_and_another_stride_are_not_the_same():
    """As timm's with `small_images=true`, whose stem keeps its weights."""
    one, other = network(), network()
    other.layers[0].stride = (2, 2)
    images = table().inputs
    assert not torch.equal(encode(one, images), encode(other, images))
    assert fingerprint(one) != fingerprint(other)


# ---- the frozen backbone


def body(**changed: Any) -> tuple[FrozenBackbone, ConvNet, Tensor]:
    by, given = network(), table(**changed)
    source = features(given, by).inputs[:, 0]
    return FrozenBackbone(FrozenNetwork.of(by), source, 32, (1, 16, 16)), by, source


def varied(features: Tensor) -> Tensor:
    """Which features (D,) vary by more than a tenth of what they vary by on the root mean square."""
    deviation = features.std(0)
    return deviation > 0.1 * deviation.square().mean().sqrt()


def test_the_sources_features_have_mean_0_and_deviation_1():
    backbone, _, source = body()
    alive = varied(source)
    assert alive.sum() > 10
    out = backbone(source)
    assert out.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(out.std(0)[alive], torch.ones(int(alive.sum())), rtol=1e-4, atol=0)
    assert (out.std(0)[~alive] < 1).all()  # what hardly varies is not scaled up to what does


def test_any_features_are_standardised_by_the_sources_moments():
    backbone, _, source = body()
    other = torch.rand(5, 32)
    alive = varied(source)
    wanted = (other - source.mean(0)) / source.std(0)
    torch.testing.assert_close(backbone(other)[:, alive], wanted[:, alive])


def test_a_feature_that_the_source_does_not_vary_in_is_not_blown_up():
    source = torch.rand(50, 4)
    source[:, 2] = 0.0  # a unit that no source image excites
    backbone = FrozenBackbone(FrozenNetwork.of(network()), source, 4, (1, 16, 16))
    assert backbone(torch.full((1, 4), 0.3))[0, 2].abs() < 100


def test_images_are_answered_as_their_features():
    backbone, _, source = body()
    model = Classifier(backbone, 3, feature_dim=8).eval()
    images = table().inputs
    torch.testing.assert_close(model(images).logits, model(source).logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model(images.float() / 255).logits, model(source).logits, rtol=1e-3, atol=1e-4)


def test_the_network_is_neither_trained_nor_saved():
    backbone, by, _ = body()
    assert [*backbone.parameters()] == []
    assert backbone.state_dict().keys() == {"mean", "std"}
    backbone.train()
    before = copy.deepcopy(by.state_dict())
    out = backbone(table(8).inputs.float() / 255)
    assert not out.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in by.state_dict().items())


def test_the_moments_are_taken_from_a_saved_run():
    backbone, by, source = body()
    empty = FrozenBackbone(FrozenNetwork.of(by), None, 32, (1, 16, 16))
    assert torch.equal(empty(source), source)
    empty.load_state_dict(backbone.state_dict())
    assert torch.equal(empty(source), backbone(source))


def test_an_encoded_domain_is_the_same_in_features():
    images = Domain("made", ("a", "b", "c"), table(20), table(10, 1), flip=True)
    by = network()
    converted = encoded(images, lambda t: features(t, by))
    assert (converted.name, converted.classes, converted.modality, converted.flip) == (
        "made",
        ("a", "b", "c"),
        "features",
        True,
    )
    assert torch.equal(converted.test.inputs, features(images.test, by).inputs)
    assert converted.shape == (1, 32)
    assert frozen.fingerprint(by) == fingerprint(by)
