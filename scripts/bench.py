"""Speed as ratios within one run: medians of interleaved repeats, since machines differ and are shared.

    python scripts/bench.py                 every figure (about six minutes on two cores)
    python scripts/bench.py step help       only these

step: a DANN training step, data included, against forward + backward + optimiser step of the same networks on a
fixed batch. frozen: 400 steps of DANN on cached features, caching included, against the same steps with the features
recomputed. bf16: a DANN step at 28 px in bf16 against fp32. validators: an evaluation (forward passes over source
validation, target validation and target test, and accuracies) with all cheap validators against the same without, at
the split sizes of synth→digits, mnist→usps and the small cifar10→stl10. help: CPU time of `--help` against
`import torch`.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from dafw import augment, cache, frozen
from dafw.backbones.convnet import ConvNet
from dafw.backbones.published import published
from dafw.classifier import Classifier
from dafw.domain import Domain, Table
from dafw.evidence import cheap_validators, evidence_of, validate
from dafw.frozen import FrozenBackbone, FrozenNetwork
from dafw.layers import ganin_ramp, reverse_gradient
from dafw.methods.dann import DANN
from dafw.pair import Pair, Protocol
from dafw.setting import Progress, Setting
from dafw.split import Split
from dafw.trainer import Training, fit, make_optimizer, run_updates

REPEATS = 15


def training(steps: int, precision: str = "fp32") -> Training:
    return Training(steps, 64, "sgd", 0.05, "cosine", 5e-4, precision)


def made_pair(channels: int, size: int, count: int = 2000, classes: int = 10) -> Pair:
    """Random uint8 images: what they show does not matter to the time a step takes."""
    generator = torch.Generator().manual_seed(0)

    def table(n: int) -> Table:
        images = torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
        return Table(images, torch.arange(n) % classes)

    names = tuple(map(str, range(classes)))
    domains = [Domain(name, names, table(count), table(count // 10)) for name in ("a", "b")]
    views = augment.views("image")
    return Pair(domains[:1], domains[1], Setting.UNSUPERVISED, 0, Protocol(), views, torch.device("cpu"))


def dann(pair: Pair, channels: int) -> DANN:
    torch.manual_seed(0)
    model = Classifier(ConvNet(channels, 16), len(pair.classes), 128)
    return DANN(model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def interleaved(first: Callable[[], None], second: Callable[[], None], repeats: int = REPEATS) -> tuple[float, float]:
    """Median seconds of each, measured in turn after a warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for function, taken in zip((first, second), times, strict=True):
            began = time.perf_counter()
            function()
            if repeat:
                taken.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def ours(pair: Pair, method: DANN, precision: str = "fp32", steps: int = 20) -> Callable[[], None]:
    """`steps` steps through the trainer, with its data, seeds, schedule and logs, without an evaluation."""

    def block() -> None:
        fit(
            method, pair, pair.data(lambda *_: method.model), training(steps, precision),
            log_every=10, eval_every=10**9, on_log=lambda *_: None, on_evaluate=lambda _: None,
        )  # fmt: skip

    return block


def bare(pair: Pair, method: DANN, steps: int = 20) -> Callable[[], None]:
    """Forward, backward and optimiser step of the same networks on one fixed batch."""
    batch = pair.batch(0, 64)
    inputs = [part.inputs.contiguous(memory_format=torch.channels_last) for part in (batch.source, batch.target)]
    labels, is_source = batch.source.labels, torch.cat([torch.ones(64), torch.zeros(64)])
    optimizer = make_optimizer(method, training(steps))

    def block() -> None:
        method.train()
        for step in range(steps):
            optimizer.zero_grad(set_to_none=True)
            source, target = method.model(inputs[0]), method.model(inputs[1])
            features = torch.cat([source.features, target.features])
            domain = method.discriminator(reverse_gradient(features, ganin_ramp(step / steps)))
            loss = F.cross_entropy(source.logits, labels) + F.binary_cross_entropy_with_logits(domain, is_source)
            loss.backward()
            optimizer.step()

    return block


def bench_step() -> None:
    for channels, size in ((1, 16), (1, 28), (3, 32)):
        pair = made_pair(channels, size)
        whole, fixed = interleaved(ours(pair, dann(pair, channels)), bare(pair, dann(pair, channels)))
        ratio = whole / fixed
        print(f"step {channels}x{size}x{size}: {whole / 20 * 1e3:.2f} ms / {fixed / 20 * 1e3:.2f} ms = {ratio:.3f}")


