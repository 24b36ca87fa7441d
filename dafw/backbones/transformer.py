"""Any Hugging Face transformer as a backbone of texts: `backbone=transformer backbone.model=distilroberta-base`.

Weights are read from safetensors, never from a pickle, and no code comes with a model. transformers is imported where
it is used, because it takes as long to import as torch.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dafw.backbone import Backbone
from dafw.backbones.timm_model import reason
from dafw.cache import remembered
from dafw.errors import UsageError
from dafw.extras import imported
from dafw.registry import register_backbone

# AdamW; what was pretrained moves at a tenth of the rate, 5e-5, the largest that Devlin et al. 2019 search for BERT
RECIPE = {
    "train.optimizer": "adamw",
    "train.lr": 5e-4,
    "train.weight_decay": 1e-2,
    "train.batch_size": 32,
    "train.steps": 300,
}
# Chosen by source validation, source_only on vader/amazon, 30 % held out, mean accuracy of six splits for rates of
# 1e-4, 2e-4, 3e-4, 5e-4 and 1e-3: .797 .803 .809 .805 .800
FROZEN_RECIPE = {"train.lr": 3e-4}
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")  # what is downloaded: neither pickles nor code
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")

_tokenisers: dict[Any, Any] = {}


class Pooling(Enum):
    """How the vectors of a text's tokens become one: their mean, or that of the first token, [CLS] in BERT."""

    mean = "mean"
    cls = "cls"


class TransformerBackbone(Backbone):
    """Tokens int64 (B, 2, L), ids and mask, to the pooled last hidden states (B, features).

    layers: how many of the top layers are trained; the rest stands still, in eval mode. None: all are trained
    Raises UsageError where the network does not turn texts of this shape (2, L) into a vector for each token.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], pooling: Pooling, layers: int | None, name: str):
        nn.Module.__init__(self)  # no mean and deviation of pixels
        self.network = network
        self.pooling = pooling
        if getattr(network, "pooler", None) is not None:
            network.pooler = None  # type: ignore[assignment]  # a layer for BERT's own pretraining task, which no pooling here reads
        self._trained = None if layers is None else top_layers(network, layers, name)
        if self._trained is not None:
            network.requires_grad_(False)
            for layer in self._trained:
                layer.requires_grad_(True)
        self.features = self._width(shape, name)

    def forward(self, inputs: Tensor) -> Tensor:
        ids, mask = shortened(inputs).unbind(1)
        states = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling is Pooling.cls:
            return states[:, 0]  # type: ignore[no-any-return]
        weights = mask.unsqueeze(2).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp_min(1)  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> TransformerBackbone:
        """Dropout is for the layers that are trained."""
        super().train(mode)
        if self._trained is not None:
            self.network.eval()
            for layer in self._trained:
                layer.train(mode)
        return self

    def extra_repr(self) -> str:
        """The pooling decides the features as the layers do, and so is part of what is hashed of a frozen network."""
        return f"pooling={self.pooling.name}"

    @torch.no_grad()
    def _width(self, shape: tuple[int, ...], name: str) -> int:
        """The length of the vector, by trying the longest text: families differ in what their configs call it."""
        self.eval()
        trial = torch.stack([torch.zeros(1, shape[1]), torch.ones(1, shape[1])], dim=1).long()
        try:
            features = self(trial)
        except Exception as error:  # each family objects in its own way; the reason is passed on
            raise UsageError(
                f"backbone={name} does not run on texts of {shape[1]} tokens ({reason(error)}); expected an encoder "
                "of texts such as distilroberta-base, and no more tokens than it takes, as in backbone.length=128"
            ) from error
        self.train()
        return features.shape[1]  # type: ignore[no-any-return]


@register_backbone
def transformer(
    shape: tuple[int, ...],
    pretrained: bool,
    *,
    model: str,
    pooling: Pooling = Pooling.mean,
    layers: int | None = None,
    length: int = 128,  # noqa: ARG001 (what `tokens` needs)
) -> Backbone:
    """A transformer of Hugging Face: its last hidden states, pooled.

    model: its name there, as sentence-transformers/all-mpnet-base-v2, or a local folder as save_pretrained leaves it
    pooling: the mean over a text's tokens, or the vector of the first one
    layers: how many of the top layers are trained; null: all
    length: the tokens of a text that are read, its border tokens included; at most what the model takes
    """
    return built(model, shape, pretrained, pooling, layers, "transformer")


def tokens(texts: Sequence[str], *, model: str, length: int, **_: Any) -> tuple[Tensor, int]:
    """Ids and mask int64 (N, 2, length) by the model's tokeniser, and how many texts had more tokens than that.

    The length is at most what the model takes, and no shorter where all texts are: so a text's features are found
    again in the cache whatever it is paired with, and the network passes over what no text of a batch reaches.
    UsageError for a model without a tokeniser, or a length that leaves no room for a word.
    """
    with quiet():
        tokeniser = remembered(_tokenisers, model, lambda: tokeniser_of(folder_of(model), model))
        least = 1 + tokeniser.num_special_tokens_to_add()
        if length < least:
            raise UsageError(f"backbone.length={length}: expected {least} tokens or more, as in backbone.length=128")
        most = min(length, tokeniser.model_max_length)
        found = tokeniser(list(texts), truncation=True, max_length=most, padding=False).encodings
    inputs = torch.zeros((len(found), 2, most), dtype=torch.long)
    for row, text in zip(inputs, found, strict=True):
        row[0, : len(text.ids)] = torch.tensor(text.ids)
        row[1, : len(text.ids)] = 1
    return inputs, sum(bool(text.overflowing) for text in found)


def files(*, model: str, **_: Any) -> list[Path]:
    """The files that a model's network and its tokens are read from; while they stay as they are, both are known."""
    folder = folder_of(model)
    return sorted(file for pattern in FILES for file in folder.glob(pattern))


