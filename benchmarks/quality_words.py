"""Does the low-level text change the picture for the better? True words against their opposite, on degraded photos.

    python benchmarks/quality_words.py --photos PHOTOS [--model xpsr-mini] [--crops 60] [--seed 77] [--sheet sheet.png]

Crops of photos that the model has not seen are degraded as in training, where the truth is known, and restored with
the true words, with the opposite ones (sharp for very blurred, no noise for heavy noise, and so on), with those that
measuring finds, and with none. A text wins where its result is nearer to the clean crop (PSNR, RGB). ``PHOTOS`` is the
folder the model was trained on: those its recipe held out are taken.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from degraded_photos import degraded
from PIL import Image, ImageDraw

from xpsr_cli.captioning.measured import MeasuredCaptioner
from xpsr_cli.evaluation.metrics import psnr
from xpsr_cli.models.loading import load_components
from xpsr_cli.photos.photo import Photo
from xpsr_cli.quality_words import BLUR, JPEG, NOISE, Level, level_of
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.training.dataset import read_photos, split_photos
from xpsr_cli.training.degradation import Degradation
from xpsr_cli.training.recipe import load_recipe
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_model

SIDE_PX = 256
SCALE = 4
TEXTS = ("true", "opposite", "measured", "none")


def in_words(drawn: Degradation, *, opposite: bool = False) -> str:
    """The plainest words for a degradation, or for the one at the other end of each scale."""
    scales = ((BLUR, drawn.blur_px), (NOISE, drawn.noise), (JPEG, drawn.jpeg_quality))
    levels = [_mirrored(levels, value) if opposite else level_of(levels, value) for levels, value in scales]
    return ", ".join(level.words[0] for level in levels)


def _mirrored(levels: tuple[Level, ...], value: float) -> Level:
    return levels[len(levels) - 1 - levels.index(level_of(levels, value))]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", default="xpsr-mini")
    parser.add_argument("--recipe", default="xpsr-mini")
    parser.add_argument("--crops", type=int, default=60)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--sheet", type=Path, help="write the crops where the words matter most, side by side")
    options = parser.parse_args()

    upscaler, captioner = Upscaler.from_components(load_components(find_model(options.model))), MeasuredCaptioner()
    _, held_out = split_photos(read_photos(options.photos), load_recipe(options.recipe))
    for name, preset in (("light degradations", "light"), ("second-order degradations", "xpsr")):
        scores, pictures = [], []
        for index, photo in enumerate(held_out[: options.crops]):
            rng = np.random.default_rng([options.seed, index])
            top, left = (int(rng.integers(side - SIDE_PX + 1)) for side in photo.pixels.shape[:2])
            clean = photo.pixels[top : top + SIDE_PX, left : left + SIDE_PX]
            sample = degraded(clean, preset, [options.seed, index])
            small, drawn = sample.pixels, sample.truth
            source = Photo(small)
            (measured,) = captioner.describe([captioner.look(source)])
            texts = dict(zip(TEXTS, (in_words(drawn), in_words(drawn, opposite=True), measured.low, ""), strict=True))
            results = {
                text: upscaler.upscale(source, UpscaleSettings(SCALE, low_prompt=words)).photo().pixels
                for text, words in texts.items()
            }
            scores.append([psnr(results[text], clean) for text in TEXTS])
            pictures.append(([small, *results.values(), clean], texts["true"]))
        _print(name, np.array(scores))
        if options.sheet:
            gains = np.array(scores)[:, 0] - np.array(scores)[:, 1]
            most = [pictures[index] for index in np.argsort(gains)[::-1][:8]]
            _sheet(most, options.sheet.with_stem(f"{options.sheet.stem}-{name.partition(' ')[0]}"))


def _print(name: str, scores: np.ndarray) -> None:
    """``scores`` is (crops, texts) in dB."""
    print(f"{name}, {len(scores)} crops: mean PSNR " + ", ".join(map("{} {:.3f}".format, TEXTS, scores.mean(axis=0))))
    columns = {text: scores[:, column] for column, text in enumerate(TEXTS)}
    for one, other in (("true", "opposite"), ("true", "none"), ("measured", "opposite"), ("measured", "none")):
        gain = columns[one] - columns[other]
        print(f"  {one:9} beats {other:9} on {(gain > 0).mean():4.0%} of them, by {gain.mean():+.3f} dB on average")


def _sheet(rows: list[tuple[list[np.ndarray], str]], path: Path) -> None:
    """Input, results and original side by side, one crop a row."""
    page = Image.new("RGB", (SIDE_PX * (len(TEXTS) + 2), (SIDE_PX + 16) * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for row, (pictures, words) in enumerate(rows):
        for column, (title, pixels) in enumerate(zip(("input", *TEXTS, "original"), pictures, strict=True)):
            picture = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)
            page.paste(picture, (column * SIDE_PX, row * (SIDE_PX + 16) + 16))
            draw.text((column * SIDE_PX + 4, row * (SIDE_PX + 16) + 2), title, fill="black")
        draw.text((SIDE_PX + 64, row * (SIDE_PX + 16) + 2), f"({words})", fill="black")
    page.save(path)


if __name__ == "__main__":
    main()
