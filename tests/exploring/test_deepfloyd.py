"""DeepFloyd IF as a prior, against the pipelines of diffusers on the same tiny random networks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, IFPipeline, IFSuperResolutionPipeline
from tiny_priors import BASE_PX, REFINED_PX, save_deepfloyd
from transformers import T5TokenizerFast

from xpsr_cli.device import Placement
from xpsr_cli.errors import MissingExtraError, UsageError, WeightsError
from xpsr_cli.exploring.deepfloyd import CONDITION_DRAW, DeepFloydPrior, load_t5_tokenizer
from xpsr_cli.exploring.explorer import Explorer
from xpsr_cli.exploring.options import ExploreOptions, Method
from xpsr_cli.exploring.priors import Predict, Request
from xpsr_cli.sampling.noise import window_noise
from xpsr_cli.sampling.tiles import Window

PLACEMENT = Placement(torch.device("cpu"), torch.float32)
BASE, REFINED = (BASE_PX, BASE_PX), (REFINED_PX, REFINED_PX)
SMALL = torch.linspace(0.3, 0.7, 8).expand(3, 8, 8)
STEPS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_deepfloyd(tmp_path_factory.mktemp("if"))


@pytest.fixture(scope="module")
def prior(folders: tuple[Path, Path]) -> DeepFloydPrior:
    return DeepFloydPrior("if", *folders, PLACEMENT)


def published(**options: Any) -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="fixed_small", **options)


def texts(prior: DeepFloydPrior, request: Request) -> dict[str, Any]:
    return {
        "prompt_embeds": prior.encode_text(request.prompt),
        "negative_prompt_embeds": prior.encode_text(request.negative_prompt),
        "num_inference_steps": STEPS,
        "output_type": "pt",
    }


def parts(prior: DeepFloydPrior, stage: int) -> dict[str, Any]:
    others = ("tokenizer", "text_encoder", "safety_checker", "feature_extractor", "watermarker")
    return {"unet": prior.unets[stage], "requires_safety_checker": False, **dict.fromkeys(others)}


@torch.no_grad()
def drawn(predict: Predict, scheduler: DDPMScheduler, side: int) -> torch.Tensor:
    """What the pipelines' own loop makes of our predictions, with the noise of their generator."""
    generator = torch.Generator().manual_seed(5)
    scheduler.set_timesteps(STEPS)
    x = torch.randn(1, 3, side, side, generator=generator)
    if side == REFINED_PX:
        torch.randn(1, 3, side, side, generator=generator)  # the noise beside it, of which we have our own
    for timestep in scheduler.timesteps.tolist():
        x = scheduler.step(predict(x, timestep), timestep, x, generator=generator).prev_sample
    return x


@pytest.mark.parametrize("scale", [None, 1.0, 3.0])
def test_the_base_draws_what_the_pipeline_draws(prior: DeepFloydPrior, scale: float | None) -> None:
    request = Request("a cat", "a dog", scale)
    pipeline = IFPipeline(**parts(prior, 0), scheduler=published(thresholding=True))
    theirs = pipeline(
        **texts(prior, request), guidance_scale=scale or 7.0, generator=torch.Generator().manual_seed(5)
    ).images
    base, _ = prior.stages((8, 8), REFINED)
    ours = drawn(base.predictor(request, SMALL[None], None), published(thresholding=True), BASE_PX)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


class OurNoise(DDPMScheduler):
    """Noises the condition with the noise that our seed gives."""

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: Any) -> torch.Tensor:
        assert noise.shape == original_samples.shape
        ours = window_noise(Window(0, 0, *REFINED), 3, seed=9, draw=CONDITION_DRAW)
        return super().add_noise(original_samples, ours, timesteps)


