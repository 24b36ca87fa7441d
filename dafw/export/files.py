"""Writing a network: ONNX, torch.export's .pt2, ONNX with weights of 8 bits; all of it or nothing."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dafw.answering import Finished
from dafw.errors import UsageError
from dafw.extras import imported

FILES = {"onnx": "model.onnx", "torch": "model.pt2"}  # by format


def needed(kind: str) -> None:
    """UsageError, naming the extra, where a package that this format needs is not installed."""
    for package in ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ():
        imported(package, "export", f"format={kind}")


@contextmanager
def explained(run: Finished, kind: str) -> Iterator[None]:
    """What torch or onnxruntime cannot write is one line with their reason."""
    try:
        yield
    except Exception as error:  # each operation that has no counterpart fails in a way of its own
        why = " ".join(str(error).split())[:200] or type(error).__name__
        other = " or ".join(f"format={name}" for name in FILES if not kind.startswith(name))
        raise UsageError(
            f"{run.record.folder}: this network cannot be written as format={kind} ({why}); "
            f"expected layers that torch.export and ONNX know, or type {other}"
        ) from error


@contextmanager
def kept_together(out: Path) -> Iterator[Path]:
    """A folder whose files move to `out` if the block ends well, and are gone if not."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".", dir=out))
    except OSError as error:
        raise UsageError(f"the folder {out} cannot be written ({error.strerror}); set out=FOLDER") from error
    try:
        yield made
        for path in sorted(made.rglob("*")):
            place = out / path.relative_to(made)
            if path.is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, place)
    finally:
        shutil.rmtree(made)
        if not any(out.iterdir()):
            out.rmdir()


def traced(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The network's operations on inputs (B, ...) of any B, without the places of source files on this machine.

    Its weights are laid out anew, each alone and in order, as torch.export.save wants them.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    shapes = ({0: torch.export.Dim("batch")},)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The tensor attributes .*_flat_weights"
        )  # recurrent layers list their weights
        program = torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def write_torch(program: torch.export.ExportedProgram, path: Path, described: Mapping[str, Any]) -> None:
    torch.export.save(program, path, extra_files={"model.json": json.dumps(described, ensure_ascii=False)})


def write_onnx(program: torch.export.ExportedProgram, path: Path, described: Mapping[str, Any]) -> None:
    import onnx

    names: dict[str, Any] = {"input_names": ["inputs"], "output_names": ["logits"]}
    optimiser = logging.getLogger("onnxscript")
    level = optimiser.level
    optimiser.setLevel(logging.ERROR)  # it warns of every constant that it cannot compute beforehand
    try:
        exported: Any = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    finally:
        optimiser.setLevel(level)
    model = exported.model_proto
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]  # of each operation, where in which Python file it stood: half of a small file
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    plain = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in described.items()}
    onnx.helper.set_model_props(model, plain)
    onnx.save(model, path)


def quantise(path: Path, small: Path) -> None:
    """Weights of 8 bits; activations are quantised as they come.

    Unsigned, for onnxruntime has no other convolutions on a CPU. Grouped ones stay as they are: a depthwise layer has
    few weights, and onnxruntime's one scale for all of its channels would ruin it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folded = small.with_name(".folded.onnx")
    quant_pre_process(path, folded, skip_symbolic_shape=True)
    grouped = [
        node.name
        for node in onnx.load(folded).graph.node
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]
    quantize_dynamic(folded, small, per_channel=True, weight_type=QuantType.QUInt8, nodes_to_exclude=grouped)
    folded.unlink()
