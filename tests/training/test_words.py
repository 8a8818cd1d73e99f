"""Words for a degradation: all of them true, and as many as the recipe wants."""

from __future__ import annotations

import numpy as np
import pytest
from small_sources import make_pairs, make_recipe, picture, save

from xpsr_cli.quality_words import BLUR, JPEG, NOISE
from xpsr_cli.training.dataset import read_source
from xpsr_cli.training.degradation import Degradation
from xpsr_cli.training.words import high_prompt, low_prompt

DRAWN = Degradation(blur_px=2.0, noise=8.0, jpeg_quality=50)


def phrases(text: str) -> list[str]:
    return text.split(", ") if text else []


def told(text: str) -> set[str]:
    """What a text speaks of."""
    kinds = {"blur": BLUR, "noise": NOISE, "compression": JPEG}
    return {
        kind
        for kind, levels in kinds.items()
        if {word for level in levels for word in level.words} & set(phrases(text))
    }


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0])
def test_each_phrase_is_left_out_at_its_rate(share: float) -> None:
    rng = np.random.default_rng(0)
    texts = [low_prompt(DRAWN, rng, share) for _ in range(2000)]
    for kind in ("blur", "noise", "compression"):
        without = sum(kind not in told(text) for text in texts) / len(texts)
        assert without == pytest.approx(share, abs=0.04 * (0 < share < 1))
    lengths = np.bincount([len(phrases(text)) for text in texts], minlength=4) / len(texts)
    said = 1 - share
    each_alone = [share**3, 3 * said * share**2, 3 * said**2 * share, said**3]  # independent of each other
    assert lengths == pytest.approx(each_alone, abs=0.04)


def test_the_same_numbers_give_the_same_text() -> None:
    for share in (0.0, 0.25):
        one, other = (low_prompt(DRAWN, np.random.default_rng(7), share) for _ in range(2))
        assert one == other


def test_a_share_of_nothing_changes_no_random_number() -> None:
    plain, told_so = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(20):
        assert low_prompt(DRAWN, plain) == low_prompt(DRAWN, told_so, 0.0)
    assert plain.random() == told_so.random()


def test_the_recipe_says_how_often(tmp_path) -> None:
    save(tmp_path / "a.png", picture())
    photos = read_source(tmp_path, make_recipe()).photos
    for share in (0.0, 0.5, 1.0):
        for clean in (0.0, 1.0):  # the words of a clean photo as well
            changes = f"data.low_phrase_dropout={share}", f"data.clean_condition={clean}"
            pairs = make_pairs(photos, *changes)
            said = [len(told(pairs[index]["low"])) for index in range(100)]
            assert np.mean(said) == pytest.approx(3 * (1 - share), abs=0.4 * (share == 0.5))


def test_nothing_untrue_is_said_of_a_photo_that_nothing_is_known_of(tmp_path) -> None:
    save(tmp_path / "IMG_0001.png", picture())
    pairs = make_pairs(read_source(tmp_path, make_recipe()).photos)
    assert {pairs[index]["high"] for index in range(40)} == {"", "clean."}
    rng = np.random.default_rng(0)
    assert {high_prompt("", "lake at dawn", rng) for _ in range(20)} == {"lake at dawn"}
    said = {high_prompt("water", "lake at dawn", rng) for _ in range(60)}
    assert said == {"water", "a photo of water", "water, lake at dawn", "a photo of water, lake at dawn"}
