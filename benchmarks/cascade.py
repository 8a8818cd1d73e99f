"""What mode cassr gains over plain XPSR, and what its reference has to do with it, on photos nobody was trained on.

    python benchmarks/cascade.py --photos PHOTOS --add-on weights/xpsr-mini-cassr [--activate dfc ...] [--crops 60]

Crops of held-out photos are degraded as in training and restored without a reference, with that of the add-on's own
activator, with the enlarged photo in its place, with that of another crop (wrong) and with the original itself
(oracle); each ``--activate`` adds that activator alone and before the second stage. Differences from plain XPSR have
95 % intervals (bootstrap over crops). ``PHOTOS`` is the folder the model was trained on: those its recipe held out are
taken, and ``--seed`` says which crops of them. Then what the measuring captioner finds in the references, beside what
it finds in the enlarged photo: blur in pixels, noise in 255ths, and on how many crops each is less.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from degraded_photos import degraded
from PIL import Image, ImageDraw

from xpsr_cli.captioning.measured import MeasuredCaptioner
from xpsr_cli.evaluation.intervals import bootstrap_intervals
from xpsr_cli.evaluation.metrics import METRICS
from xpsr_cli.models.loading import load_components
from xpsr_cli.models.reference_loading import load_reference
from xpsr_cli.photos.photo import Floats, Photo, PhotoSource, Pixels
from xpsr_cli.progress import Progress
from xpsr_cli.settings import Mode, UpscaleSettings
from xpsr_cli.training.dataset import TrainingPhoto, read_photos, split_photos
from xpsr_cli.training.recipe import load_recipe
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_model

SIDE_PX = 256
SCALE = 4
ENLARGED, PLAIN, CASCADE, WRONG, ORACLE, UNCHANGED = (
    "bicubic",
    "xpsr",
    "cassr",
    "cassr, wrong",
    "cassr, oracle",
    "cassr, bicubic",
)
SHOWN = "psnr", "ssim", "gmsd", "gradient_ratio"


class Given:
    """An activator that makes the same picture of every photo."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.identity: Mapping[str, Any] = {"name": "given", "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}

    def bands(
        self, source: PhotoSource, scale: float, progress: Progress, work_folder: Path | None
    ) -> Iterator[Floats]:
        """See :meth:`xpsr_cli.upscaling.activation.Activator.bands`."""
        yield np.divide(self._pixels, 255, dtype=np.float32)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--add-on", type=Path, required=True)
    parser.add_argument("--model", default="xpsr-mini")
    parser.add_argument("--recipe", default="xpsr-mini")
    parser.add_argument("--activate", action="append", default=[], help="one more activator")
    parser.add_argument("--preset", action="append", help="degradations [default: light and xpsr]")
    parser.add_argument("--crops", type=int, default=60)
    parser.add_argument("--seed", type=int, default=177)
    parser.add_argument("--sheet", type=Path, help="write the first crops side by side")
    options = parser.parse_args()

    upscaler = Upscaler.from_components(
        load_reference(load_components(find_model(options.model)), options.add_on.expanduser())
    )
    _, held_out = split_photos(read_photos(options.photos), load_recipe(options.recipe))
    for preset in options.preset or ("light", "xpsr"):
        crops = [cut(held_out[index % len(held_out)], options.seed, index) for index in range(options.crops)]
        samples = [degraded(clean, preset, [options.seed, index]).pixels for index, clean in enumerate(crops)]
        print(f"{preset} degradations, {len(crops)} crops of {SIDE_PX} px of {len(held_out)} photos")
        pictures = restore(upscaler, samples, crops, options.activate)
        tell(pictures, crops)
        if options.sheet:
            sheet(pictures, crops, options.sheet.with_stem(f"{options.sheet.stem}-{preset}"))


def cut(photo: TrainingPhoto, seed: int, index: int) -> Pixels:
    """A crop of a photo."""
    rng = np.random.default_rng([seed, index])
    top, left = (int(rng.integers(side - SIDE_PX + 1)) for side in photo.pixels.shape[:2])
    return photo.pixels[top : top + SIDE_PX, left : left + SIDE_PX]


