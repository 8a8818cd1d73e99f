"""Activators on a tiny model of the real classes, and what mode cassr does with their references."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xpsr_cli.errors import UsageError
from xpsr_cli.models.degradation_free import clean_photo
from xpsr_cli.models.loading import Components, load_components
from xpsr_cli.models.reference_attention import ReferenceForm
from xpsr_cli.models.reference_loading import (
    ReferenceShape,
    add_reference,
    load_reference,
    new_weights,
    save_reference,
)
from xpsr_cli.models.tuner_loading import save_tuner, tuner_for
from xpsr_cli.photos.photo import Photo
from xpsr_cli.progress import SilentProgress
from xpsr_cli.sampling.tiles import Window
from xpsr_cli.settings import ColorFix, Mode, Precision, SchedulerName, Sizing, StartLatent, UpscaleSettings
from xpsr_cli.upscaling.activation import STAGE_TOTAL, make_activator
from xpsr_cli.upscaling.canvas import Canvas
from xpsr_cli.upscaling.color import wavelet_chroma
from xpsr_cli.upscaling.reference_store import ReferenceStore
from xpsr_cli.upscaling.upscaler import Upscaler

CASCADE = UpscaleSettings(mode=Mode.CASSR, steps=2)
ALONE = UpscaleSettings(mode=Mode.ACTIVATOR)
WINDOWS = UpscaleSettings(mode=Mode.CASSR, steps=2, tile_size=128, tile_overlap=64)


def save_add_on(base: Components, folder: Path, activator: str = "dfc", steps: int = 2) -> Path:
    """An add-on that does change pictures, with a skip tuner that does too."""
    torch.manual_seed(5)
    count = len(base.unet.config.block_out_channels)
    shape = ReferenceShape(ReferenceForm.SEPARATE, (True,) * count, 4)
    model = add_reference(base, shape)
    weights = {
        key: value + 0.3 * torch.randn_like(value)
        for key, value in {**new_weights(model.unet), **new_weights(model.controlnet)}.items()
    }
    card = {"name": "add-on", "base": base.name, "base_weights": base.fingerprint}
    save_reference(folder, weights, shape, **card, reference={"activator": activator, "steps": steps})
    tuner = tuner_for(base, [8] * (len(base.controlnet.pyramid.blocks) // 2 + 1))
    for parameter in tuner.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    save_tuner(folder / "activator", tuner, **card, steps=1)
    return folder


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_add_on(load_components(tiny_model), tmp_path_factory.mktemp("add-on"))


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Upscaler:
    return Upscaler.from_components(load_components(tiny_model), "cpu", Precision.FP32)


@pytest.fixture(scope="module")
def upscaler(tiny_model: Path, folder: Path) -> Upscaler:
    return Upscaler.from_components(load_reference(load_components(tiny_model), folder), "cpu", Precision.FP32)


def photo(height: int = 50, width: int = 74, seed: int = 0) -> Photo:
    """Soft blobs, so that enlarging, pixel heads and networks have something to disagree on."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, height // 4 + 2, width // 4 + 2)))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return Photo((255 * fine[0].permute(1, 2, 0).numpy()).astype(np.uint8))


def pixels(
    upscaler: Upscaler, settings: UpscaleSettings, source: Photo | None = None, **options: object
) -> np.ndarray:
    made = upscaler.upscale(source or photo(), settings, **options)  # type: ignore[arg-type]
    return np.concatenate([band.colour for band in made.bands()])


ACTIVATORS = ["bicubic", "dfc", "xpsr", "scedit"]


@pytest.mark.parametrize("name", ACTIVATORS)
@pytest.mark.parametrize(("size", "scale"), [((50, 74), 4.0), ((37, 53), 2.0), ((41, 29), 3.7), ((33, 47), 1.0)])
def test_an_activator_makes_a_picture_of_the_size_asked_for_the_same_twice(upscaler, name, size, scale):
    settings = replace(ALONE, activate=name, scale=scale)
    once, again = (pixels(upscaler, settings, photo(*size)) for _ in range(2))
    assert once.shape == (round(size[0] * scale), round(size[1] * scale), 3)
    assert once.min() >= 0
    assert once.max() <= 1
    assert np.array_equal(once, again)


