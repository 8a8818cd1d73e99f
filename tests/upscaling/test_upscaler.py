"""The whole flow on a tiny model of the real classes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from xpsr_cli.errors import OutOfMemoryError, PhotoError, UsageError
from xpsr_cli.exploring.operators import Operator
from xpsr_cli.models.loading import load_components, load_controlnet, load_unet
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import (
    ColorFix,
    Precision,
    RegionPrompt,
    SamplingPreset,
    SchedulerName,
    Sizing,
    StartLatent,
    UpscaleSettings,
)
from xpsr_cli.upscaling.canvas import Canvas
from xpsr_cli.upscaling.seams import SeamMeter
from xpsr_cli.upscaling.upscaler import Upscaler

SIX_WINDOWS = UpscaleSettings(tile_size=128, tile_overlap=32, steps=2)


def load(folder):
    components = load_components(folder)
    components.preset = replace(components.preset, start_noise=0.5, guidance_scale=1.5)
    return Upscaler.from_components(components, "cpu", Precision.FP32)


@pytest.fixture(scope="module")
def upscaler(tiny_model):
    return load(tiny_model)


@pytest.fixture
def silent(tiny_model):
    """An upscaler whose networks predict nothing: from pure noise, one step leads to a residual of zero."""
    upscaler = load(tiny_model)
    for parameter in upscaler.components.unet.conv_out.parameters():
        parameter.zero_()
    return upscaler


def noise_photo(height=50, width=74, seed=0, name="photo"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Photo(pixels, name=name)


def ramp_photo(height, width):
    values = np.linspace(20, 235, width).round().astype(np.uint8)
    return Photo(np.broadcast_to(values[None, :, None], (height, width, 3)).copy())


def bicubic(photo, scale=4):
    size = (round(photo.width * scale), round(photo.height * scale))
    return np.asarray(Image.fromarray(photo.pixels).resize(size, Image.Resampling.BICUBIC))


def pixels_01(enlargement):
    """(H, W, 3) before anything is rounded to a file's samples."""
    return np.concatenate([band.colour for band in enlargement.bands()])


def test_windows_do_not_show_on_a_ramp(silent):
    photo = ramp_photo(54, 80)  # 216 x 320 pixels
    result = silent.upscale(photo, replace(SIX_WINDOWS, steps=1))
    assert result.windows == 6
    difference = pixels_01(result) * 255 - bicubic(photo).astype(float)
    assert np.abs(difference).max() <= 0.51  # of which half a level is Pillow's rounding


def test_seams_are_measured_when_asked(upscaler):
    result = upscaler.upscale(ramp_photo(54, 80), replace(SIX_WINDOWS, verify=True))
    assert result.seams is None
    pixels_01(result)
    assert result.seams.index > 0
    assert result.seams.brightness_step >= 0