def save_tokeniser(folder: Path, *, model: str, **_: Any) -> None:
    """Leave the files of the model's tokeniser in a folder, as transformers and tokenizers read them."""
    with quiet():
        tokeniser_of(folder_of(model), model).save_pretrained(folder)


transformer.tokens = tokens
transformer.files = files
transformer.save_tokeniser = save_tokeniser
transformer.modality = "text"
transformer.published = True
transformer.training_options = ("layers",)
transformer.recipe = RECIPE
transformer.frozen_recipe = FROZEN_RECIPE


def built(
    model: str, shape: tuple[int, ...], pretrained: bool, pooling: Pooling, layers: int | None, name: str
) -> Backbone:
    """The backbone of a model, with its published weights or with random ones."""
    folder = folder_of(model)
    with quiet() as transformers:
        network = loaded(transformers, folder, model) if pretrained else drawn(transformers, folder, model)
        return TransformerBackbone(network, shape, pooling, layers, name)


def loaded(transformers: Any, folder: Path, model: str) -> nn.Module:
    """The network with the weights in its folder; UsageError where there are none, or not all."""
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        has = f"holds its weights as a pickle ({pickles[0]}), which is not opened" if pickles else "holds no weights"
        raise UsageError(
            f"backbone.model={model} {has}; expected model.safetensors, as save_pretrained of transformers writes it"
        )
    try:
        network, told = transformers.AutoModel.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:  # each family objects in its own way; the reason is passed on
        raise unusable(model, error) from error
    missing = sorted(name for name in told["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise UsageError(
            f"backbone.model={model}: its weights lack {missing[0]} and {len(missing) - 1} more; "
            "expected those of the architecture in its config.json"
        )
    return network  # type: ignore[no-any-return]


def drawn(transformers: Any, folder: Path, model: str) -> nn.Module:
    """The same architecture with random weights, by torch's seed."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        return transformers.AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-any-return]
    except Exception as error:  # each family objects in its own way; the reason is passed on
        raise unusable(model, error) from error


def tokeniser_of(folder: Path, model: str) -> Any:
    """The fast tokeniser of a model, which cuts texts at their end; UsageError where it has none."""
    transformers = imported("transformers", "text", "backbone=transformer")
    try:
        tokeniser = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each family objects in its own way; the reason is passed on
        raise unusable(model, error) from error
    if not tokeniser.is_fast or len(tokeniser) <= len(tokeniser.all_special_tokens):  # without files it is an empty one
        raise UsageError(
            f"backbone.model={model} has no fast tokeniser; expected tokenizer.json beside its config.json, "
            "as save_pretrained of a transformers tokenizer writes it"
        )
    tokeniser.truncation_side = "right"
    takes = getattr(config, "max_position_embeddings", None) or tokeniser.model_max_length
    tokeniser.model_max_length = min(tokeniser.model_max_length, takes)
    return tokeniser


def top_layers(network: nn.Module, count: int, name: str) -> list[nn.Module]:
    """The last layers of the network's longest list of layers; UsageError where it has not so many."""
    lists = [[*part] for part in network.modules() if isinstance(part, nn.ModuleList)]
    stack = max(lists, key=len, default=[])
    if not 1 <= count <= len(stack):
        raise UsageError(
            f"backbone.layers={count}: expected 1 to {len(stack)} layers of backbone={name} that are trained, null for "
            "all, or backbone.frozen=true for none"
        )
    return stack[-count:]


def shortened(inputs: Tensor) -> Tensor:
    """Tokens (B, 2, L) without the columns at the end that no text of the batch reaches.

    An exported graph has one length.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return inputs
    reached = inputs[:, 1].amax(0).nonzero()
    return inputs[:, :, : int(reached[-1]) + 1] if len(reached) else inputs


# ---- files


def folder_of(model: str) -> Path:
    """The folder of a model: the one that is given, or that of a Hugging Face name in Hugging Face's own cache.

    What the cache does not hold is downloaded: `FILES` alone. UsageError where it cannot be.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _snapshot(model)
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"backbone.model={model}: {folder} has no config.json; expected a folder as save_pretrained of "
            "transformers leaves it"
        )
    return folder