def restore(
    upscaler: Upscaler, samples: list[Pixels], crops: list[Pixels], activators: list[str]
) -> dict[str, list[Pixels]]:
    """Every crop in every way."""
    captioner = MeasuredCaptioner()
    made: dict[str, list[Pixels]] = {}
    references = []
    photos = [Photo(small) for small in samples]
    for photo, clean in zip(photos, crops, strict=True):
        (caption,) = captioner.describe([captioner.look(photo)])
        plain = UpscaleSettings(SCALE, low_prompt=caption.low)
        cascade, alone = (replace(plain, mode=mode) for mode in (Mode.CASSR, Mode.ACTIVATOR))
        references.append(enlarge(upscaler, photo, alone))
        results = {
            ENLARGED: enlarge(upscaler, photo, replace(alone, activate="bicubic")),
            PLAIN: enlarge(upscaler, photo, plain),
            CASCADE: enlarge(upscaler, photo, cascade),
            UNCHANGED: enlarge(upscaler, photo, replace(cascade, activate="bicubic")),
            ORACLE: upscaler.upscale(photo, cascade, activator=Given(clean)).photo().pixels,
            "activator alone": references[-1],
        }
        for name in activators:
            results[f"{name} alone"] = enlarge(upscaler, photo, replace(alone, activate=name))
            results[f"cassr, {name}"] = enlarge(upscaler, photo, replace(cascade, activate=name))
        for name, pixels in results.items():
            made.setdefault(name, []).append(pixels)
    made[WRONG] = []
    for place, photo in enumerate(photos):
        (caption,) = captioner.describe([captioner.look(photo)])
        settings = UpscaleSettings(SCALE, low_prompt=caption.low, mode=Mode.CASSR)
        other = Given(references[(place + 1) % len(references)])
        made[WRONG].append(upscaler.upscale(photo, settings, activator=other).photo().pixels)
    return made


def enlarge(upscaler: Upscaler, photo: Photo, settings: UpscaleSettings) -> Pixels:
    """The result in 8 bits."""
    pixels: Pixels = upscaler.upscale(photo, settings).photo().pixels
    return pixels


def tell(pictures: dict[str, list[Pixels]], crops: list[Pixels]) -> None:
    """Print the tables."""
    scores = {
        name: np.array(
            [[METRICS[key](result, clean) for key in SHOWN] for result, clean in zip(made, crops, strict=True)]
        )
        for name, made in pictures.items()
    }
    print(f"{'':24}" + "".join(f"{key:>16}" for key in SHOWN))
    for name, table in scores.items():
        print(f"{name:24}" + "".join(f"{value:16.4f}" for value in table.mean(axis=0)))
    print(f"{'minus xpsr':24}" + "".join(f"{key:>26}" for key in SHOWN[:3]) + "    PSNR better")
    for name, table in scores.items():
        gains = (table - scores[PLAIN])[:, :3]
        cells = [
            f"{mean:+11.4f} {told(interval):>14}"
            for mean, interval in zip(gains.mean(axis=0), bootstrap_intervals(gains), strict=True)
        ]
        print(f"{name:24}" + "".join(cells) + f"    {int((gains[:, 0] > 0).sum())}/{len(gains)}")
    for name in (CASCADE, ORACLE):
        differences = [
            np.abs(one.astype(int) - other).mean() / 255
            for one, other in zip(pictures[name], pictures[WRONG], strict=True)
        ]
        print(f"mean difference between {name} and {WRONG}: {np.mean(differences):.4f} of 1")
    before = measured(pictures[ENLARGED])
    for name in (ENLARGED, *(name for name in pictures if name.endswith("alone"))):
        found = measured(pictures[name])
        less = (found < before).mean(axis=0)
        blur, noise = (
            f"{mean:.2f} (less on {share:.0%})" for mean, share in zip(found.mean(axis=0), less, strict=True)
        )
        print(f"{name:24}blur {blur}, noise {noise}")


def measured(pictures: list[Pixels]) -> np.ndarray:
    """Blur in pixels and noise in 255ths of every picture, (pictures, 2)."""
    captioner = MeasuredCaptioner()
    looks = [captioner.look(Photo(pixels)) for pixels in pictures]
    return np.array([[look.sigma_px, look.noise] for look in looks])


def told(interval: Any) -> str:
    """An interval in brackets."""
    return "" if interval is None else f"[{interval.low:+.3f} {interval.high:+.3f}]"


def sheet(pictures: dict[str, list[Pixels]], crops: list[Pixels], path: Path) -> None:
    """Results and original side by side, one crop a row."""
    columns = {**pictures, "original": crops}
    page = Image.new("RGB", (SIDE_PX * len(columns), 16 + SIDE_PX * min(len(crops), 8)), "white")
    draw = ImageDraw.Draw(page)
    for column, (name, made) in enumerate(columns.items()):
        draw.text((column * SIDE_PX + 4, 2), name, fill="black")
        for row, pixels in enumerate(made[:8]):
            page.paste(Image.fromarray(pixels), (column * SIDE_PX, 16 + row * SIDE_PX))
    page.save(path)


if __name__ == "__main__":
    main()