def test_the_refiner_draws_what_the_pipeline_draws(prior: DeepFloydPrior) -> None:
    request, before = Request("a cat", seed=9, guidance_scale=2.0), torch.rand(1, 3, *BASE) * 2 - 1
    pipeline = IFSuperResolutionPipeline(
        **parts(prior, 1),
        scheduler=published(),
        image_noising_scheduler=OurNoise(beta_schedule="squaredcos_cap_v2"),
    )
    theirs = pipeline(
        **texts(prior, request), image=before, guidance_scale=4.0, generator=torch.Generator().manual_seed(5)
    ).images
    _, refiner = prior.stages((8, 8), REFINED)
    ours = drawn(refiner.predictor(request, SMALL[None], before), published(), REFINED_PX)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_texts_are_read_as_the_pipeline_reads_them(prior: DeepFloydPrior) -> None:
    pipeline = IFPipeline(
        **(parts(prior, 0) | {"tokenizer": prior.tokenizer, "text_encoder": prior.text_encoder}), scheduler=published()
    )
    positive, negative = pipeline.encode_prompt(" A Cat ", negative_prompt="dog")
    torch.testing.assert_close(prior.encode_text(" A Cat "), positive)
    torch.testing.assert_close(prior.encode_text("dog"), negative)


def test_a_prompt_too_long_is_cut_with_a_word_about_it(
    prior: DeepFloydPrior, caplog: pytest.LogCaptureFixture
) -> None:
    assert prior.encode_text("cat " * 100).shape[1] == 77
    assert "longer than 77 tokens" in caplog.text


@pytest.mark.parametrize(("method", "dtype"), [(Method.DDNM, torch.float32), (Method.PIGDM, torch.bfloat16)])
def test_samples_reduce_to_the_small_picture(folders: tuple[Path, Path], method: Method, dtype: torch.dtype) -> None:
    prior = DeepFloydPrior("if", *folders, Placement(torch.device("cpu"), dtype))
    sample = Explorer(prior).sample(SMALL, REFINED, Request("a cat"), ExploreOptions(method=method, steps=4))
    assert [(stage.name, stage.size, stage.steps) for stage in sample.stages] == [
        ("base", BASE, 4),
        ("refiner", REFINED, 2),
    ]
    assert sample.pixels_u8.shape == (*REFINED, 3)
    assert sample.final_db > 50


def test_thresholds_are_those_of_the_folder(prior: DeepFloydPrior) -> None:
    base, refiner = (stage.scheduler_config for stage in prior.stages((8, 8), REFINED))
    assert base["thresholding"] is True
    assert (base["dynamic_thresholding_ratio"], base["sample_max_value"]) == (0.95, 1.5)
    assert refiner["thresholding"] is False
    assert "variance_type" not in base


@pytest.mark.parametrize(
    ("small", "large", "expected"),
    [
        ((8, 8), (32, 32), [("base", (16, 16)), ("refiner", (32, 32))]),
        ((4, 4), (16, 16), [("base", (16, 16))]),
        ((4, 4), (12, 12), [("base", (12, 12))]),
        ((16, 16), (32, 32), [("refiner", (32, 32))]),
        ((5, 7), (23, 31), [("base", (12, 16)), ("refiner", (23, 31))]),
    ],
)
def test_stages_lead_from_the_small_picture_to_the_large_one(
    prior: DeepFloydPrior, small: tuple[int, int], large: tuple[int, int], expected: list[tuple[str, tuple[int, int]]]
) -> None:
    assert [(stage.name, stage.size) for stage in prior.stages(small, large)] == expected


def test_any_shape_can_be_drawn(prior: DeepFloydPrior) -> None:
    small = torch.linspace(0.3, 0.7, 7).expand(3, 5, 7)
    sample = Explorer(prior).sample(small, (23, 31), Request("a dog"), ExploreOptions(steps=2))
    assert sample.pixels_u8.shape == (23, 31, 3)
    assert sample.final_db > 50


