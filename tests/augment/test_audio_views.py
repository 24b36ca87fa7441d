"""Views of sound against slow loops over the same draws, and what they may never do."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dafw import augment
from dafw.augment import audio

CPU = torch.device("cpu")
LENGTH = 200


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_split(count: int, length: int = LENGTH) -> Tensor:
    return torch.randint(-(2**15), 2**15, (count, length), dtype=torch.int16, generator=seeded(99))


def tones(count: int, length: int = 4000) -> Tensor:
    """int16 tones of different pitch, all of the same loudness."""
    pitch = torch.linspace(0.05, 0.5, count).unsqueeze(1)
    return (8000 * torch.sin(pitch * torch.arange(length))).to(torch.int16)


def shifted_slowly(clip: np.ndarray, shift: int) -> np.ndarray:
    out = np.zeros_like(clip)
    for place in range(len(clip)):
        if 0 <= place - shift < len(clip):
            out[place] = clip[place - shift]
    return out


def test_weak_equals_a_slow_loop_with_the_same_draws() -> None:
    data, rows = random_split(7), torch.tensor([6, 0, 2, 2])
    generator = seeded(4)
    shifts = torch.randint(-10, 11, (4,), generator=generator)
    gains = 10 ** ((6 * torch.rand(4, generator=generator) - 3) / 20)
    clips = [
        shifted_slowly(data[row].numpy() / 2**15, int(shift)) * float(gain)
        for row, shift, gain in zip(rows, shifts, gains, strict=True)
    ]
    view = audio.weak(data, rows, seeded(4), False, CPU)
    assert view.dtype == torch.float32
    np.testing.assert_allclose(view.numpy(), np.stack(clips), rtol=1e-6)


def test_weak_shifts_by_5_percent_and_3_decibels_and_no_further() -> None:
    data = torch.zeros(1, LENGTH, dtype=torch.int16)
    data[0, 100] = 2**14
    view = audio.weak(data, torch.zeros(3000, dtype=torch.long), seeded(0), False, CPU)
    shifts = view.argmax(1) - 100
    assert sorted(shifts.unique().tolist()) == [*range(-10, 11)]
    decibels = 20 * (view.amax(1) / 0.5).log10()
    assert decibels.min() == pytest.approx(-3, abs=0.02)
    assert decibels.max() == pytest.approx(3, abs=0.02)
    assert ((view != 0).sum(1) == 1).all()


def test_noise_has_the_ratio_that_was_drawn() -> None:
    sound = tones(6).float() / 2**15
    generator = seeded(3)
    ratios = 10 + 20 * torch.rand((6, 1), generator=generator)
    noise = torch.randn(sound.shape, generator=generator)
    noisy = audio.noisy(sound, seeded(3))
    for row in range(6):
        level = math.sqrt(float(sound[row].square().mean())) * 10 ** (-float(ratios[row]) / 20)
        torch.testing.assert_close(noisy[row], sound[row] + level * noise[row])
    measured = 10 * (sound.square().mean(1) / (noisy - sound).square().mean(1)).log10()
    torch.testing.assert_close(measured, ratios.squeeze(1), atol=0.3, rtol=0)


def test_a_crop_keeps_a_part_and_silence_comes_before_it() -> None:
    sound = torch.arange(1.0, 21.0).expand(4, 20)
    kept, place = torch.tensor([1.0, 0.5, 0.5, 0.5]), torch.tensor([0.3, 0.0, 1.0, 0.5])
    out = audio.cropped(sound, kept, place).tolist()
    assert out[0] == [*range(1, 21)]
    assert out[1] == [0] * 10 + [*range(1, 11)]
    assert out[2] == [0] * 10 + [*range(11, 21)]
    assert out[3] == [0] * 10 + [*range(6, 16)]


def test_masks_are_two_stretches_of_limited_width() -> None:
    masks = audio.drawn_masks(2000, 100, 0.15, seeded(0))
    edges = (masks.int().diff(dim=1, prepend=torch.zeros(2000, 1, dtype=torch.int)) == 1).sum(1)
    assert edges.max() == 2
    assert masks.sum(1).max() <= 30
    assert masks.sum(1).float().mean() == pytest.approx(2 * 7.5, rel=0.1)
    assert masks.float().mean(0).min() > 0.005  # everywhere, also at the ends
    generator = seeded(7)
    width, place = torch.rand((2, 1, 2, 1), generator=generator)
    slow = [
        any(
            float(p * (50 - 0.2 * 50 * w)) <= i + 0.5 < float(p * (50 - 0.2 * 50 * w) + 0.2 * 50 * w)
            for w, p in zip(width.flatten(), place.flatten(), strict=True)
        )
        for i in range(50)
    ]
    assert audio.drawn_masks(1, 50, 0.2, seeded(7))[0].tolist() == slow


@pytest.mark.parametrize("length", [16, 256, 1000, 4001])
def test_without_masks_the_transform_and_back_is_the_sound(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = random_split(3, length).float() / 2**15
    monkeypatch.setattr(audio, "MASKS", 0)
    torch.testing.assert_close(audio.masked(sound, seeded(0)), sound, atol=1e-5, rtol=0)


def test_a_mask_over_frequency_silences_its_band_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(count: int, length: int, widest: float, _: torch.Generator) -> Tensor:
        masks = torch.zeros(count, length, dtype=torch.bool)
        if widest == audio.FREQUENCY_MASK:
            masks[:, 40:60] = True
        return masks

    monkeypatch.setattr(audio, "drawn_masks", drawn)
    bins = torch.tensor([20.0, 50.0, 90.0])  # of 129, so that the middle one lies in the mask
    sound = torch.sin(2 * torch.pi * bins.unsqueeze(1) / 256 * torch.arange(4000))
    powers = audio.masked(sound, seeded(0))[:, 300:-300].square().mean(1)
    assert powers.tolist() == pytest.approx([0.5, 0.0, 0.5], abs=0.01)


def test_a_mask_over_time_silences_its_stretch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(count: int, length: int, widest: float, _: torch.Generator) -> Tensor:
        masks = torch.zeros(count, length, dtype=torch.bool)
        if widest == audio.TIME_MASK:
            masks[:, 20:40] = True  # frames of 64 samples
        return masks

    monkeypatch.setattr(audio, "drawn_masks", drawn)
    sound = tones(2).float() / 2**15
    out = audio.masked(sound, seeded(0))
    assert out[:, 23 * 64 : 36 * 64].abs().max() < 1e-4
    torch.testing.assert_close(out[:, : 16 * 64], sound[:, : 16 * 64], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, 43 * 64 :], sound[:, 43 * 64 :], atol=1e-5, rtol=0)


def test_strong_is_the_weak_view_with_noise_and_masks() -> None:
    data, rows = tones(5), torch.tensor([0, 4, 2])
    generator = seeded(6)
    weak = audio.weak(data, rows, generator, False, CPU)
    expected = audio.masked(audio.noisy(weak, generator), generator)
    view = audio.strong(data, rows, seeded(6), False, CPU)
    assert torch.equal(view, expected)
    assert (view - audio.weak(data, rows, seeded(6), False, CPU)).abs().max() > 0.01


def test_ssl_is_quieter_louder_and_shorter_than_strong() -> None:
    data = tones(1).expand(400, -1).contiguous()
    view = audio.ssl(data, torch.arange(400), seeded(0), False, CPU)
    loudness = 10 * (view[:, -2000:].square().mean(1) / (8000 / 2**15) ** 2 * 2).log10()
    assert loudness.max() > 4
    assert loudness.min() < -5
    silent = (view[:, :400].square().mean(1) < view[:, -2000:].square().mean(1) / 5).float().mean()
    assert 0.2 < silent < 0.8  # noise alone, where at least about half of the first tenth was cut away


@pytest.mark.parametrize("name", ["weak", "strong", "ssl"])
def test_a_view_is_its_generators_draw_and_another_for_each_clip(name: str) -> None:
    view = augment.views("audio")[name]
    data = tones(1).expand(3, -1).contiguous()
    rows = torch.tensor([0, 0, 1])
    first = view(data, rows, seeded(1), False, CPU)
    assert torch.equal(first, view(data, rows, seeded(1), True, CPU))  # a mirrored clip is no clip
    assert not torch.equal(first, view(data, rows, seeded(2), False, CPU))
    assert not torch.equal(first[0], first[1])
    assert first.shape == (3, 4000)
    assert first.dtype == torch.float32


@pytest.mark.parametrize("name", ["weak", "strong", "ssl"])
def test_silence_stays_silent(name: str) -> None:
    view = augment.views("audio")[name](torch.zeros(2, 512, dtype=torch.int16), torch.arange(2), seeded(0), False, CPU)
    assert view.abs().max() == 0
