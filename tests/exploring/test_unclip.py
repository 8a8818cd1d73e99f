"""unCLIP as a prior, against the pipeline of diffusers on the same tiny random networks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UnCLIPPipeline
from diffusers.schedulers import UnCLIPScheduler
from PIL import Image
from tiny_priors import BASE_PX, REFINED_PX, save_unclip
from transformers import CLIPImageProcessor

from xpsr_cli.device import Placement
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.exploring.explorer import Explorer
from xpsr_cli.exploring.options import ExploreOptions, Method
from xpsr_cli.exploring.priors import Request
from xpsr_cli.exploring.unclip import UnclipPrior, mix_embeddings, respaced
from xpsr_cli.sampling.schedulers import make_scheduler
from xpsr_cli.settings import SchedulerName

PLACEMENT = Placement(torch.device("cpu"), torch.float32)
BASE, REFINED = (BASE_PX, BASE_PX), (REFINED_PX, REFINED_PX)
SMALL = torch.linspace(0.3, 0.7, 8).expand(3, 8, 8)
REQUEST = Request("a photo of a cat", seed=5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_unclip(tmp_path_factory.mktemp("unclip"))


@pytest.fixture(scope="module")
def prior(folders: tuple[Path, Path]) -> UnclipPrior:
    return UnclipPrior("karlo", *folders, PLACEMENT)


@dataclass
class Calls:
    """What the pipeline of diffusers gave its networks, and what they made of it."""

    embedding: list[torch.Tensor] = field(default_factory=list)
    decoder: list[tuple[torch.Tensor, int, torch.Tensor]] = field(default_factory=list)
    first: list[tuple[torch.Tensor, int, torch.Tensor]] = field(default_factory=list)
    last: list[tuple[torch.Tensor, int, torch.Tensor]] = field(default_factory=list)
    decoded: list[torch.Tensor] = field(default_factory=list)


@pytest.fixture(scope="module")
def calls(prior: UnclipPrior) -> Calls:
    """Those of one run of the pipeline for the words of ``REQUEST``."""
    made = Calls()
    schedulers = {
        "prior_scheduler": UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0),
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range"),
        "super_res_scheduler": UnCLIPScheduler(),
    }
    pipeline = UnCLIPPipeline(
        prior=prior.prior,
        decoder=prior.decoder,
        text_encoder=prior.text_encoder,
        tokenizer=prior.tokenizer,
        text_proj=prior.text_proj,
        super_res_first=prior.enlargers[0],
        super_res_last=prior.enlargers[1],
        **schedulers,
    )
    pipeline.set_progress_bar_config(disable=True)

    def keep(calls: list[Any]) -> Any:
        return lambda _, args, given, output: calls.append((given["sample"], int(given["timestep"]), output.sample))

    step = schedulers["decoder_scheduler"].step

    def stepping(*args: Any, **given: Any) -> Any:
        result = step(*args, **given)
        made.decoded.append(result.prev_sample)
        return result

    schedulers["decoder_scheduler"].step = stepping
    hooks = [
        prior.text_proj.register_forward_pre_hook(
            lambda _, args, given: made.embedding.append(given["image_embeddings"]), with_kwargs=True
        ),
        prior.decoder.register_forward_hook(keep(made.decoder), with_kwargs=True),
        prior.enlargers[0].register_forward_hook(keep(made.first), with_kwargs=True),
        prior.enlargers[1].register_forward_hook(keep(made.last), with_kwargs=True),
    ]
    pipeline(
        REQUEST.prompt,
        prior_num_inference_steps=25,
        decoder_num_inference_steps=2,
        super_res_num_inference_steps=7,
        generator=torch.Generator().manual_seed(REQUEST.seed),
        output_type="pt",
    )
    for hook in hooks:
        hook.remove()
    return made


def test_words_become_the_embedding_that_the_pipeline_draws(prior: UnclipPrior, calls: Calls) -> None:
    torch.testing.assert_close(prior.text_to_image_embedding(REQUEST), calls.embedding[0])


@torch.no_grad()
def test_the_decoder_is_guided_as_in_the_pipeline(prior: UnclipPrior, calls: Calls) -> None:
    decoder, _ = prior.stages((8, 8), REFINED)
    predict = decoder.predictor(REQUEST, SMALL[None], None)
    assert len(calls.decoder) == 2
    for sample, timestep, output in calls.decoder:
        negative, positive = output[:, :3].chunk(2)
        expected = negative + 8 * (positive - negative)
        torch.testing.assert_close(predict(sample[:1], timestep), expected, atol=1e-4, rtol=1e-4)
        assert (expected - positive).abs().max() > 0.05


@torch.no_grad()
def test_the_enlarger_does_what_the_pipeline_does(prior: UnclipPrior, calls: Calls) -> None:
    _, enlarger = prior.stages((8, 8), REFINED)
    predict = enlarger.predictor(REQUEST, SMALL[None], calls.decoded[-1].clamp(-1, 1))
    made = [*calls.first, *calls.last]
    assert [len(calls.first), len(calls.last)] == [6, 1]
    for step, (sample, _, output) in zip(reversed(range(7)), made, strict=True):
        torch.testing.assert_close(predict(sample[:, :3], step), output, atol=1e-5, rtol=1e-4)


def test_seven_steps_are_a_chain_of_their_own() -> None:
    """Each step of the own chain is the one that unCLIP's scheduler takes between the timesteps they stand for."""
    config = {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000}
    fields, visited = respaced(config, 7)
    ours, theirs = make_scheduler(SchedulerName.DDPM, fields, 7), UnCLIPScheduler(clip_sample=False)
    theirs.set_timesteps(7)
    assert visited[::-1] == theirs.timesteps.tolist()
    assert ours.timesteps.tolist() == [6, 5, 4, 3, 2, 1, 0]
    for step in range(1, 6):  # at 6 their scheduler divides by the root of 2.4e-9, ours by that of the least it allows
        x, eps = torch.randn(1, 3, 4, 4).double(), torch.randn(1, 3, 4, 4).double()
        noise = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        expected = theirs.step(
            eps,
            visited[step],
            x,
            prev_timestep=visited[step - 1],
            generator=torch.Generator().manual_seed(step),
        ).prev_sample
        torch.testing.assert_close(ours.step(eps, step, x, noise).prev_sample, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("method", "dtype"), [(Method.DDNM, torch.float32), (Method.PIGDM, torch.bfloat16)])
