"""Stable Diffusion as a prior: networks of the real classes, tiny and random, in the published layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_priors import save_prior_folder, save_tiny_autoencoder

from xpsr_cli.device import Placement
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.exploring.explorer import Explorer
from xpsr_cli.exploring.options import ExploreOptions
from xpsr_cli.exploring.priors import Request
from xpsr_cli.exploring.stable_diffusion import LatentStage, StableDiffusionPrior

PLACEMENT = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_prior_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def prior(folder: Path) -> StableDiffusionPrior:
    return StableDiffusionPrior("sd", folder, PLACEMENT)


def stage_of(prior: StableDiffusionPrior, height: int = 32, width: int = 32) -> LatentStage:
    (stage,) = prior.stages((4, 4), (height, width))
    assert isinstance(stage, LatentStage)
    return stage


def small_picture(side: int = 4) -> torch.Tensor:
    """(3, side, side) in [0, 1], smooth and away from both ends."""
    ramp = torch.linspace(0.3, 0.7, side)
    return torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), torch.full((side, side), 0.5)])


def predict(prior: StableDiffusionPrior, request: Request, canvas: torch.Tensor, timestep: int = 500) -> torch.Tensor:
    return stage_of(prior).predictor(request, torch.zeros(1, 3, 4, 4), None)(canvas, timestep)


def test_the_stage_says_what_its_canvas_is(prior: StableDiffusionPrior) -> None:
    stage = stage_of(prior, 48, 32)
    assert (stage.size, stage.channels, stage.cell_px, stage.steps) == ((48, 32), 4, 8, 20)
    assert stage.scheduler_config["beta_schedule"] == "scaled_linear"
    assert stage.scheduler_config["prediction_type"] == "epsilon"


@torch.no_grad()
def test_guidance_one_is_the_unet_on_the_prompt_alone(prior: StableDiffusionPrior) -> None:
    canvas = torch.randn(1, 4, 8, 8)
    expected = prior.unet(canvas, 500, encoder_hidden_states=prior.encode_texts(["a house"])).sample
    torch.testing.assert_close(predict(prior, Request("a house", "red", 1.0), canvas), expected)


@torch.no_grad()
def test_guidance_moves_from_the_negative_prompt_through_the_prompt(prior: StableDiffusionPrior) -> None:
    canvas = torch.randn(1, 4, 8, 8)
    negative, positive, beyond, own = (
        predict(prior, Request("a house", "clean", scale), canvas) for scale in (0.0, 1.0, 4.0, None)
    )
    assert not torch.allclose(negative, positive)
    torch.testing.assert_close(beyond, negative + 4 * (positive - negative))
    torch.testing.assert_close(own, beyond)


def test_predictions_can_be_differentiated_and_leave_nothing_behind(prior: StableDiffusionPrior) -> None:
    canvas = torch.randn(1, 4, 8, 8, requires_grad=True)
    predict(prior, Request("a house"), canvas).square().sum().backward()
    assert canvas.grad is not None
    assert canvas.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in prior.unet.parameters())
    assert not predict(prior, Request("a house"), canvas.detach()).requires_grad


@torch.no_grad()
def test_pixels_and_latents_are_those_of_the_autoencoder(prior: StableDiffusionPrior) -> None:
    stage, scale = stage_of(prior), prior.vae.config.scaling_factor
    pixels, canvas = torch.rand(1, 3, 32, 32) * 2 - 1, torch.randn(1, 4, 4, 4)
    torch.testing.assert_close(stage.encode(pixels), prior.vae.encode(pixels).latent_dist.mean * scale)
    torch.testing.assert_close(stage.decode(canvas), prior.vae.decode(canvas / scale).sample)


@torch.no_grad()
def test_pictures_need_not_be_whole_cells(prior: StableDiffusionPrior) -> None:
    stage = stage_of(prior, 30, 19)
    canvas = stage.encode(torch.rand(1, 3, 30, 19) * 2 - 1)
    assert canvas.shape == (1, 4, 4, 3)
    assert stage.decode(canvas).shape == (1, 3, 30, 19)
    assert stage.predictor(Request("a house"), small_picture()[None], None)(canvas, 3).shape == canvas.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_reduce_to_the_small_picture(folder: Path, dtype: torch.dtype) -> None:
    prior = StableDiffusionPrior("sd", folder, Placement(torch.device("cpu"), dtype))
    sample = Explorer(prior).sample(small_picture(), (32, 40), Request("a house"), ExploreOptions(steps=3))
    assert sample.pixels_u8.shape == (32, 40, 3)
    assert sample.final_db > 50


def test_the_words_decide_the_sample(prior: StableDiffusionPrior) -> None:
    options = ExploreOptions(steps=3)
    house, same, photo = (
        Explorer(prior).sample(small_picture(), (32, 32), Request(prompt, guidance_scale=9.0), options).pixels_u8
        for prompt in ("a house", "a house", "clean, high-resolution")
    )
    assert (house == same).all()
    assert (house != photo).any()


@torch.no_grad()
def test_a_tiny_autoencoder_takes_the_place_of_the_large_one(folder: Path, tmp_path: Path) -> None:
    tiny = save_tiny_autoencoder(tmp_path / "taesd")
    prior = StableDiffusionPrior("sd", folder, PLACEMENT, tiny)
    stage = stage_of(prior)
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    assert stage.cell_px == 8
    torch.testing.assert_close(stage.encode(pixels), prior.vae.encode(pixels).latents)
    assert stage.decode(stage.encode(pixels)).shape == (1, 3, 32, 32)
    assert tiny / "diffusion_pytorch_model.safetensors" in prior.files


def test_a_tiny_autoencoder_in_the_folder_is_found(tmp_path: Path) -> None:
    folder = save_prior_folder(tmp_path / "sd")
    save_tiny_autoencoder(folder / "vae_tiny")
    assert type(StableDiffusionPrior("sd", folder, PLACEMENT).vae).__name__ == "AutoencoderTiny"


def test_an_autoencoder_of_other_latents_is_refused(tmp_path: Path) -> None:
    folder = save_prior_folder(tmp_path / "sd", in_channels=9)
    with pytest.raises(WeightsError, match="takes 9 channels"):
        StableDiffusionPrior("sd", folder, PLACEMENT)


def test_a_picture_too_large_is_refused(prior: StableDiffusionPrior) -> None:
    with pytest.raises(UsageError, match="up to 128 pixels on a side, not 136 x 64"):
        prior.stages((4, 8), (64, 136))


def test_velocity_models_say_so(tmp_path: Path) -> None:
    prior = StableDiffusionPrior("sd", save_prior_folder(tmp_path, prediction="v_prediction"), PLACEMENT)
    assert stage_of(prior).scheduler_config["prediction_type"] == "v_prediction"


def test_the_identity_tells_models_and_precisions_apart(folder: Path, tmp_path: Path) -> None:
    prior = StableDiffusionPrior("sd", folder, PLACEMENT)
    same = StableDiffusionPrior("sd", folder, PLACEMENT)
    other = StableDiffusionPrior("sd", save_prior_folder(tmp_path, seed=1), PLACEMENT)
    half = StableDiffusionPrior("sd", folder, Placement(torch.device("cpu"), torch.bfloat16))
    assert prior.identity == same.identity
    assert prior.identity["weights"] != other.identity["weights"]
    assert (prior.identity["device"], prior.identity["precision"]) == ("cpu", "float32")
    assert half.identity["precision"] == "bfloat16"
    assert list(prior.vocabulary) == []


def test_a_picture_cannot_count_beside_the_words(prior: StableDiffusionPrior) -> None:
    for stage in prior.stages((8, 8), (32, 32)):
        with pytest.raises(UsageError, match="image_weight is 0.3, but (if|sd) has no image embeddings"):
            stage.predictor(Request("a cat", image_weight=0.3), small_picture()[None], None)
