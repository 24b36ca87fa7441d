"""Networks of speech: their spectrograms by hand, their weights against the published files, and files that are not."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from speech import compact
from torch import Tensor

from dafw.backbones import resemblyzer as voices
from dafw.backbones import speech_embedding as embedding
from dafw.backbones._logmel import MelSpectrogram, decibels, mel_filters
from dafw.backbones.logmel_cnn import LogMelCNN
from dafw.errors import UsageError
from dafw.modalities.audio import as_int16, placed, resampled
from dafw.registry import BACKBONES

has_wheel = pytest.mark.skipif(
    importlib.util.find_spec("openwakeword") is None or importlib.util.find_spec("onnx") is None,
    reason='no weights of speech_embedding: pip install "dafw[audio]"',
)


@pytest.fixture(autouse=True)
def forgotten() -> None:
    embedding.tell_licence.cache_clear()


def seeded_sound(count: int, length: int, seed: int = 0) -> Tensor:
    """Noise whose loudness rises and falls, in [-1, 1)."""
    noise = torch.randn(count, length, generator=torch.Generator().manual_seed(seed))
    return (0.2 * noise * torch.sin(torch.arange(length) / 900).abs()).clamp(-1, 0.999)


# ---- spectrograms


def slow_filter(bands: int, fft: int, rate: int, low: float, high: float) -> np.ndarray:
    """Slaney's triangles one weight after the other."""

    def mel(hertz: float) -> float:
        return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)

    def hertz(mel: float) -> float:
        return 200 * mel / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)

    corners = [hertz(mel(low) + (mel(high) - mel(low)) * i / (bands + 1)) for i in range(bands + 2)]
    out = np.zeros((bands, fft // 2 + 1))
    for band in range(bands):
        left, middle, right = corners[band : band + 3]
        for place in range(fft // 2 + 1):
            frequency = place * rate / fft
            if left < frequency <= middle:
                out[band, place] = (frequency - left) / (middle - left)
            elif middle < frequency < right:
                out[band, place] = (right - frequency) / (right - middle)
            out[band, place] *= 2 / (right - left)
    return out


@pytest.mark.parametrize(
    "shape", [(40, 400, 16000, 0.0, 8000.0), (32, 512, 16000, 60.0, 3800.0), (40, 256, 8000, 0, 4000)]
)
def test_filters_are_triangles_of_area_1_on_slaneys_scale(shape):
    filters = mel_filters(*shape)
    np.testing.assert_allclose(filters, slow_filter(*shape), atol=1e-12)
    assert (filters.sum(1) > 0).all()  # no band is narrower than the distance of two bins


@pytest.mark.parametrize(("window", "fft", "hop", "centred"), [(400, 400, 160, True), (400, 512, 160, False)])
def test_a_mel_spectrogram_is_what_librosa_computes(window: int, fft: int, hop: int, centred: bool) -> None:
    sound = seeded_sound(2, 3000)
    spectrogram = MelSpectrogram(
        rate=16000, window=window, fft=fft, hop=hop, bands=40, low=0, high=8000, centred=centred
    )
    got = spectrogram(sound).numpy()
    hann = np.zeros(fft)
    for i in range(window):
        hann[(fft - window) // 2 + i] = 0.5 - 0.5 * math.cos(2 * math.pi * i / window)
    padded = np.pad(sound.numpy().astype(np.float64), ((0, 0), (fft // 2,) * 2)) if centred else sound.numpy()
    frames = 1 + (padded.shape[1] - fft) // hop
    assert got.shape == (2, 40, frames)
    filters = slow_filter(40, fft, 16000, 0, 8000)
    for clip in range(2):
        for frame in range(frames):
            powers = np.abs(np.fft.rfft(padded[clip, frame * hop : frame * hop + fft] * hann)) ** 2
            np.testing.assert_allclose(got[clip, :, frame], filters @ powers, rtol=2e-4, atol=1e-9)


def test_decibels_reach_80_below_the_loudest_of_each_clip():
    powers = torch.tensor([[[1.0, 1e-3, 1e-9]], [[1e6, 1.0, 1e-9]], [[0.0, 0.0, 1e-12]]])
    levels = decibels(powers)
    expected = [[0.0, -30.0, -80.0], [60.0, 0.0, -20.0], [-100.0, -100.0, -100.0]]
    torch.testing.assert_close(levels[:, 0], torch.tensor(expected), atol=1e-4, rtol=0)


def test_a_spectrogram_is_exact_under_half_precision():
    spectrogram = LogMelCNN().spectrogram
    sound = seeded_sound(1, 2000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spectrogram(sound), spectrogram(sound))
        half = spectrogram(sound)
    assert half.dtype == torch.float32
    assert torch.equal(half, spectrogram(sound))


@pytest.mark.parametrize("name", ["logmel_cnn", "speech_embedding", "resemblyzer"])
def test_every_network_of_speech_gives_rows_that_do_not_depend_on_each_other(name: str) -> None:
    registered = BACKBONES.get(name)
    own = {"logmel_cnn": {"seconds": 0.5}, "resemblyzer": {"seconds": 0.3, "path": None}}.get(name, {})
    _, samples = registered.waveform(**own)
    torch.manual_seed(0)
    network = registered((samples,), False, **own).eval()
    sound = seeded_sound(3, samples) * torch.tensor([[1.0], [0.1], [0.5]])
    with torch.no_grad():
        features = network(sound)
        alone = torch.cat([network(clip[None]) for clip in sound])
    assert features.shape == (3, network.features)
    assert registered.modality == "audio"
    assert (features[0] - features[2]).abs().max() > 100 * (features - alone).abs().max()
    network.train()(sound).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in network.named_parameters() if "bias" not in n)
    assert torch.isfinite(network.eval()(torch.zeros(1, samples))).all()  # a silent clip


# ---- logmel_cnn


def test_logmel_cnn_does_not_hear_how_loud_a_clip_is():
    torch.manual_seed(0)
    network = LogMelCNN().eval()
    sound = seeded_sound(2, 8000)
    with torch.no_grad():
        torch.testing.assert_close(network(sound), network(sound / 4), atol=1e-4, rtol=1e-3)
        assert not torch.allclose(network(sound[:1]), network(sound[1:]), atol=1e-2)


def test_logmel_cnn_sees_levels_less_their_mean():
    network = LogMelCNN()
    seen: list[Tensor] = []
    network.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    sound = seeded_sound(2, 8000)
    network(sound)
    assert seen[0].shape == (2, 1, 40, 63)
    for clip in range(2):
        levels = 10 * np.log10(network.spectrogram(sound)[clip].numpy().astype(np.float64))
        levels = np.maximum(levels, levels.max() - 80)
        np.testing.assert_allclose(seen[0][clip, 0].numpy(), (levels - levels.mean()) / 20, atol=1e-4)


def test_logmel_cnns_options():
    registered = BACKBONES.get("logmel_cnn")
    assert registered.waveform(seconds=1.0) == (8000, 8000)
    assert registered.waveform(seconds=0.75) == (8000, 6000)
    with pytest.raises(UsageError, match=r"^backbone.seconds=0.1: expected 0.2 or more"):
        registered.waveform(seconds=0.1)
    with pytest.raises(UsageError, match=r"^logmel_cnn has no published weights; expected init=random"):
        registered((8000,), True, seconds=1.0)


# ---- speech_embedding


@has_wheel
def test_speech_embedding_equals_onnxruntime_on_real_speech(real_data: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the published files are run by onnxruntime")
    folder = embedding.packaged_model().parent
    spectrogram, network = (
        runtime.InferenceSession(str(folder / name)) for name in ("melspectrogram.onnx", "embedding_model.onnx")
    )
    own = BACKBONES.get("speech_embedding")((embedding.SAMPLES,), True).eval()
    differences, values = [], []
    for name in ("espeak", "fsdd"):
        clips = compact(real_data / f"speech_{name}.npz").clips[::60]
        for clip in clips:
            samples = torch.from_numpy(as_int16(resampled((clip * 2**15).astype(np.float32), 8000, 16000)))
            sound = placed(samples[None], embedding.SAMPLES)
            (levels,) = spectrogram.run(None, {"input": sound.numpy().astype(np.float32)})
            (wanted,) = network.run(None, {"input_1": levels.reshape(1, 76, 32, 1) / 10 + 2})
            with torch.no_grad():
                got = own(sound.float() / 2**15)
            differences.append(np.abs(got.numpy() - wanted.reshape(1, 96)).max())
            values.append(wanted)
    assert len(values) == 26
    assert max(differences) < 1e-4 * np.ptp(np.concatenate(values))
    assert sum(parameter.numel() for parameter in own.parameters()) == 328_152


@has_wheel
def test_the_licence_of_speech_embedding_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        BACKBONES.get("speech_embedding")((embedding.SAMPLES,), True)
    told = capsys.readouterr().out
    assert told.count("licence") == 1
    assert "Apache-2.0" in told
    assert "CC BY-NC-SA 4.0" in told
    assert "openwakeword" not in sys.modules  # found, never run
    BACKBONES.get("speech_embedding")((embedding.SAMPLES,), False)
    assert capsys.readouterr().out == ""


@has_wheel
def test_another_model_in_the_wheel_is_refused():
    arrays = embedding.read_weights(embedding.packaged_model())
    layers = embedding.SpeechEmbedding().layers
    state = embedding.matched(arrays, layers)
    assert torch.equal(state["0.weight"], torch.from_numpy(arrays[0].copy()))
    for wrong in (arrays[:-1], [arrays[0].transpose(1, 0, 2, 3), *arrays[1:]]):
        with pytest.raises(UsageError, match=r"holds another model .* type pip install openwakeword==0.4.0$"):
            embedding.matched(wrong, layers)


def test_a_missing_wheel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match=r'finds no weights: .* type pip install "dafw\[audio\]"$'):
        BACKBONES.get("speech_embedding")((embedding.SAMPLES,), True)


def test_speech_embedding_takes_one_length():
    assert BACKBONES.get("speech_embedding").waveform() == (16000, 12512)


# ---- resemblyzer


def saved(path: Path, **changes: Tensor) -> Path:
    """A file like resemblyzer's: an LSTM, a linear layer and what its training left."""
    torch.manual_seed(1)
    state = {f"lstm.{name}": tensor for name, tensor in torch.nn.LSTM(40, 256, 3).state_dict().items()}
    state |= {"linear.weight": torch.ones(256, 256), "similarity_weight": torch.ones(1)}
    torch.save({"step": 3, "model_state": {**state, **changes}, "optimizer_state": {}}, path)
    return path


def test_resemblyzer_averages_its_last_layer_over_thirds(tmp_path):
    file = saved(tmp_path / "weights.pt")
    network = BACKBONES.get("resemblyzer")((4800,), True, path=file).eval()
    state = torch.load(file, weights_only=True)["model_state"]
    lstm = torch.nn.LSTM(40, 256, 3)
    lstm.load_state_dict({name[5:]: tensor for name, tensor in state.items() if name.startswith("lstm.")})
    sound = seeded_sound(1, 4800)
    loud = sound * 0.05 / math.sqrt(float(sound.square().mean()))
    with torch.no_grad():
        frames = network.spectrogram(loud)[0].T  # 31
        hidden, outputs = None, []
        for frame in frames:
            output, hidden = lstm(frame[None, None], hidden)
            outputs.append(output.flatten())
        thirds = [outputs[0:11], outputs[10:21], outputs[20:31]]
        expected = torch.cat([torch.stack(third).mean(0) for third in thirds])
        torch.testing.assert_close(network(sound)[0], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(network(sound / 8), network(sound), atol=1e-5, rtol=1e-4)


class Harmful:
    def __reduce__(self):
        return (print, ("harm",))


def test_a_file_that_is_no_checkpoint_of_resemblyzer_is_refused(tmp_path, capsys):
    registered = BACKBONES.get("resemblyzer")
    torch.save({"model_state": Harmful()}, tmp_path / "harmful.pt")
    torch.save({"model_state": {"other": torch.ones(1)}}, tmp_path / "other.pt")
    torch.save([1], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    for name in ("harmful.pt", "other.pt", "list.pt", "text.pt", "missing.pt"):
        with pytest.raises(UsageError) as error:
            registered((16000,), True, path=tmp_path / name)
        assert str(error.value).startswith(f"backbone.path: {tmp_path / name} is no checkpoint of resemblyzer (")
        assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""
    file = saved(tmp_path / "small.pt", **{"lstm.bias_hh_l1": torch.ones(4)})
    with pytest.raises(UsageError, match=r"a tensor of shape \(4,\) in the place of lstm.bias_hh_l1; expected \(1024,"):
        registered((16000,), True, path=file)


def test_resemblyzers_options(monkeypatch):
    registered = BACKBONES.get("resemblyzer")
    assert registered.waveform(seconds=1.6, path=None) == (16000, 25600)
    with pytest.raises(UsageError, match=r"^backbone.seconds=0.0: expected 0.05 or more"):
        registered.waveform(seconds=0.0, path=None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"package resemblyzer is not installed; type pip install --no-deps"):
        voices.packaged_weights()


@pytest.mark.skipif(importlib.util.find_spec("resemblyzer") is None, reason="resemblyzer is not installed")
def test_the_published_weights_of_resemblyzer():
    network = BACKBONES.get("resemblyzer")((16000,), True).eval()
    saved_state = torch.load(voices.packaged_weights(), map_location="cpu", weights_only=True)["model_state"]
    assert torch.equal(network.lstm.weight_hh_l2, saved_state["lstm.weight_hh_l2"])
    assert "resemblyzer" not in sys.modules
