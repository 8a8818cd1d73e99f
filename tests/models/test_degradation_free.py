import pytest
import torch

from xpsr_cli.models.controlnet import ControlOutput
from xpsr_cli.models.degradation_free import degradation_free_loss, reduced


def output_for(hr: torch.Tensor, latents: torch.Tensor, off: float) -> ControlOutput:
    """Predictions that miss every target by ``off``."""
    rgb = tuple(reduced(hr, torch.empty(1, 1, 32 // 2**k, 48 // 2**k)) + off for k in (1, 2, 3))
    latent = tuple(reduced(latents, torch.empty(1, 1, *size)) + off for size in ((4, 6), (2, 3), (1, 2)))
    return ControlOutput((), torch.zeros(()), rgb, latent)


def test_perfect_predictions_cost_nothing_and_each_term_is_a_mean_absolute_error() -> None:
    hr, latents = torch.rand(2, 3, 32, 48) * 2 - 1, torch.randn(2, 4, 4, 6)
    assert degradation_free_loss(output_for(hr, latents, 0.0), hr, latents).total == 0
    loss = degradation_free_loss(output_for(hr, latents, 0.25), hr, latents)
    torch.testing.assert_close(torch.stack(loss.rgb + loss.latent), torch.full((6,), 0.25))
    torch.testing.assert_close(loss.total, torch.tensor(1.5))


def test_halving_is_a_mean_and_coarser_targets_take_the_middle_of_each_block() -> None:
    target = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(reduced(target, torch.empty(1, 1, 4, 4)), torch.nn.functional.avg_pool2d(target, 2))
    middle = target[..., 1:3, 1:3].mean()
    torch.testing.assert_close(reduced(target, torch.empty(1, 1, 2, 2))[0, 0, 0, 0], middle)


def test_half_precision_predictions_are_compared_in_fp32() -> None:
    hr, latents = torch.rand(1, 3, 32, 48) * 2 - 1, torch.randn(1, 4, 4, 6)
    exact = output_for(hr, latents, 0.5)
    half = exact._replace(rgb=tuple(x.bfloat16() for x in exact.rgb), latent=tuple(x.bfloat16() for x in exact.latent))
    assert degradation_free_loss(half, hr, latents).total.dtype == torch.float32


def test_an_output_without_heads_is_an_error() -> None:
    with pytest.raises(ValueError, match="with_heads"):
        degradation_free_loss(ControlOutput((), torch.zeros(())), torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 1, 1))
