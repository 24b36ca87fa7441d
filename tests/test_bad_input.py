"""What cannot be done is one clear line on stderr with what to type next, exit code 2, and nothing half-written."""

import json
import pickle
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import whole
from PIL import Image
from whole import Told, command, files_of_runs, made_npz, words

surroundings, type_here = whole.surroundings, whole.type_here  # fixtures

METHOD = '''
import torch.nn.functional as F

from dafw import Method, Setting, register_method


@register_method
class Mine(Method):
    """Cross-entropy of the source (Nobody 2020)."""

    setting = Setting.SOURCE_ONLY

    def losses(self, batch, progress):
        loss = F.cross_entropy(self.model(batch.source.inputs).logits, batch.source.labels)
        return {"classification": loss}
'''
UNTYPED = METHOD.replace(
    "    def losses", "    def __init__(self, model, *, factor=2.0):\n        super()\n\n    def losses"
)
NEEDS_A_NUMBER = UNTYPED.replace("factor=2.0", "factor: float")
TURNS_NAN = METHOD.replace(
    '"classification": loss}', '"classification": loss, "odd": loss * (float("nan") if progress.step >= 3 else 1)}'
)


class Bad(NamedTuple):
    """What is typed, and what the line must say; a {folder} in it is the folder with the files of `bad_files`."""

    words: str
    says: tuple[str, ...]


PAIR = "src=npz src.path={folder}/abc.npz tgt=npz tgt.path={folder}/abc.npz"