def test_samples_reduce_to_the_small_picture(folders: tuple[Path, Path], method: Method, dtype: torch.dtype) -> None:
    prior = UnclipPrior("karlo", *folders, Placement(torch.device("cpu"), dtype))
    request = Request("a cat", image_weight=0.3)
    sample = Explorer(prior).sample(SMALL, REFINED, request, ExploreOptions(method=method))
    assert [(stage.name, stage.size, stage.steps) for stage in sample.stages] == [
        ("decoder", BASE, 25),
        ("enlarger", REFINED, 7),
    ]
    assert sample.final_db > 50


@pytest.mark.parametrize("scheduler", list(SchedulerName))
def test_any_scheduler_takes_the_few_steps(prior: UnclipPrior, scheduler: SchedulerName) -> None:
    sample = Explorer(prior).sample(
        torch.rand(3, 16, 16) / 2 + 0.25, REFINED, REQUEST, ExploreOptions(scheduler=scheduler)
    )
    assert [(stage.name, stage.steps) for stage in sample.stages] == [("enlarger", 7)]
    assert sample.final_db > 50


def test_a_stage_takes_no_more_steps_than_it_has(prior: UnclipPrior) -> None:
    options = ExploreOptions(steps=26)  # of the decoder, in whose place the enlarger stands here
    sample = Explorer(prior).sample(torch.rand(3, 16, 16) / 2 + 0.25, REFINED, REQUEST, options)
    assert [(stage.name, stage.steps) for stage in sample.stages] == [("enlarger", 7)]


def test_the_picture_counts_as_much_as_it_is_said_to(prior: UnclipPrior) -> None:
    decoder, _ = prior.stages((8, 8), REFINED)
    x, given = torch.randn(1, 3, *BASE), SMALL[None] * 2 - 1
    words, same, little, much = (
        decoder.predictor(Request("a cat", image_weight=weight), given, None)(x, 500) for weight in (0, 0, 0.2, 0.9)
    )
    assert torch.equal(words, same)
    assert 0 < (little - words).abs().mean() < (much - words).abs().mean()