def test_without_the_base_the_refiner_sees_the_given_picture(prior: DeepFloydPrior) -> None:
    (refiner,) = prior.stages((16, 16), REFINED)
    x, given = torch.randn(1, 3, *REFINED), torch.rand(1, 3, 16, 16)
    alone = refiner.predictor(Request("a cat"), given, None)(x, 100)
    torch.testing.assert_close(alone, refiner.predictor(Request("a cat"), torch.zeros_like(given), given)(x, 100))
    assert not torch.equal(alone, refiner.predictor(Request("a cat"), given, -given)(x, 100))


def test_the_seed_decides_the_noise_beside_the_refiner(prior: DeepFloydPrior) -> None:
    _, refiner = prior.stages((8, 8), REFINED)
    x, before = torch.randn(1, 3, *REFINED), torch.rand(1, 3, *BASE)
    one, again, two = (refiner.predictor(Request("a cat", seed=s), before, before)(x, 100) for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, two)


def test_predictions_can_be_differentiated_and_leave_nothing_behind(prior: DeepFloydPrior) -> None:
    for stage in prior.stages((8, 8), REFINED):
        canvas = torch.randn(1, 3, *stage.size, requires_grad=True)
        stage.predictor(Request("a cat"), SMALL[None], None)(canvas, 500).square().sum().backward()
        assert canvas.grad is not None
        assert canvas.grad.abs().sum() > 0
    assert all(parameter.grad is None for unet in prior.unets for parameter in unet.parameters())


def test_the_first_stage_alone_makes_small_pictures(folders: tuple[Path, Path]) -> None:
    prior = DeepFloydPrior("if", folders[0], None, PLACEMENT)
    assert [stage.name for stage in prior.stages((4, 4), BASE)] == ["base"]
    with pytest.raises(UsageError, match="stage I of DeepFloyd IF"):
        prior.stages((8, 8), REFINED)


def test_a_picture_too_large_is_refused(prior: DeepFloydPrior) -> None:
    with pytest.raises(UsageError, match="up to 32 pixels on a side, not 64 x 33"):
        prior.stages((8, 8), (33, 64))


def test_stages_in_the_wrong_place_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[0], tmp_path / "mixed")
    shutil.rmtree(tmp_path / "mixed" / "unet")
    shutil.copytree(folders[1] / "unet", tmp_path / "mixed" / "unet")
    with pytest.raises(WeightsError, match="takes 6 channels, that of stage 1 3"):
        DeepFloydPrior("if", tmp_path / "mixed", None, PLACEMENT)


def test_a_missing_part_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[1], tmp_path / "IF-II")
    shutil.rmtree(tmp_path / "IF-II" / "image_noising_scheduler")
    with pytest.raises(WeightsError, match="no image_noising_scheduler/ folder, which stage II"):
        DeepFloydPrior("if", folders[0], tmp_path / "IF-II", PLACEMENT)


def test_a_sentencepiece_file_without_its_packages_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spiece.model").write_bytes(b"\n\x05")
    monkeypatch.setattr("xpsr_cli.exploring.deepfloyd.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="two packages that are not installed") as caught:
        load_t5_tokenizer(tmp_path, 100)
    assert "pip install sentencepiece protobuf" in caught.value.hint


@pytest.mark.parametrize(("content", "said"), [(None, "holds no T5 tokenizer"), (b"{}", "holds no T5 tokenizer")])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        load_t5_tokenizer(tmp_path, 100)


def test_a_tokenizer_of_another_model_is_refused(folders: tuple[Path, Path]) -> None:
    known = len(T5TokenizerFast.from_pretrained(folders[0] / "tokenizer"))
    load_t5_tokenizer(folders[0] / "tokenizer", known)
    with pytest.raises(WeightsError, match=f"of {known} tokens; the text encoder knows {known - 1}"):
        load_t5_tokenizer(folders[0] / "tokenizer", known - 1)


def test_a_picture_cannot_count_beside_the_words(prior: DeepFloydPrior) -> None:
    for stage in prior.stages((8, 8), REFINED):
        with pytest.raises(UsageError, match="image_weight is 0.3, but (if|sd) has no image embeddings"):
            stage.predictor(Request("a cat", image_weight=0.3), SMALL[None], None)