BAD = {
    # unknown names, with the nearest
    "method": Bad("method=dan", ("'dan'", "did you mean dann")),
    "variant": Bad("method=dann/fast", ("method=dann/fast", "method=dann")),
    "data set as source": Bad("src=sinth", ("'sinth'", "did you mean synth?")),
    "data set as target": Bad("tgt=digit", ("'digit'", "did you mean digits or spoken_digits?")),
    "one of several sources": Bad("src=synth+digts", ("'digts'", "did you mean digits or spoken_digits?")),
    "domain of a family": Bad("src=office31/webcm", ("office31/webcam",)),
    "backbone": Bad("backbone=resnet5", ("'resnet5'", "resnet50")),
    "key": Bad("seeed=1", ("seeed", "did you mean seed")),
    "key of a method": Bad("method.wieght=1", ("method.wieght", "method.weight")),
    "key of a target": Bad("tgt.label_per_class=1", ("tgt.label_per_class", "tgt.labels_per_class")),
    "key of training": Bad("train.step=5", ("train.step", "train.steps")),
    "added key": Bad("+sed=1", ("sed", "seed")),
    "added key of a method": Bad("+method.wieght=1", ("method.wieght", "method.weight")),
    "added key of training": Bad("+train.step=5", ("train.step", "train.steps")),
    "experiment": Bad("+experiment=mnist-ups", ("'mnist-ups'", "did you mean mnist-usps")),
    "init": Bad("init=sorce", ("init=sorce", "did you mean source?")),
    "option of the command": Bad("--plots", ("--plots",)),
    # a missing or corrupt data folder, and which command gets it
    "no data": Bad("src=office31/amazon", ("datasets/office31", "amazon/<class>/*.jpg", "https://")),
    "no data in data=": Bad("src=office31/amazon data={folder}", ("{folder}/office31", "https://")),
    "no folder of all data": Bad("src=office31/amazon data={folder}/nowhere", ("data={folder}/nowhere", "no such")),
    "no root": Bad("src=mnist src.root={folder}/nowhere", ("root={folder}/nowhere", "no such folder")),
    "data not in root": Bad("src=mnist src.root={folder}/empty", ("{folder}/empty", "train-images", "https://")),
    "folder without root": Bad("src=folder", ("src=folder src.root=DIR",)),
    "folder that is none": Bad("src=folder src.root={folder}/empty", ("{folder}/empty", "train/<class>/*.jpg")),
    "damaged archive": Bad("src=cifar10 src.root={folder}/cifar", ("{folder}/cifar", "damaged", "delete it", "https")),
    "no path": Bad("src=npz", ("src.path is needed", "src.path=")),
    "no file": Bad("src=npz src.path={folder}/nowhere.npz", ("no file {folder}/nowhere.npz", "train_images")),
    "corrupt file": Bad("src=npz src.path={folder}/junk.npz", ("{folder}/junk.npz", "train_images")),
    "pickled file": Bad("src=npz src.path={folder}/pickled.npz", ("{folder}/pickled.npz", "without pickled objects")),
    # no network
    "no network": Bad("src=mnist", ("mnist", "train-images", "download failed", "datasets/mnist", "https://")),
    "no download": Bad("src=mnist src.download=false", ("datasets/mnist", "allow download=true")),
    # images and classes
    "truncated image": Bad("src=folder src.root={folder}/cut", ("{folder}/cut/b/1.png", "truncated", "replace it")),
    "no image": Bad("src=folder src.root={folder}/text", ("{folder}/text/b/notes.txt", "delete it")),
    "empty class folder": Bad("src=folder src.root={folder}/hole", ("{folder}/hole/b is empty", ".jpg")),
    "empty class": Bad(PAIR.replace("abc", "no_b", 1), ("no_b: class 'b' has no train example", "at least one")),
    "one shared class": Bad(PAIR.replace("abc", "ade", 1), ("ade and abc share 1 class", "a, d, e", "a, b, c")),
    # labels and batches
    "more labels than there are": Bad("method=finetune tgt.labels_per_class=97", ("tgt.labels_per_class=96",)),
    "no labels": Bad("method=finetune tgt.labels_per_class=0", ("expected 1 or more", "null for all")),
    "labels that are not seen": Bad("method=dann tgt.labels_per_class=3", ("unsupervised", "transfer")),
    "batch larger than the source": Bad("train.batch_size=4501", ("4500 source training", "train.batch_size=")),
    "batch larger than the target": Bad("train.batch_size=971", ("970 target training", "train.batch_size=")),
    "batch larger than all labels": Bad(
        "method=target_supervised train.batch_size=971", ("970 labelled target", "train.batch_size=")
    ),
    "batch of one": Bad("train.batch_size=1", ("batch norm", "2 or more")),
    "no validation left": Bad("tgt.validation=1", ("validation=1", "tgt.validation=0.1")),
    # settings that do not go together
    "published weights as a source": Bad("src=imagenet method=dann", ("src=imagenet", "dann", "finetune", "src")),
    "published weights as a target": Bad("tgt=imagenet", ("tgt=imagenet", "tgt=cifar10")),
    "weights that are not published": Bad("init=imagenet", ("convnet", "init=random", "backbone=published")),
    "transductive with labels": Bad("method=finetune tgt.transductive=true", ("tgt.transductive=false",)),
    "stream with selection": Bad("method=tent select=oracle", ("select=oracle", "select=last")),
    "transductive with selection": Bad("tgt.transductive=true select=oracle", ("select=last",)),
    # values
    "no steps": Bad("train.steps=0", ("train.steps=0", "expected 1 or more", "train.steps=100")),
    "negative steps": Bad("train.steps=-3", ("train.steps=-3", "expected 1 or more")),
    "negative rate": Bad("train.lr=-0.1", ("train.lr=-0.1", "positive")),
    "no rate": Bad("train.lr=0", ("train.lr=0", "positive")),
    "rate that is no number": Bad("train.lr=nan", ("train.lr=nan", "positive")),
    "negative decay": Bad("train.weight_decay=-1", ("train.weight_decay=-1", "non-negative")),
    "no batch": Bad("train.batch_size=0", ("train.batch_size=0", "expected 1 or more")),
    "no width": Bad("backbone.width=0", ("backbone.width=0", "1 or more")),
    "negative width": Bad("backbone.feature_dim=-1", ("backbone.feature_dim=-1", "0 or more")),
    "dropout": Bad("backbone.dropout=2", ("backbone.dropout=2", "less than 1")),
    "negative split seed": Bad("split_seed=-1", ("split_seed=-1", "0 or more")),
    "regularisation": Bad(
        "method=feature_extraction init=random method.inverse_regularisation=-1", ("method.inverse_regularisation=",)
    ),
    "optimiser": Bad("train.optimizer=adam", ("train.optimizer=adam", "sgd, adamw")),
    "selection": Bad("select=best", ("select=best", "last, oracle", "mano")),
    "nothing to validate on": Bad("select=im tgt.validation=0", ("select=im", "target validation", "select=last")),
    "no source to validate on": Bad("select=dev src.validation=0", ("select=dev", "source validation", "select=last")),
    "validator of a source that is not seen": Bad(
        "method=finetune select=source_accuracy", ("select=source_accuracy", "source validation", "select=last")
    ),
    "corruption": Bad("tgt.corruption=gausian_noise", ("gausian_noise", "did you mean gaussian_noise")),
    "severity": Bad("tgt.corruption=contrast tgt.severity=6", ("tgt.severity=6", "from 1 to 5", "tgt.severity=3")),
    "severity of nothing": Bad("tgt.severity=3", ("tgt.severity=3", "tgt.corruption=gaussian_noise", "jpeg")),
    "severity in words": Bad(
        "tgt.corruption=contrast tgt.severity=high",
        ("tgt.severity=high", "expected a whole number or null", "as in tgt.severity=3"),
    ),
    "rotation": Bad("tgt.rotation=nan", ("tgt.rotation=nan", "degrees", "tgt.rotation=30")),
    "rotation in words": Bad("tgt.rotation=left", ("tgt.rotation=left", "expected a number", "as in tgt.rotation=0.0")),
    "label shift": Bad("tgt.label_shift=-1", ("tgt.label_shift=-1", "more than 0", "tgt.label_shift=1")),
    "no fraction": Bad("tgt.fraction=0", ("tgt.fraction=0", "more than 0", "tgt.fraction=0.1")),
    "fraction that loses a class": Bad("tgt.fraction=0.005", ("tgt.fraction=0.005", "class", "expected tgt.fraction=")),
    "corruption of the source": Bad("src.corruption=contrast", ("src.corruption", "tgt.corruption")),
    "references": Bad("references=some", ("references=some", "true, all, false")),
    "device": Bad("device=gpu", ("device=gpu", "auto, cpu, cuda, mps")),
    "word for a number": Bad(
        "train.steps=many", ("train.steps=many", "expected a whole number or null", "as in train.steps=3")
    ),
    "word for a weight": Bad(
        "method.weight=heavy", ("method.weight=heavy", "expected a number", "as in method.weight=1.0")
    ),
    "None": Bad("init=None", ("None", "init=null")),
    "value with =": Bad("src.path=a=b.npz", ("src.path=a=b.npz", "quotes", "src.path=")),
    "number for a name": Bad("method=1.5", ("'1.5'", "dann")),
    "null for a name": Bad("method=null", ("method=null", "dann")),
    "null for another name": Bad("backbone=null", ("backbone=null", "convnet")),
    "word without =": Bad("dann", ("'dann'", "key=value")),
    "sweep without -m": Bad("seed=0,1", ("seed=0,1", "--multirun")),
    # plug-ins
    "hyper-parameter without a type": Bad("plugins=[{folder}/untyped.py]", ("untyped.py: factor", "factor: float")),
    "hyper-parameter that is needed": Bad(
        "plugins=[{folder}/needs.py] method=needs", ("method.factor is needed", "method.factor=")
    ),
    "plug-in that is not there": Bad("plugins=[{folder}/nowhere.py]", ("no file {folder}/nowhere.py", "plugins=[")),
    "plug-in that fails to import": Bad("plugins=[{folder}/fails.py]", ("{folder}/fails.py", "no_such_module")),
    "plug-in that is no Python": Bad("plugins=[{folder}/syntax.py]", ("{folder}/syntax.py", "SyntaxError")),
    "plug-in with a used name": Bad("plugins=[{folder}/dann.py]", ("'dann' is taken by", "rename the file")),
    # weights and folders
    "weights that are none": Bad(
        "backbone=published init=imagenet backbone.path={folder}/junk.pth", ("{folder}/junk.pth", "named tensors")
    ),
    "weights that run code": Bad(
        "backbone=published init=imagenet backbone.path={folder}/evil.pth", ("{folder}/evil.pth", "named tensors")
    ),
    "weights of another network": Bad(
        "backbone=published init=imagenet backbone.path={folder}/other.pth", ("{folder}/other.pth", "expected")
    ),
    "no weights": Bad(
        "backbone=published init=imagenet backbone.path={folder}/nowhere.pth", ("no file {folder}/nowhere.pth",)
    ),
    "folder that cannot be written": Bad("out={folder}/junk.npz/runs", ("{folder}/junk.npz/runs", "out=DIR")),
}