def test_a_mix_of_embeddings_keeps_their_length() -> None:
    words, picture = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    torch.testing.assert_close(mix_embeddings(words, picture, 0.0), words)
    torch.testing.assert_close(mix_embeddings(words, picture, 1.0), picture)
    middle = mix_embeddings(words, picture, 0.5)
    assert middle.norm().item() == pytest.approx(4.0)
    assert (middle > 0).all()


@pytest.mark.parametrize("size", [(24, 24), (20, 36)])
def test_pictures_are_read_as_by_the_feature_extractor(
    prior: UnclipPrior, folders: tuple[Path, Path], size: tuple[int, int]
) -> None:
    picture = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    reader = CLIPImageProcessor.from_pretrained(folders[1] / "feature_extractor")
    pixels = torch.as_tensor(reader(Image.fromarray(picture.numpy()), return_tensors="pt").pixel_values)
    with torch.no_grad():
        expected = prior.image_encoder(pixels).image_embeds
    ours = prior.image_embedding(picture.permute(2, 0, 1)[None] / 127.5 - 1)
    torch.testing.assert_close(ours, expected, atol=0.02, rtol=0.02)  # theirs is rounded to 8 bits on the way


def test_without_an_image_encoder_the_picture_cannot_count(folders: tuple[Path, Path]) -> None:
    prior = UnclipPrior("karlo", folders[0], None, PLACEMENT)
    decoder, _ = prior.stages((8, 8), REFINED)
    decoder.predictor(Request("a cat"), SMALL[None], None)
    with pytest.raises(WeightsError, match="has no image encoder"):
        decoder.predictor(Request("a cat", image_weight=0.5), SMALL[None], None)


def test_an_image_encoder_in_the_same_folder_is_found(folders: tuple[Path, Path], tmp_path: Path) -> None:
    whole = tmp_path / "karlo"
    shutil.copytree(folders[0], whole)
    for part in ("image_encoder", "feature_extractor"):
        shutil.copytree(folders[1] / part, whole / part)
    assert UnclipPrior("karlo", whole, None, PLACEMENT).image_embedding(SMALL[None]).shape == (1, 12)


def test_predictions_can_be_differentiated_and_leave_nothing_behind(prior: UnclipPrior) -> None:
    decoder, enlarger = prior.stages((8, 8), REFINED)
    for stage, timestep in ((decoder, 500), (enlarger, 0), (enlarger, 6)):
        canvas = torch.randn(1, 3, *stage.size, requires_grad=True)
        stage.predictor(Request("a cat"), SMALL[None], None)(canvas, timestep).square().sum().backward()
        assert canvas.grad is not None
        assert canvas.grad.abs().sum() > 0
    networks = (prior.decoder, *prior.enlargers, prior.prior, prior.text_proj)
    assert all(parameter.grad is None for network in networks for parameter in network.parameters())


def test_without_guidance_only_the_words_are_asked(prior: UnclipPrior) -> None:
    decoder, _ = prior.stages((8, 8), REFINED)
    x = torch.randn(1, 3, *BASE)
    one, nearly, own = (
        decoder.predictor(Request("a cat", guidance_scale=scale), SMALL[None], None)(x, 500)
        for scale in (1.0, 1.0 + 1e-6, None)
    )
    torch.testing.assert_close(one, nearly, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(one, own)


def test_a_picture_too_large_is_refused(prior: UnclipPrior) -> None:
    with pytest.raises(UsageError, match="up to 32 pixels on a side, not 40 x 40"):
        prior.stages((8, 8), (40, 40))


@pytest.mark.parametrize("part", ["text_proj", "super_res_last", "prior_scheduler"])
def test_a_missing_part_is_named(folders: tuple[Path, Path], tmp_path: Path, part: str) -> None:
    shutil.copytree(folders[0], tmp_path / "karlo")
    shutil.rmtree(tmp_path / "karlo" / part)
    with pytest.raises(WeightsError, match=f"no {part}/ folder, which unCLIP needs"):
        UnclipPrior("karlo", tmp_path / "karlo", None, PLACEMENT)
