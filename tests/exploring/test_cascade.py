"""The pixel cascade as a prior: its stages fit any picture, and its refiner may see one in parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small_photos import refusal
from tiny_cascade import WORDS, save_tiny_cascade, tiny_cascade
from torch import Tensor

from xpsr_cli.device import Placement
from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.exploring import cascade as module
from xpsr_cli.exploring.cascade import CascadePrior, load_cascade
from xpsr_cli.exploring.explorer import Explorer
from xpsr_cli.exploring.operators import Operator, Size
from xpsr_cli.exploring.options import ExploreOptions
from xpsr_cli.exploring.prior_loading import load_prior
from xpsr_cli.exploring.priors import Request
from xpsr_cli.models.pixel_cascade import REFINER

PLACEMENT = Placement(torch.device("cpu"), torch.float32)
REQUEST = Request("water", "sky", seed=4)
SMALL = torch.linspace(0.2, 0.8, 3 * 4 * 4).reshape(3, 4, 4)


@pytest.fixture(scope="module")
def prior() -> CascadePrior:
    return CascadePrior(tiny_cascade(), PLACEMENT)


@pytest.mark.parametrize(
    ("small", "large", "stages"),
    [
        ((4, 4), (32, 32), [("base", (16, 16)), ("refiner", (32, 32))]),
        ((4, 4), (64, 64), [("base", (16, 16)), ("refiner", (64, 64))]),
        ((4, 4), (128, 128), [("base", (16, 16)), ("refiner", (64, 64)), ("refiner", (128, 128))]),
        ((4, 6), (31, 47), [("base", (10, 16)), ("refiner", (31, 47))]),  # sides that nothing divides
        ((2, 8), (32, 128), [("base", (4, 16)), ("refiner", (16, 64)), ("refiner", (32, 128))]),
        ((4, 4), (12, 12), [("base", (12, 12))]),  # no larger than the base's own
        ((16, 16), (64, 64), [("refiner", (64, 64))]),  # as large as the base's own
        ((20, 30), (600, 900), [("refiner", (80, 120)), ("refiner", (320, 480)), ("refiner", (600, 900))]),
    ],
)
def test_the_stages_lead_from_the_small_picture_to_the_large_one(
    prior: CascadePrior, small: Size, large: Size, stages: list[tuple[str, Size]]
) -> None:
    found = prior.stages(small, large)
    assert [(stage.name, stage.size) for stage in found] == stages
    assert [stage.steps for stage in found] == [{"base": 4, "refiner": 2}[stage.name] for stage in found]


def test_a_picture_cannot_be_mixed_into_its_words(prior: CascadePrior) -> None:
    for stage in prior.stages((4, 4), (64, 64)):
        with refusal(UsageError, "image_weight is 0.3", "unCLIP"):
            stage.predictor(Request("water", image_weight=0.3), SMALL[None], None)


def test_a_picture_that_is_too_large_is_refused(prior: CascadePrior) -> None:
    with refusal(UsageError, "2048", "2080 x 520"):
        prior.stages((26, 104), (520, 2080))


@pytest.mark.parametrize("large", [(32, 32), (31, 47), (128, 96)])
def test_samples_reduce_to_the_given_picture(prior: CascadePrior, large: Size) -> None:
    small = F.interpolate(SMALL[None], (4, 6) if large == (31, 47) else (4, 4), mode="bilinear")[0]
    explorer = Explorer(prior)
    first, again = (explorer.sample(small, large, REQUEST) for _ in range(2))
    other = explorer.sample(small, large, Request("water", "sky", seed=5))
    assert first.pixels_u8.shape == (*large, 3)
    assert (first.pixels_u8 == again.pixels_u8).all()
    assert (first.pixels_u8 != other.pixels_u8).any()
    reduced = Operator(large, tuple(small.shape[1:]))(torch.from_numpy(first.pixels_u8).permute(2, 0, 1) / 255)
    assert float((reduced - small).abs().max()) < 0.01


def predicted(prior: CascadePrior, stage: int, request: Request, before: Tensor | None = None) -> Tensor:
    chosen = prior.stages((4, 4), (32, 32))[stage]
    canvas = torch.randn(1, 3, *chosen.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return chosen.predictor(request, SMALL[None] * 2 - 1, before)(canvas, 500)


def test_words_count_as_much_as_asked(prior: CascadePrior) -> None:
    plain = predicted(prior, 0, Request("water", "sky", guidance_scale=1))
    away = predicted(prior, 0, Request("sky", guidance_scale=1))
    guided = predicted(prior, 0, Request("water", "sky", guidance_scale=3))
    torch.testing.assert_close(guided, away + 3 * (plain - away), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, away)
    own = predicted(prior, 0, REQUEST)
    torch.testing.assert_close(own, away + 2 * (plain - away), atol=1e-4, rtol=1e-4)


def test_words_count_as_much_as_asked_where_the_refiner_is_alone(prior: CascadePrior) -> None:
    (stage,) = prior.stages((16, 16), (64, 64))
    given, canvas = SMALL[None], torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    own, off, much, negative = (
        stage.predictor(request, given, None)(canvas, 900)
        for request in (
            Request("water"),
            Request("water", guidance_scale=1.0),
            Request("water", guidance_scale=6.0),
            Request("water", "sky", guidance_scale=6.0),
        )
    )
    assert torch.equal(own, off)  # what its card says
    assert not torch.allclose(much, own)
    assert not torch.allclose(negative, much)


def test_the_refiner_sees_the_picture_before_noised_as_in_training(prior: CascadePrior) -> None:
    grey, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert not torch.allclose(predicted(prior, 1, REQUEST, grey), predicted(prior, 1, REQUEST, white))
    noised = predicted(prior, 1, Request("water", seed=4), grey), predicted(prior, 1, Request("water", seed=5), grey)
    assert not torch.allclose(*noised)
    exact = predicted(prior, 1, Request("water", seed=4)), predicted(prior, 1, Request("water", seed=5))
    exact = predicted(prior, 1, Request("water", seed=4)), predicted(prior, 1, Request("water", seed=5))
    assert not torch.allclose(noised[0], exact[0])
    torch.testing.assert_close(*exact, atol=2e-3, rtol=0)  # the given picture is all but as it is


def test_a_large_picture_is_refined_in_parts(prior: CascadePrior, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = prior.stages((16, 20), (48, 80))[0]
    small = F.interpolate(SMALL[None] * 2 - 1, (16, 20), mode="bilinear")
    canvas = torch.randn(1, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = stage.predictor(REQUEST, small, None)(canvas, 500)
        monkeypatch.setattr(module, "TILE_PX", 32)
        monkeypatch.setattr(module, "OVERLAP_PX", 8)
        parts = stage.predictor(REQUEST, small, None)(canvas, 500)
    assert parts.shape == whole.shape
    assert not torch.equal(parts, whole)
    assert float((parts - whole).abs().mean()) < 0.2 * float(whole.abs().mean())  # statistics of groups differ


def test_gradients_reach_the_canvas(prior: CascadePrior) -> None:
    base = prior.stages((4, 4), (32, 32))[0]
    canvas = torch.zeros(1, 3, 16, 16, requires_grad=True)
    base.predictor(REQUEST, SMALL[None], None)(canvas, 500).sum().backward()
    assert canvas.grad is not None
    assert float(canvas.grad.abs().max()) > 0


def test_a_folder_is_a_prior_by_its_name(tmp_path: Path) -> None:
    folder = save_tiny_cascade(tmp_path / "cascade")
    found = load_prior(str(folder), PLACEMENT)
    assert (found.name, tuple(found.vocabulary)) == ("tiny", WORDS)
    assert found.identity == load_cascade(folder, PLACEMENT).identity
    assert {"tiny", "cpu", "float32"} <= set(found.identity.values())
    sample = Explorer(found).sample(SMALL, (32, 32), REQUEST, ExploreOptions(steps=2))
    assert (
        sample.pixels_u8 == Explorer(found).sample(SMALL, (32, 32), REQUEST, ExploreOptions(steps=2)).pixels_u8
    ).all()


def test_a_cascade_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_cascade(tmp_path / "cascade", refiner=False)
    with refusal(WeightsError, REFINER):
        load_cascade(folder, PLACEMENT)
