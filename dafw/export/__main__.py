"""`python -m dafw.export RUN [format=onnx|torch] [int8=true] [out=FOLDER]`: a finished run as one file.

The file takes raw inputs and gives logits: preprocessing, a frozen backbone and all that `predict` of the method does
are inside, class names, what an input is and whose weights these are stand in its metadata and in `model.json` beside
it. It is run before it is kept: what does not answer as the run does is not kept. `format=onnx` needs onnxruntime to
be asked, `format=torch` (a .pt2 of torch.export) torch alone; neither needs dafw. `int8=true` adds an ONNX file of
weights in 8 bits (dynamic quantisation), whose accuracy is measured, not promised.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dafw.answering import Finished, finished
from dafw.console import MISSING, Console, number
from dafw.cost import file_size, print_table, short
from dafw.errors import UsageError
from dafw.export.checks import Checked, Examples, answer_of, check, examples_of
from dafw.export.description import description, files_there, store_tokeniser
from dafw.export.files import FILES, explained, kept_together, needed, quantise, traced, write_onnx, write_torch
from dafw.setting import Setting

TOLERANCE = 1e-4  # of a probability


class Asked(NamedTuple):
    """What the command line says."""

    run: Path
    format: str
    int8: bool
    out: Path


def asked(arguments: Sequence[str] | None) -> Asked:
    """Raises UsageError for a word that is none of these."""
    usage = "expected python -m dafw.export RUN [format=onnx|torch] [int8=true] [out=FOLDER]"
    parser = argparse.ArgumentParser(
        prog="python -m dafw.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="the folder of a finished run")
    parser.add_argument("words", nargs="*", metavar="key=value", help=f"format={'|'.join(FILES)} int8=true out=FOLDER")
    given = parser.parse_args(arguments)
    if given.run is None or given.run.partition("=")[0] in ("format", "int8", "out"):
        raise UsageError(f"no run given; {usage}")
    values = {"format": "onnx", "int8": "false", "out": str(Path(given.run) / "export")}
    for word in given.words:
        key, _, value = word.partition("=")
        if key not in values or not value:
            raise UsageError(f"unknown word {word!r}; {usage}")
        values[key] = value
    if values["format"] not in FILES:
        raise UsageError(f"format={values['format']}: expected one of {', '.join(f'format={name}' for name in FILES)}")
    if values["int8"] not in ("true", "false"):
        raise UsageError(f"int8={values['int8']}: expected int8=true or int8=false")
    int8 = values["int8"] == "true"
    if int8 and values["format"] != "onnx":
        raise UsageError(f"int8=true: format={values['format']} has no weights of 8 bits; expected format=onnx")
    return Asked(Path(given.run), values["format"], int8, Path(values["out"]))


def export(run: Finished, kind: str, int8: bool, out: Path) -> tuple[list[Checked], Examples]:
    """Write and check the files of one format; nothing is kept of files that do not answer as the run does.

    Raises UsageError where a package is missing, the network cannot be written so, or its answers differ.
    """
    needed(kind)
    network = run.answering().made_plain()
    examples = examples_of(run)
    described = description(run)
    with kept_together(out) as folder:
        path = folder / FILES[kind]
        with explained(run, kind):
            program = traced(network, run.example(2))
            (write_onnx if kind == "onnx" else write_torch)(program, path, described)
        checked = [check(path, answer_of(path), examples)]
        refuse_if_other(checked[0], run)
        if int8:
            small = folder / "model.int8.onnx"
            with explained(run, "onnx int8=true"):
                quantise(path, small)
            checked.append(check(small, answer_of(small), examples))
        store_tokeniser(run, folder)
        files = {**files_there(out, described), **{c.name: {**c._asdict(), "checked": examples.note} for c in checked}}
        (folder / "model.json").write_text(json.dumps({**described, "files": files}, indent=1, ensure_ascii=False))
    return checked, examples


def refuse_if_other(checked: Checked, run: Finished) -> None:
    """UsageError where a file does not answer as the run does; not a number is a difference too."""
    if not checked.difference <= TOLERANCE:
        raise UsageError(
            f"{run.record.folder}: {checked.name} answers otherwise than the run, by {checked.difference:.2g} of a "
            f"probability, expected at most {TOLERANCE:g}; nothing was kept: type another format="
        )


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console()
    try:
        given = asked(arguments)
        run = finished(given.run)
        checked, examples = export(run, given.format, given.int8, given.out)
    except UsageError as error:
        console.error(str(error))
        return 2
    before = (run.record.result["target"] or {}).get("accuracy")
    rows = [["the run", number(before), MISSING, short(file_size(run.answering()))]]
    rows += [[c.name, number(c.accuracy), f"{c.difference:.1e}", short(c.bytes)] for c in checked]
    print_table(["file", "target accuracy", "largest difference of a probability", "bytes"], rows)
    console.note(examples.note)
    if run.method.setting is Setting.TEST_TIME:
        console.note(
            f"{run.record.result['method']} answered its stream as it changed; a file answers as the last state"
        )
    console.note(f"export: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
