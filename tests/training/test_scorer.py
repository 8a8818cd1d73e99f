"""The small CLIP in training: its loss is what it says, and it learns to tell pictures apart."""

from __future__ import annotations

import torch
from tiny_training import tiny_tokenizer
from torch.nn.functional import cross_entropy

from xpsr_cli.models.pixel_cascade import SCORER
from xpsr_cli.training.recipe import ScorerRecipe
from xpsr_cli.training.scorer import ScorerNetworks, ScorerObjective, build_scorer

SIZES = ScorerRecipe(SCORER, 16, 8, 16, 1, 2, 16, 1)


def objective() -> ScorerObjective:
    return ScorerObjective(ScorerNetworks(build_scorer(SIZES, tiny_tokenizer(), 0), SCORER))


def batch(*texts: str) -> dict[str, torch.Tensor]:
    tokenizer = tiny_tokenizer()
    tokens = tokenizer(list(texts), padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
    colours = torch.linspace(-1, 1, len(texts))[:, None, None, None]
    noise = 0.1 * torch.randn(len(texts), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return {"target_pm1": (colours + noise).clamp(-1, 1), "high": tokens}


def test_with_different_texts_the_loss_is_that_of_clip() -> None:
    trained, inputs = objective(), batch("water", "sky", "a house")
    clip = trained.networks.scorer
    with torch.no_grad():
        mine = trained(inputs)["total"]
        theirs = clip(input_ids=inputs["high"], pixel_values=inputs["target_pm1"], return_loss=True).loss
    torch.testing.assert_close(mine, theirs)


def test_pictures_with_the_same_words_share_them() -> None:
    trained, inputs = objective(), batch("water", "sky", "water")
    with torch.no_grad():
        losses = trained(inputs)
        logits = trained.networks.scorer(input_ids=inputs["high"], pixel_values=inputs["target_pm1"]).logits_per_image
    wanted = torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])
    expected = (cross_entropy(logits, wanted) + cross_entropy(logits.T, wanted)) / 2
    torch.testing.assert_close(losses["total"], expected)


def test_it_learns_which_words_are_whose() -> None:
    trained, inputs = objective(), batch("water", "sky", "a house", "a photo of water")
    optimizer = torch.optim.AdamW(trained.parameters(), 3e-3)
    first = float(trained(inputs)["total"].detach())
    for _ in range(120):
        losses = trained(inputs)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert float(losses["total"].detach()) < 0.5 * first
    assert float(losses["accuracy"]) == 1