@pytest.mark.parametrize("grey", [False, True])
def test_seams_are_those_of_what_comes_out(upscaler, grey):
    pixels = np.repeat(noise_photo(54, 80).pixels[..., :1] // 255 * 255, 3, axis=2)  # at the ends of the range
    photo = Photo(pixels, grey=grey)
    result = upscaler.upscale(photo, replace(SIX_WINDOWS, verify=True, color_fix=ColorFix.WAVELET))
    bands = pixels_01(result)
    plan, canvas = upscaler.plan(photo.info, SIX_WINDOWS), Canvas(photo, 4, Sizing.PAD)
    meter = SeamMeter([window.scaled(upscaler.codec.factor) for window in plan.windows], *plan.size)
    meter.add(0, bands.transpose(2, 0, 1), canvas.enlarged(0, plan.size[1]))
    assert asdict(result.seams) == pytest.approx(asdict(meter.report()), rel=1e-6)


def test_sixteen_bits_come_out_as_sixteen(silent):
    pixels = np.linspace(1000, 60000, 80).round().astype(np.uint16)[None, :, None].repeat(54, 0).repeat(3, 2)
    result = silent.upscale(Photo(pixels), replace(SIX_WINDOWS, steps=1)).photo().pixels
    assert result.dtype == np.uint16
    assert len(np.unique(result[100])) > 256
    middle = result[100, 8:-8, 0].astype(float).reshape(-1, 4).mean(axis=1)
    assert np.abs(middle - pixels[0, 2:-2, 0]).max() < 20


def test_a_large_photo_in_files_is_the_same_and_is_taken_up_again(upscaler, tmp_path):
    settings = replace(SIX_WINDOWS, in_memory_mp=0.0, scheduler=SchedulerName.DDPM)
    wanted = upscaler.upscale(noise_photo(), replace(settings, in_memory_mp=1.0)).photo().pixels
    assert not any(tmp_path.iterdir())
    assert np.array_equal(upscaler.upscale(noise_photo(), settings, work_folder=tmp_path).photo().pixels, wanted)
    assert any(tmp_path.iterdir())

    class Deaf:
        total = done = skipped = 0

        def stage(self, name, total):
            self.sampling = name == "sample"
            self.total += total * self.sampling

        def skip(self, count):
            self.skipped = count

        def advance(self, count=1):
            self.done += count * self.sampling

    progress = Deaf()
    again = upscaler.upscale(noise_photo(), settings, progress, work_folder=tmp_path)
    assert progress.skipped == progress.total == 12
    assert not progress.done
    assert again.seconds["sample"] < 0.05
    assert np.array_equal(again.photo().pixels, wanted)


def test_the_plan_is_what_happens(upscaler):
    plan = upscaler.plan(noise_photo().info, replace(SIX_WINDOWS, scale=3.3))
    result = upscaler.upscale(noise_photo(), replace(SIX_WINDOWS, scale=3.3))
    assert plan.size == result.info.size == result.photo().size
    assert len(plan.windows) == result.windows
    assert plan.work == 2 * result.windows
    assert not plan.in_files
    assert upscaler.plan(noise_photo().info, replace(SIX_WINDOWS, in_memory_mp=0.0)).in_files


def test_networks_have_a_say(upscaler):
    result = upscaler.upscale(noise_photo(), SIX_WINDOWS)
    assert result.windows == 6
    assert (result.photo().pixels != bicubic(noise_photo())).mean() > 0.2


def test_the_time_of_a_window_is_measured(upscaler):
    started = time.perf_counter()
    seconds = upscaler.seconds_per_window(SIX_WINDOWS)
    assert 0 < seconds < time.perf_counter() - started


@pytest.mark.parametrize("tile_batch", [2, 4, 9])
def test_windows_at_a_time_do_not_change_a_byte(upscaler, tile_batch):
    one = upscaler.upscale(noise_photo(), SIX_WINDOWS).photo().pixels
    many = upscaler.upscale(noise_photo(), replace(SIX_WINDOWS, tile_batch=tile_batch)).photo().pixels
    assert many.tobytes() == one.tobytes()


def test_neither_company_nor_order_changes_a_byte(upscaler, tiny_model):
    photos = [noise_photo(40 + 6 * i, 44, seed=i, name=str(i)) for i in range(3)]
    settings = replace(SIX_WINDOWS, scheduler=SchedulerName.DDPM, prompt="a photo of a house")

    def run(upscaler, photos):
        return {photo.name: upscaler.upscale(photo, settings).photo().pixels.tobytes() for photo in photos}

    forwards = run(upscaler, photos)
    assert run(upscaler, photos[::-1]) == forwards
    assert run(load(tiny_model), photos[2:]) == {"2": forwards["2"]}


def test_the_global_random_state_is_neither_used_nor_touched(upscaler):
    torch.manual_seed(1)
    first = upscaler.upscale(noise_photo(), replace(SIX_WINDOWS, scheduler=SchedulerName.DDPM))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = upscaler.upscale(noise_photo(), replace(SIX_WINDOWS, scheduler=SchedulerName.DDPM))
    assert np.array_equal(first.photo().pixels, second.photo().pixels)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"prompt": "a photo of a house"},
        {"low_prompt": "blurred"},
        {"guidance_scale": 4.0},
        {"conditioning_scale": 0.0},
        {"steps": 3},
        {"scheduler": SchedulerName.UNIPC},
        {"color_fix": ColorFix.ADAIN},
        {"color_fix": ColorFix.NONE},
        {"fidelity": 0.5},
    ],
)
def test_every_setting_is_heard(tiny_model, change):
    """On latents, where nothing is rounded away."""
    upscaler = load(tiny_model)
    for network in (upscaler.components.unet, upscaler.components.controlnet):
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    settings = UpscaleSettings(scale=2.0, steps=2)
    base = upscaler.upscale(noise_photo(), settings).photo().pixels
    changed = upscaler.upscale(noise_photo(), replace(settings, **change)).photo().pixels
    assert not np.array_equal(base, changed)


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.7])
@pytest.mark.parametrize("sizing", list(Sizing))
@pytest.mark.parametrize("start", list(StartLatent))
def test_sizes_are_exact(upscaler, monkeypatch, scale, sizing, start):
    preset = replace(upscaler.components.preset, sizing=sizing, start=start)
    monkeypatch.setattr(upscaler.components, "preset", preset)
    monkeypatch.setattr("xpsr_cli.upscaling.canvas.PROCESS_SIZE_PX", 128)
    result = upscaler.upscale(noise_photo(17, 41), UpscaleSettings(scale=scale))
    assert result.photo().size == (round(41 * scale), round(17 * scale))