def _snapshot(model: str) -> Path:
    hub = imported("huggingface_hub", "text", "backbone=transformer")
    try:
        held = Path(hub.snapshot_download(model, local_files_only=True))
        if any(held.glob("*.safetensors")):
            return held
    except hub.errors.LocalEntryNotFoundError:
        pass  # it was never downloaded
    except hub.errors.HFValidationError as error:
        raise UsageError(
            f"backbone.model={model}: no such folder; expected a local folder or a name of Hugging Face, "
            "as in backbone.model=distilroberta-base"
        ) from error
    print(f"backbone.model={model}: downloading from {hub.constants.ENDPOINT} into {hub.constants.HF_HUB_CACHE}")
    try:
        return Path(hub.snapshot_download(model, allow_patterns=FILES, ignore_patterns="*/*"))
    except OSError as error:
        raise UsageError(
            f"backbone.model={model} cannot be downloaded from {hub.constants.ENDPOINT} ({reason(error)}); "
            "check the name, or give a local folder, or type backbone=minilm"
        ) from error


def unusable(model: str, error: BaseException) -> UsageError:
    return UsageError(
        f"backbone.model={model} cannot be used ({reason(error)}); expected a model that transformers knows without "
        "code of its own, as in backbone.model=distilroberta-base"
    )


@contextmanager
def quiet() -> Iterator[Any]:
    """The module transformers, which within says nothing but errors and starts no threads of its tokenisers."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = imported("transformers", "text", "backbone=transformer")
        logging = transformers.utils.logging
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield transformers
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
            if before is None:
                del os.environ["TOKENIZERS_PARALLELISM"]
            else:
                os.environ["TOKENIZERS_PARALLELISM"] = before
