"""A 16-bit TIFF of more than a gigapixel through everything but the networks: peak memory, seconds, and a check.

    python benchmarks/gigapixel.py [--size 32768] [--scale 4] [--folder FOLDER] [--windows 40]

The input is written tile by tile first. The result is then read back by windows with tifffile and compared to the
same places of the picture enlarged by Pillow: they differ by no more than the stand-in for the networks adds. Takes
some 25 GB of disk for the full size. Linux.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from stand_in import load_upscaler, peak_mb, picture, write_tiff

from xpsr_cli.photos.sink import result_info, write_bands
from xpsr_cli.photos.source import open_photo
from xpsr_cli.settings import Compression, OutputOptions, UpscaleSettings

MARGIN_PX = 8
"""Pixels of the input around a window, so that enlarging it alone gives the same as enlarging all."""


def enlarge(source: Path, result: Path, options: argparse.Namespace) -> None:
    """Make the result, and print what it took."""
    upscaler = load_upscaler("stand-in")
    settings, output = (
        UpscaleSettings(scale=options.scale),
        OutputOptions(compression=Compression(options.compression)),
    )
    started = time.perf_counter()
    with open_photo(source, spool_folder=result.parent) as photo:
        made = upscaler.upscale(photo, settings, work_folder=result.parent / "work")
        info = result_info(made.info, made.info.size, result, output)
        write_bands(made.bands(), info, result, output)
    seconds = time.perf_counter() - started
    pixels = info.width * info.height
    print(f"{info.width} x {info.height} pixels, {made.windows} windows, {pixels / 1e6:.0f} MP")
    print(f"{seconds:.0f} s, {seconds / pixels * 1e6:.3f} s per MP, by stage {made.seconds}")
    print(f"peak memory {peak_mb():.0f} MB, file {result.stat().st_size / 1e9:.2f} GB")


def check(result: Path, options: argparse.Namespace) -> None:
    """Read windows of the result, one in every corner and the others anywhere, and compare them to the picture."""
    generator = np.random.default_rng(0)
    with tifffile.TiffFile(result) as tiff:
        page = tiff.pages[0]
        rows, columns = page.imagelength // page.tilelength, page.imagewidth // page.tilewidth
        print(f"BigTIFF {tiff.is_bigtiff}, {page.dtype}, {page.shape}, tiles {page.tilelength} x {page.tilewidth}")
        places = [(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)]
        places += [tuple(generator.integers(0, (rows, columns))) for _ in range(options.windows - len(places))]
        differences = [_difference(tiff, page, int(row), int(column), options.scale) for row, column in places]
    print(f"{len(places)} windows: mean difference {np.mean(differences):.5f}, worst {np.max(differences):.5f} of 1")
    if max(differences) > 0.005:
        raise SystemExit("The result is not the enlarged input.")


def _difference(tiff: tifffile.TiffFile, page: tifffile.TiffPage, row: int, column: int, scale: float) -> float:
    """Mean absolute difference of one tile to the same place of the picture enlarged by Pillow."""
    number = row * -(-page.imagewidth // page.tilewidth) + column
    tiff.filehandle.seek(page.dataoffsets[number])
    data = tiff.filehandle.read(page.databytecounts[number])
    tile = page.decode(data, number)[0].reshape(page.tilelength, page.tilewidth, -1).astype(np.float32) / 65535
    return float(np.abs(tile - _wanted(row * page.tilelength, column * page.tilewidth, tile.shape, scale)).mean())


def _wanted(top: int, left: int, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
    """The place of a tile, cut out of the enlarged picture."""
    y, x = int(top / scale), int(left / scale)
    above, before = min(MARGIN_PX, y), min(MARGIN_PX, x)
    height, width = int(shape[0] / scale) + MARGIN_PX, int(shape[1] / scale) + MARGIN_PX
    small = picture(y - above, x - before, above + height, before + width).astype(np.float32) / 65535
    size = round(small.shape[1] * scale), round(small.shape[0] * scale)
    channels = [Image.fromarray(small[..., c]).resize(size, Image.Resampling.BICUBIC) for c in range(3)]
    rows = slice(round(above * scale), round(above * scale) + shape[0])
    columns = slice(round(before * scale), round(before * scale) + shape[1])
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)[rows, columns]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32768, help="side of the result in pixels")
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, help="where the files lie; they are removed afterwards")
    parser.add_argument("--windows", type=int, default=40, help="how many windows are read back")
    parser.add_argument("--compression", default="deflate", help="of the result: none, deflate, lzw or zstd")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, result = Path(folder, "input.tif"), Path(folder, "result.tif")
        write_tiff(source, round(options.size / options.scale))
        print(f"input {source.stat().st_size / 1e6:.0f} MB, written at a peak of {peak_mb():.0f} MB", flush=True)
        enlarge(source, result, options)
        check(result, options)


if __name__ == "__main__":
    main()