def test_transparency_and_everything_else_come_through(upscaler):
    alpha = np.full((40, 44), 255, np.uint8)
    alpha[:, 22:] = 0
    photo = replace(noise_photo(40, 44, name="cut-out"), alpha=alpha)
    result = upscaler.upscale(photo, UpscaleSettings(scale=2.0)).photo()
    assert result.alpha.shape == (80, 88)
    assert (result.alpha[:, :40] == 255).all()
    assert (result.alpha[:, 48:] == 0).all()
    assert result.name == "cut-out"
    assert result.metadata is photo.metadata


def test_a_photo_without_colour_stays_without(upscaler):
    grey = noise_photo().pixels[..., :1].repeat(3, axis=2)
    pixels = upscaler.upscale(Photo(grey, grey=True), UpscaleSettings(scale=2.0)).photo().pixels
    assert (pixels == pixels[..., :1]).all()


def lr_psnr(result, photo):
    """Between a photo and its result reduced to the photo's size, both files' samples."""
    large, small = (
        torch.from_numpy(p.pixels / np.float64(p.info.depth.white)).permute(2, 0, 1) for p in (result, photo)
    )
    return Operator(large.shape[1:], small.shape[1:]).agreement_01(large, small)


def soft_photo(photo):
    """Of middling tones, so that there are larger pictures that are reduced to it."""
    return replace(photo, pixels=photo.pixels // 4 + 96)


@pytest.mark.parametrize("sizing", list(Sizing))
@pytest.mark.parametrize("scale", [1.5, 4.0])
def test_a_faithful_result_is_reduced_to_the_photo(upscaler, monkeypatch, sizing, scale):
    preset = replace(upscaler.components.preset, sizing=sizing)
    monkeypatch.setattr(upscaler.components, "preset", preset)
    monkeypatch.setattr("xpsr_cli.upscaling.canvas.PROCESS_SIZE_PX", 128)
    photo, reached = soft_photo(noise_photo(35, 41)), []
    for fidelity in (0.0, 0.5, 1.0):
        result = upscaler.upscale(photo, replace(SIX_WINDOWS, scale=scale, fidelity=fidelity))
        assert result.agreement is None
        reached.append(lr_psnr(result.photo(), photo))
        assert (result.agreement is None) == (fidelity == 0)
        assert fidelity == 0 or result.agreement == pytest.approx(reached[-1], abs=0.01)
    assert reached[1] > reached[0] + 6
    assert reached[2] > 55


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("grey", [False, True])
def test_a_faithful_result_has_the_bits_and_colours_of_the_photo(upscaler, dtype, grey):
    values = np.random.default_rng(0).uniform(0.35, 0.6, (33, 40, 1 if grey else 3)).repeat(3 if grey else 1, axis=2)
    white = 1 if dtype is np.float32 else np.iinfo(dtype).max
    photo = Photo((values * white).astype(dtype), grey=grey)
    result = upscaler.upscale(photo, replace(SIX_WINDOWS, scale=2.0, fidelity=1.0)).photo()
    assert result.pixels.dtype == dtype
    assert not grey or (result.pixels == result.pixels[..., :1]).all()
    assert lr_psnr(result, photo) > (55 if dtype is np.uint8 else 95)


def test_fidelity_is_to_what_is_seen_and_leaves_transparency_alone(upscaler):
    alpha = np.full((40, 44), 255, np.uint8)
    alpha[:, 22:] = 0
    photo = replace(soft_photo(noise_photo(40, 44)), alpha=alpha)
    settings = UpscaleSettings(scale=2.0, steps=2, fidelity=1.0)
    free, result = (upscaler.upscale(photo, replace(settings, fidelity=f)).photo() for f in (0.0, 1.0))
    assert np.array_equal(free.alpha, result.alpha)
    large, small = (torch.from_numpy(p.pixels / 255).permute(2, 0, 1) for p in (result, photo))
    difference = (Operator((80, 88), (40, 44))(large) - small)[..., :22]
    assert difference.square().mean().sqrt() < 1 / 255 / 2


def test_zero_latent(upscaler):
    photo = noise_photo()
    result = upscaler.upscale(photo, UpscaleSettings(), zero_latent=True)
    assert "sample" not in result.seconds
    plain = pixels_01(upscaler.upscale(photo, UpscaleSettings(steps=1), zero_latent=True))
    assert np.array_equal(pixels_01(result), plain)
    canvas = Canvas(photo, 4.0, Sizing.PAD)
    wanted = canvas.enlarged(0, 200).permute(1, 2, 0).numpy()
    assert np.abs(pixels_01(result) - wanted).max() < 1e-5  # an untrained decoder adds nothing


def test_zero_latent_leaves_half_done_work_alone(upscaler, tmp_path):
    photo, settings = noise_photo(), replace(SIX_WINDOWS, in_memory_mp=0.0)
    upscaler.upscale(photo, settings, work_folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    result = pixels_01(upscaler.upscale(photo, settings, work_folder=tmp_path, zero_latent=True))
    assert np.array_equal(result, pixels_01(upscaler.upscale(photo, settings, zero_latent=True)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_zero_latent_needs_residual_latents(tiny_model):
    components = load_components(tiny_model)
    components.vae = AutoencoderKL(block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4)
    upscaler = Upscaler.from_components(components, "cpu", Precision.FP32)
    with pytest.raises(UsageError, match="tiny"):
        upscaler.upscale(noise_photo(), UpscaleSettings(), zero_latent=True)


def test_the_result_tells_how_it_came_about(upscaler):
    result = upscaler.upscale(noise_photo(), replace(SIX_WINDOWS, seed=7, scheduler=SchedulerName.DDPM))
    assert result.seed == 7
    assert result.windows == 6
    result.photo()
    assert set(result.seconds) == {"prompts", "encode", "sample", "decode"}
    assert result.settings["scheduler"] == "ddpm"
    assert result.settings["steps"] == 2
    assert result.settings["guidance_scale"] == upscaler.components.preset.guidance_scale
    assert json.loads(json.dumps(result.settings)) == {**result.settings, "region_prompts": []}


def counted(upscaler, settings, photo):
    """The result's pixels and how many texts were encoded for it."""
    calls = []
    handle = upscaler.components.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    upscaler.prompts.encode.cache_clear()
    pixels = pixels_01(upscaler.upscale(photo, settings))
    handle.remove()
    return pixels, len(calls)


def test_a_region_prompt_changes_its_own_windows_only(upscaler):
    photo = noise_photo(50, 150)
    settings = replace(SIX_WINDOWS, steps=1)
    halves = [RegionPrompt(0, 0, 75, 50, "a photo"), RegionPrompt(75, 0, 75, 50, "a photo")]
    plain, _ = counted(upscaler, replace(settings, prompt="a photo"), photo)
    same, encoded = counted(upscaler, replace(settings, prompt="not heard", region_prompts=tuple(halves)), photo)
    assert np.array_equal(same, plain)
    assert encoded == 4  # the two regions' one text, the two negative ones, the empty low prompt
    halves[1] = replace(halves[1], prompt="a house")
    other, encoded = counted(upscaler, replace(settings, region_prompts=tuple(halves)), photo)
    assert encoded == 5
    changed = np.abs(other - plain).max(axis=(0, 2))  # by column
    assert changed[: 600 // 2 - 128].max() == 0  # windows whose centre lies on the left, and only those, reach there
    assert changed[-128:].min() > 0


def test_a_prompt_of_a_place_that_the_photo_does_not_have_is_refused(upscaler):
    photo, elsewhere = noise_photo(50, 150), RegionPrompt(100, 0, 75, 50, "a house")
    with pytest.raises(PhotoError, match="75 x 50 pixels at 100, 0, and the photo is 150 x 50 pixels"):
        upscaler.upscale(photo, replace(SIX_WINDOWS, region_prompts=(elsewhere,)))


def test_a_long_prompt_counts_to_its_last_word(upscaler):
    long = "house " * 200

    def pixels(prompt, **settings):
        options = replace(SIX_WINDOWS, steps=1, prompt=prompt, **settings)
        return pixels_01(upscaler.upscale(noise_photo(), options))

    assert not np.array_equal(pixels(long + "photo"), pixels(long))
    cut = {"long_prompts": "truncate"}
    assert np.array_equal(pixels(long + "photo", **cut), pixels(long, **cut))


def test_progress_is_told_every_stage_and_every_step(upscaler):
    told = []

    class Listener:
        def stage(self, name, total):
            told.append([name, total, 0])

        def advance(self, count=1):
            told[-1][2] += count

        def skip(self, count):
            assert not count

    upscaler.upscale(noise_photo(), replace(SIX_WINDOWS, steps=3), Listener()).photo()
    assert [name for name, _, _ in told] == ["prompts", "encode", "sample", "decode"]
    assert told[2][1] == 3 * 6
    assert all(total == done > 0 for _, total, done in told)


def test_too_small_photos_are_refused(upscaler):
    with pytest.raises(PhotoError, match="15 x 40"):
        upscaler.upscale(noise_photo(40, 15), UpscaleSettings())


def test_a_lack_of_memory_names_photo_and_way_out(upscaler, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(upscaler.components.unet, "forward", exhausted)
    with pytest.raises(OutOfMemoryError, match="photo") as caught:
        upscaler.upscale(noise_photo(), UpscaleSettings())
    assert "tile" in caught.value.hint


def test_a_lack_of_memory_for_the_pixels_names_the_photo_too(upscaler, monkeypatch):
    result = upscaler.upscale(noise_photo(), SIX_WINDOWS)

    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(upscaler.codec.vae, "decode_residual", exhausted)
    with pytest.raises(OutOfMemoryError, match="photo"):
        result.photo()


@pytest.fixture
def published(tiny_model):
    """A model like the published ones: a KL autoencoder, noise predicted, DDPM from the noised input."""
    components = load_components(tiny_model)
    golden = Path(__file__).parents[1] / "golden" / "xpsr"
    components.unet, components.controlnet = load_unet(golden / "unet"), load_controlnet(golden / "controlnet")
    components.vae = AutoencoderKL.from_pretrained(golden / "vae", local_files_only=True)
    components.scheduler_config = json.loads((golden / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    components.preset = SamplingPreset()
    width = components.unet.config.cross_attention_dim
    components.text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(components.tokenizer),
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    return components


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_published_models_run_as_published(published, precision, monkeypatch):
    monkeypatch.setattr("xpsr_cli.upscaling.canvas.PROCESS_SIZE_PX", 128)
    upscaler = Upscaler.from_components(published, "cpu", precision)
    settings = UpscaleSettings(scale=2.5, steps=2, tile_size=128, tile_overlap=64)
    result = upscaler.upscale(noise_photo(40, 70), settings)
    assert result.photo().size == (175, 100)
    assert result.windows == 3
    assert result.settings["start"] == "lr"
    reference = bicubic(noise_photo(40, 70), 2.5).astype(float)  # AdaIN gives the result its colours
    difference = result.photo().pixels.mean(axis=(0, 1)) - reference.mean(axis=(0, 1))
    assert np.abs(difference).max() < 4
    if precision is Precision.FP32:
        again = upscaler.upscale(noise_photo(40, 70), replace(settings, tile_batch=2))
        assert np.array_equal(again.photo().pixels, result.photo().pixels)
        other = upscaler.upscale(noise_photo(40, 70), replace(settings, seed=1))
        assert not np.array_equal(other.photo().pixels, result.photo().pixels)