class RunsCode:
    """Touches a file where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def image(path: Path, cut: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    if cut:
        path.write_bytes(path.read_bytes()[:1000])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of everything that is wrong with files."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty").mkdir()
    for name, text in (
        ("untyped", UNTYPED),
        ("needs", NEEDS_A_NUMBER),
        ("fails", "import no_such_module\n"),
        ("syntax", "def f(:\n"),
        ("dann", METHOD),
        ("turns_nan", TURNS_NAN),
    ):
        (folder / f"{name}.py").write_text(text)
    made_npz(folder / "abc.npz", ("a", "b", "c"))
    made_npz(folder / "ade.npz", ("a", "d", "e"))
    made_npz(folder / "no_b.npz", ("a", "b", "c"), without=(1,))
    pickled: dict[str, Any] = {key: np.array([{}]) for key in np.load(folder / "abc.npz").files}
    np.savez(folder / "pickled.npz", **pickled)
    (folder / "junk.npz").write_bytes(b"not an archive")
    (folder / "junk.pth").write_bytes(b"not weights")
    with (folder / "evil.pth").open("wb") as file:
        pickle.dump(RunsCode(folder / "ran"), file)
    torch.save({"weight": torch.zeros(3)}, folder / "other.pth")
    (folder / "cifar").mkdir()
    (folder / "cifar" / "cifar-10-python.tar.gz").write_bytes(b"not an archive")
    for name in ("cut", "text", "hole"):
        for number in range(3):
            image(folder / name / "a" / f"{number}.png")
            if name != "hole":
                image(folder / name / "b" / f"{number}.png", cut=name == "cut" and number == 1)
    (folder / "text" / "b" / "notes.txt").write_text("x")
    (folder / "hole" / "b").mkdir()
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refused)


def the_line(told: Told) -> str:
    """The one line on stderr."""
    assert "Traceback" not in told.out + told.err
    lines = told.err.splitlines()
    assert len(lines) == 1, told.err
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("name", BAD)
def test_a_usage_error_is_one_line_and_leaves_nothing(
    name: str, folder: Path, tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    bad = BAD[name]
    out = tmp_path / "runs"
    told = type_here([*words(out=out), *bad.words.format(folder=folder).split()])
    line = the_line(told)
    for part in bad.says:
        assert part.format(folder=folder) in line
    assert told.code == 2
    assert files_of_runs(out) == []
    assert not (folder / "ran").exists()


def test_the_runs_that_it_would_have_started_from_are_finished_and_stay(
    tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    """A last batch of one is known only once there is a network, and so a source model: 719 = 2 x 359 + 1."""
    told = type_here(words(method="tent", out=tmp_path, **{"train.batch_size": 359}))
    assert told.code == 2
    line = the_line(told)
    assert "the last batch of the stream of 719 has one example" in line
    assert "train.batch_size=360" in line
    (start,) = {Path(file).parent for file in files_of_runs(tmp_path)}
    assert start.parent.name == "source_only"
    assert json.loads((tmp_path / start / "result.json").read_text())["status"] == "done"


def test_the_same_line_from_another_process(tmp_path: Path) -> None:
    told = command("dafw.run", *words(out="runs"), "method=dan", cwd=tmp_path)
    assert told.code == 2
    assert told.out == ""
    assert the_line(told) == "error: unknown method 'dan'; did you mean dann or adabn?"
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_one_line_even_on_a_narrow_terminal(
    tmp_path: Path, type_here: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    told = type_here([*words(out=tmp_path / "runs"), "src=mnist"])
    assert told.code == 2
    assert len(the_line(told)) > 100


@pytest.mark.parametrize("typed", ["method=dan", "train.steps=0", "src=mnist", "seeed=1"])
def test_debug_shows_the_traceback(typed: str, tmp_path: Path, type_here: Callable[..., Told]) -> None:
    told = type_here([*words(out=tmp_path / "runs"), typed, "debug=true"])
    assert told.code == 2
    assert "Traceback (most recent call last)" in told.err
    assert "UsageError" in told.err
    assert told.err.splitlines()[-1].startswith("error: ")


def test_a_loss_that_becomes_nan_keeps_the_last_good_state(
    folder: Path, tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    """Exit code 1, the folder with status failed, and a reason that names the term and the step."""
    typed = [f"plugins=[{folder}/turns_nan.py]", "method=turns_nan", "eval.every=2", "train.steps=8"]
    told = type_here([*words(out=tmp_path / "runs"), *typed])
    assert told.code == 1
    line = the_line(told)
    assert "'odd' became nan at step 3" in line
    assert "train.lr" in line
    (run_folder,) = (tmp_path / "runs" / "synth-digits" / "turns_nan").iterdir()
    result = json.loads((run_folder / "result.json").read_text())
    assert result["status"] == "failed"
    assert "'odd' became nan at step 3" in result["reason"]
    assert "'odd' became nan at step 3" in (run_folder / "log.txt").read_text()
    state = torch.load(run_folder / "checkpoint.pt", weights_only=True)["method"]
    assert all(torch.isfinite(value).all() for value in state.values())
    metrics = [json.loads(text) for text in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert max(entry["step"] for entry in metrics) == 3  # the steps before the one that went wrong
    assert state["model.backbone.layers.1.num_batches_tracked"] == 2  # it is the one of the evaluation after two steps


def test_a_run_that_failed_is_tried_again_in_a_folder_of_its_own(
    folder: Path, tmp_path: Path, type_here: Callable[..., Told]
) -> None:
    typed = [*words(out=tmp_path / "runs"), f"plugins=[{folder}/turns_nan.py]", "method=turns_nan"]
    assert [type_here(typed).code for _ in range(2)] == [1, 1]
    folders = sorted((tmp_path / "runs" / "synth-digits" / "turns_nan").iterdir())
    assert len(folders) == 2
    assert {json.loads((f / "result.json").read_text())["status"] for f in folders} == {"failed"}