def bench_bf16() -> None:
    pair = made_pair(1, 28)
    half, full = interleaved(ours(pair, dann(pair, 1), "bf16"), ours(pair, dann(pair, 1)))
    print(f"bf16 1x28x28: {half / 20 * 1e3:.2f} ms / fp32 {full / 20 * 1e3:.2f} ms = {half / full:.3f}")


def bench_frozen() -> None:
    """The recomputed steps are timed on 6 steps and multiplied, or this would take ten minutes."""
    shape, steps, sample = (3, 128, 128), 400, 6
    network = published(shape, True).eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pair = made_pair(3, 128, count=1200)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cache.folder = lambda *_: Path(folder)  # an empty cache
        known, weak = FrozenNetwork.of(network), augment.views("image")["weak"]

        def convert(table: Table) -> Table:
            return frozen.features_of(table, known, 1, weak, False, lambda _: None)

        domains = [frozen.encoded(d, convert) for d in (pair.sources[0], pair.target)]
        views = augment.views("features")
        cached = Pair(domains[:1], domains[1], Setting.UNSUPERVISED, 0, Protocol(), views, torch.device("cpu"))
        reference = cached.source_train.inputs
        method = DANN(Classifier(FrozenBackbone(known, reference, 1280), 10, 128, 0.3))
        ours(cached, method, steps=steps)()
    whole = time.perf_counter() - began
    optimizer = make_optimizer(method, training(steps))
    method.train()
    began = time.perf_counter()
    for step in range(sample):
        run_updates(method, method.update(pair.batch(step, 64), Progress(step, steps, step / steps, 0)), optimizer)
    recomputed = (time.perf_counter() - began) / sample * steps
    print(f"frozen 128 px: {whole:.1f} s with the cache / {recomputed:.1f} s recomputed = {whole / recomputed:.3f}")


SPLITS = {(1, 16): (500, 108, 719), (1, 28): (1000, 729, 2007), (3, 32): (800, 500, 4000)}  # as the docstring says


def bench_validators() -> None:
    for (channels, size), counts in SPLITS.items():
        pair = made_pair(channels, size, count=4000)
        source, target, test = (made_pair(channels, size, count=count).sources[0].train for count in counts)
        assert source is not None
        assert target is not None
        assert test is not None
        pair.source_validation, pair.target_validation, pair.target_test = (
            Split(table.inputs, torch.arange(len(table)), table.labels, torch.zeros(len(table)), pair.device)
            for table in (source, target, test)
        )
        method = dann(pair, channels)
        ours(pair, method)()  # some training, so that the features are not those of a random network
        names = cheap_validators()

        def evaluation(names: list[str], pair: Pair = pair, method: DANN = method) -> None:
            seen = evidence_of(method, pair.source_validation, pair.target_validation, lambda: method.model)
            (seen.source.logits.argmax(1) == seen.source_labels).double().mean()
            (pair.target_test.outputs(method).logits.argmax(1) == pair.target_test.labels).double().mean()
            validate(seen, names)

        whole, without = interleaved(lambda: evaluation(names), lambda: evaluation([]))  # noqa: B023
        print(
            f"validators {channels}x{size}x{size}: evaluation with {len(names)} validators {whole * 1e3:.0f} ms / "
            f"without {without * 1e3:.0f} ms = {whole / without:.3f}"
        )


def cpu_seconds(*words: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bench_help() -> None:
    pairs = [(cpu_seconds("-m", "dafw.run", "--help"), cpu_seconds("-c", "import torch")) for _ in range(6)][1:]
    ours_, torch_ = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(f"help: {ours_:.2f} s / import torch {torch_:.2f} s = {ours_ / torch_:.3f} (CPU)")


BENCHES = {
    "step": bench_step,
    "bf16": bench_bf16,
    "frozen": bench_frozen,
    "validators": bench_validators,
    "help": bench_help,
}

if __name__ == "__main__":
    chosen = sys.argv[1:] or list(BENCHES)
    unknown = sorted(set(chosen) - set(BENCHES))
    if unknown:
        sys.exit(f"unknown bench {unknown[0]!r}; expected some of {', '.join(BENCHES)}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {REPEATS} interleaved repeats")
    for name in chosen:
        BENCHES[name]()