@pytest.mark.parametrize("name", ACTIVATORS)
def test_a_reference_has_the_colours_of_the_photo(upscaler, name):
    enlarged = pixels(upscaler, replace(ALONE, activate="bicubic"))
    made = pixels(upscaler, replace(ALONE, activate=name, color_fix=ColorFix.WAVELET_CHROMA))
    assert np.abs(made.mean(axis=(0, 1)) - enlarged.mean(axis=(0, 1))).max() < 1 / 255


def test_bicubic_is_the_enlarged_photo(upscaler):
    expected = Canvas(photo(), 4, Sizing.PAD).enlarged(0, 200).permute(1, 2, 0).numpy()
    assert np.abs(pixels(upscaler, replace(ALONE, activate="bicubic")) - expected).max() < 1 / 65535


def test_the_pixel_head_says_the_same_in_windows_as_at_once(upscaler, monkeypatch):
    source = photo(96, 90)
    monkeypatch.setattr("xpsr_cli.upscaling.activation.BAND_PX", 40)
    (activator,) = [make_activator(upscaler, replace(ALONE, activate="dfc"))]
    bands = np.concatenate(list(activator.bands(source, 4.0, SilentProgress(), None)))
    monkeypatch.setattr("xpsr_cli.upscaling.activation.BAND_PX", 4096)
    whole = np.concatenate(list(activator.bands(source, 4.0, SilentProgress(), None)))
    assert np.abs(bands - whole).max() < 1e-5
    canvas = Canvas(source, 4.0, Sizing.PAD)
    enlarged = canvas.image(Window(0, 0, canvas.height, canvas.width))
    cleaned = clean_photo(upscaler.components.controlnet, enlarged)
    width, height = canvas.size
    matched = wavelet_chroma(*(picture[0, :, :height, :width] for picture in (cleaned, enlarged))).clamp(0, 1)
    assert np.abs(whole - matched.permute(1, 2, 0).numpy()).max() < 1e-5


def test_a_short_run_is_plain_xpsr_without_guidance(upscaler, plain):
    run = UpscaleSettings(steps=2, guidance_scale=1.0, scheduler=SchedulerName.DDIM, seed=4, prompt="a dog")
    made = pixels(upscaler, replace(ALONE, activate="xpsr", seed=4, prompt="a dog", guidance_scale=3.0))
    assert np.abs(made - pixels(plain, run)).max() < 1 / 65535


def test_a_skip_tuner_makes_another_picture_than_the_controlnet(upscaler, folder):
    own = pixels(upscaler, replace(ALONE, activate="scedit"))
    assert np.array_equal(own, pixels(upscaler, replace(ALONE, activate=f"scedit:{folder / 'activator'}")))
    assert not np.array_equal(own, pixels(upscaler, replace(ALONE, activate="xpsr")))


def test_an_add_on_changes_nothing_until_it_is_asked(upscaler, plain):
    settings = UpscaleSettings(steps=2)
    expected = pixels(plain, settings)
    assert np.array_equal(pixels(upscaler, settings), expected)
    assert np.array_equal(pixels(upscaler, replace(settings, mode=Mode.CASSR, activate="none")), expected)


def test_the_reference_is_read(upscaler):
    results = [pixels(upscaler, replace(CASCADE, activate=name)) for name in ("none", *ACTIVATORS)]
    assert all(not np.array_equal(one, other) for place, one in enumerate(results) for other in results[:place])


def test_nobody_named_is_whom_the_add_on_was_trained_with(upscaler):
    assert np.array_equal(pixels(upscaler, CASCADE), pixels(upscaler, replace(CASCADE, activate="dfc")))


def test_tiles_of_a_cascade_do_not_depend_on_how_many_run_at_a_time(upscaler):
    one, several = (pixels(upscaler, replace(WINDOWS, tile_batch=count)) for count in (1, 3))
    assert np.array_equal(one, several)


def test_the_second_stage_tiled_is_close_to_untiled(upscaler):
    source = photo(80, 96)  # 320 x 384 pixels of the result
    tiled, whole = (
        pixels(upscaler, replace(WINDOWS, tile_size=size, tile_overlap=128), source) for size in (256, 384)
    )
    assert upscaler.plan(source.info, replace(WINDOWS, tile_size=384)).windows == [Window(0, 0, 80, 96)]
    assert np.abs(tiled - whole).mean() < 0.5 / 255  # of random networks, whose norms see a window and no more
    assert np.abs(tiled - whole).max() > 0


