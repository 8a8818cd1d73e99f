"""How good a model is on pairs of real photos: PSNR-Y, SSIM, GMSD, sharpness, consistency with the input, seconds.

    python benchmarks/realsr.py --lr RealSR/LR --hr RealSR/HR [--model xpsr-mini] [--every 5] [--sheet sheet.png]
        [--add-on weights/xpsr-mini-cassr --row "cassr: mode=cassr"]

Rows: bicubic, the model as the command uses it (with measured captions), without captions, and with a zero latent
instead of the sampled one (what the diffusion adds). Add rows with ``--row "NAME: key=value, ..."``, keys being fields
of ``UpscaleSettings``, for instance ``--row "blurred: low_prompt=very blurred"``; they have measured captions unless
they name a prompt. Protocol: see ``xpsr_cli/evaluation/metrics.py``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from xpsr_cli.captioning.measured import MeasuredCaptioner
from xpsr_cli.evaluation.metrics import METRICS, consistency_psnr
from xpsr_cli.models.loading import load_components
from xpsr_cli.models.reference_loading import load_reference
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import UpscaleSettings
from xpsr_cli.upscaling.upscaler import Upscaler
from xpsr_cli.weights import find_model


def read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.asarray(Image.open(path).convert("RGB"))


def bicubic(small: np.ndarray, scale: int) -> np.ndarray:
    """Pillow's enlargement."""
    height, width = small.shape[:2]
    return np.asarray(Image.fromarray(small).resize((width * scale, height * scale), Image.Resampling.BICUBIC))


def parse_row(text: str) -> tuple[str, dict[str, object]]:
    """``"NAME: key=value, ..."`` to a name and settings of the right types."""
    name, _, rest = text.partition(":")
    types = {field.name: str(field.type) for field in fields(UpscaleSettings)}
    values: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, _, value = part.partition("=")
        kind = types[key]
        values[key] = int(value) if kind.startswith("int") else float(value) if kind.startswith("float") else value
    return name.strip(), values


def sheet(rows: list[list[np.ndarray]], titles: list[str], path: Path) -> None:
    """Pictures side by side, one photo a row."""
    height, width = rows[0][0].shape[:2]
    page = Image.new("RGB", (width * len(titles), 16 + height * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(titles):
        draw.text((column * width + 4, 2), title, fill="black")
        for row, pictures in enumerate(rows):
            page.paste(Image.fromarray(pictures[column]), (column * width, 16 + row * height))
    page.save(path)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", type=Path, required=True)
    parser.add_argument("--hr", type=Path, required=True)
    parser.add_argument("--model", default="xpsr-mini")
    parser.add_argument("--add-on", type=Path, help="a folder; rows with mode=cassr use it, the others do as without")
    parser.add_argument("--every", type=int, default=1, help="take every n-th pair")
    parser.add_argument("--row", action="append", default=[], help="one more row of settings")
    parser.add_argument("--sheet", type=Path, help="write pictures side by side")
    options = parser.parse_args()

    components = load_components(find_model(options.model))
    if options.add_on:
        components = load_reference(components, options.add_on)
    upscaler = Upscaler.from_components(components)
    rows = dict(map(parse_row, options.row))
    captioner = MeasuredCaptioner()
    names = ["bicubic", options.model, "no captions", "zero latent", *rows]
    scores: dict[str, list[list[float]]] = {name: [] for name in names}
    pictures = []
    for path in sorted(options.hr.iterdir())[:: options.every]:
        large, small = read(path), read(options.lr / path.name)
        photo = Photo(pixels=small)
        (caption,) = captioner.describe([captioner.look(photo)])
        measured = UpscaleSettings(scale=4.0, prompt=caption.high, low_prompt=caption.low)
        settings = {name: replace(measured, **values) for name, values in rows.items()}  # type: ignore[arg-type]

        def enlarge(setting: UpscaleSettings, zero_latent: bool = False, photo: Photo = photo) -> np.ndarray:
            return upscaler.upscale(photo, setting, zero_latent=zero_latent).photo().pixels

        makers = {
            "bicubic": lambda small=small: bicubic(small, 4),
            options.model: lambda measured=measured: enlarge(measured),
            "no captions": lambda: enlarge(UpscaleSettings(scale=4.0)),
            "zero latent": lambda: enlarge(UpscaleSettings(scale=4.0), zero_latent=True),
            **{name: lambda setting=setting: enlarge(setting) for name, setting in settings.items()},
        }
        row = []
        for name, make in makers.items():
            started = time.perf_counter()
            result = make()
            seconds = time.perf_counter() - started
            values = [metric(result, large) for metric in METRICS.values()]
            scores[name].append([*values, consistency_psnr(result, small), seconds])
            row.append(result)
        pictures.append([row[0], row[1], large])

    print(f"{'':24}" + "".join(f"{title:>16}" for title in [*METRICS, "consistency", "seconds"]) + "   PSNR wins")
    for name in names:
        table = np.array(scores[name])
        wins = int((table[:, 0] > np.array(scores["bicubic"])[:, 0]).sum())
        print(f"{name:24}" + "".join(f"{value:16.4f}" for value in table.mean(axis=0)) + f"   {wins}/{len(table)}")
    if options.sheet:
        sheet(pictures, ["bicubic", options.model, "original"], options.sheet)


if __name__ == "__main__":
    main()