@pytest.mark.parametrize("scheduler", list(SchedulerName))
def test_a_start_from_the_reference_leaves_out_the_first_steps(upscaler, scheduler):
    settings = replace(CASCADE, steps=4, start=StartLatent.REFERENCE, scheduler=scheduler, activate="dfc")
    steps = {share: upscaler.plan(photo().info, replace(settings, strength=share)).steps for share in (None, 0.25, 1)}
    assert steps == {None: 2, 0.25: 1, 1: 4}
    reference = pixels(upscaler, replace(ALONE, activate="dfc"))
    distances = [
        np.abs(pixels(upscaler, replace(settings, strength=strength)) - reference).mean() for strength in (0.25, 1.0)
    ]
    assert distances[0] < distances[1]


@pytest.mark.parametrize("scheduler", list(SchedulerName))
def test_a_cascade_that_was_stopped_goes_on_to_the_same_bytes(upscaler, tmp_path, monkeypatch, scheduler):
    settings = replace(
        WINDOWS, in_memory_mp=0, steps=4, start=StartLatent.REFERENCE, strength=0.75, scheduler=scheduler
    )
    expected = pixels(upscaler, replace(settings, in_memory_mp=4))
    denoise = Upscaler.denoiser
    calls = []

    def stopping(*args, **options):
        real = denoise(*args, **options)

        def window(*inner):
            calls.append(1)
            if len(calls) == 11:
                raise KeyboardInterrupt
            return real(*inner)

        return window

    monkeypatch.setattr(Upscaler, "denoiser", stopping)
    with pytest.raises(KeyboardInterrupt):
        upscaler.upscale(photo(), settings, work_folder=tmp_path)
    assert list(tmp_path.glob("reference-*.rgb"))
    assert json.loads((tmp_path / "position.json").read_text())["step"] >= 1
    assert np.array_equal(pixels(upscaler, settings, work_folder=tmp_path), expected)


def test_a_stored_reference_is_not_made_again(upscaler, tmp_path):
    stored = Upscaler(upscaler.components, upscaler.placement, ReferenceStore(tmp_path))
    settings = replace(CASCADE, activate="xpsr")
    first = pixels(stored, settings)
    (kept,) = tmp_path.glob("*/*.rgb")
    assert np.array_equal(first, pixels(upscaler, settings))
    before = kept.stat().st_ino
    other = pixels(stored, replace(settings, fidelity=0.5))
    assert not np.array_equal(first, other)
    assert [path.stat().st_ino for path in tmp_path.glob("*/*.rgb")] == [
        before
    ]  # another second stage, the same first
    for changed in (replace(settings, seed=1), replace(settings, prompt="a cat"), replace(settings, scale=2)):
        pixels(stored, changed)
    pixels(stored, settings, photo(seed=1))
    assert len(list(tmp_path.glob("*/*.rgb"))) == 5


def test_a_store_that_is_read_only_and_damaged_harms_nobody(upscaler, tmp_path, monkeypatch):
    stored = Upscaler(upscaler.components, upscaler.placement, ReferenceStore(tmp_path / "store"))
    settings = replace(CASCADE, activate="bicubic")
    expected = pixels(stored, settings)
    (kept,) = (tmp_path / "store").glob("*/*.rgb")
    kept.write_bytes(kept.read_bytes()[:100])
    monkeypatch.setattr("xpsr_cli.upscaling.reference_store.os.access", lambda *_: False)
    assert np.array_equal(pixels(stored, settings, work_folder=tmp_path / "work"), expected)
    assert len(list((tmp_path / "work").glob("reference-*.rgb"))) == 1
    assert kept.stat().st_size == 100


def test_the_reference_of_another_version_or_device_is_made_anew(upscaler, tmp_path, monkeypatch):
    stored = Upscaler(upscaler.components, upscaler.placement, ReferenceStore(tmp_path))
    settings = replace(CASCADE, activate="dfc")
    pixels(stored, settings)
    monkeypatch.setattr("xpsr_cli.upscaling.activation.__version__", "0.0.1")
    pixels(stored, settings)
    assert len(list(tmp_path.glob("*/*.rgb"))) == 2
    for name in ("dfc", "xpsr", "scedit"):
        assert make_activator(upscaler, replace(CASCADE, activate=name)).identity["device"] == "cpu"


def test_the_files_of_an_activator_are_read_once(tiny_model, folder, tmp_path):
    upscaler = Upscaler.from_components(load_components(tiny_model), "cpu", Precision.FP32)
    tuner = shutil.copytree(folder / "activator", tmp_path / "tuner")
    settings = replace(ALONE, activate=f"scedit:{tuner}")
    expected = pixels(upscaler, settings)
    shutil.rmtree(tuner)
    assert np.array_equal(pixels(upscaler, settings), expected)


def test_progress_is_told_of_one_stage_more(upscaler):
    class Told:
        def __init__(self):
            self.stages = {}

        def stage(self, name, total):
            self.name = name
            self.stages[name] = [total, 0]

        def advance(self, count=1):
            self.stages[self.name][1] += count

        skip = advance

    for name in ACTIVATORS:
        told = Told()
        np.concatenate(
            [band.colour for band in upscaler.upscale(photo(), replace(CASCADE, activate=name), told).bands()]
        )
        assert list(told.stages) == ["reference", "prompts", "encode", "sample", "decode"]
        assert told.stages["reference"] == [STAGE_TOTAL, STAGE_TOTAL]


def test_a_model_without_add_on_starts_from_the_reference(plain):
    settings = replace(CASCADE, activate="dfc", steps=4)
    made = {start: pixels(plain, replace(settings, start=start)) for start in (None, *StartLatent)}
    assert plain.plan(photo().info, settings).steps == 2
    assert np.array_equal(made[None], made[StartLatent.REFERENCE])
    assert not np.array_equal(made[None], made[StartLatent.LR])
    assert np.array_equal(made[StartLatent.NOISE], pixels(plain, UpscaleSettings(steps=4, start=StartLatent.NOISE)))


def test_an_activator_of_ones_own(upscaler):
    class White:
        identity = {"name": "white"}  # noqa: RUF012 - as the protocol has it

        def bands(self, source, scale, progress, work_folder):
            yield np.ones((200, 296, 3), np.float32)

    assert pixels(upscaler, ALONE, activator=White()).min() == 1
    assert not np.array_equal(pixels(upscaler, CASCADE, activator=White()), pixels(upscaler, CASCADE))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (replace(CASCADE, activate="scedit"), "no skip tuner"),
        (UpscaleSettings(steps=4, strength=0.5), "starts from noise alone"),
        (replace(CASCADE, steps=1, activate="dfc"), "One step begins with noise"),
    ],
)
def test_what_this_model_cannot_do_is_one_sentence(plain, monkeypatch, settings, words):
    monkeypatch.setattr(plain.components, "preset", replace(plain.components.preset, start=StartLatent.NOISE))
    with pytest.raises(UsageError, match=words):
        plain.upscale(photo(), settings)


def test_a_model_without_pixel_heads_has_no_dfc(plain, monkeypatch):
    config = {**plain.components.controlnet.config, "return_rgbs": False}
    monkeypatch.setattr(
        plain.components.controlnet, "_internal_dict", type(plain.components.controlnet.config)(config)
    )
    with pytest.raises(UsageError, match="pixel heads"):
        plain.upscale(photo(), replace(CASCADE, activate="dfc"))


def test_the_identity_names_the_add_on(upscaler, plain):
    assert upscaler.identity["weights"] == plain.identity["weights"]
    assert upscaler.identity["add_on"] == "add-on"
    assert "add_on" not in plain.identity


def test_time_is_measured_with_a_reference_and_told_with_the_first_stage(upscaler):
    assert upscaler.seconds_per_window(WINDOWS) > 0
    steps = {name: upscaler.reference_steps(replace(CASCADE, activate=name)) for name in ("none", *ACTIVATORS)}
    assert steps == {"none": 0, "bicubic": 0, "dfc": 0, "xpsr": 2, "scedit": 1}
