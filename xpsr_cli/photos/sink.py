"""Writing photos: what a format cannot hold is said before the work, and pixels go from bands into the file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.photos import formats
from xpsr_cli.photos.formats import PhotoFormat, format_of_output, reason
from xpsr_cli.photos.jpeg_writer import write_jpeg
from xpsr_cli.photos.photo import Depth, Photo, PhotoInfo, Region, Samples
from xpsr_cli.photos.png_writer import write_png
from xpsr_cli.photos.samples import GROUP_ROWS, file_rows
from xpsr_cli.photos.tiff_writer import write_tiff
from xpsr_cli.photos.webp_writer import write_webp
from xpsr_cli.photos.whole_file import whole_or_absent
from xpsr_cli.settings import Bits, Compression, OutputOptions

JPEG_QUALITY = 95
"""Quality of a JPEG when none is named; colour is never subsampled (4:4:4)."""
_LOSSY = (formats.JPEG, formats.WEBP)
_COMPRESSIONS: dict[PhotoFormat, tuple[Compression, ...]] = {
    formats.PNG: (Compression.NONE, Compression.DEFLATE),
    formats.TIFF: tuple(Compression),
}
_NAMED_DEPTHS = {Bits.EIGHT: Depth.U8, Bits.SIXTEEN: Depth.U16}


def result_info(info: PhotoInfo, size: tuple[int, int], path: str | Path, options: OutputOptions) -> PhotoInfo:
    """What will be written to ``path`` when the photo ``info`` becomes ``size``, ``(width, height)`` in pixels.

    The depth is that of ``options.bits``; ``auto`` is the photo's own, and where the format does not hold that, a
    :class:`PhotoError` names those which do: nothing is lost that was not agreed to. Grey becomes RGB in WebP, and
    JPEG has no alpha (:func:`check_output` refuses transparency). Without ``options.metadata`` only the colour
    profile stays.
    """
    path = Path(path)
    photo_format = format_of_output(path)
    return replace(
        info,
        width=size[0],
        height=size[1],
        depth=_depth(path, photo_format, info.depth, options.bits),
        grey=info.grey and photo_format.holds_grey,
        alpha=info.alpha and photo_format.holds_alpha,
        metadata=info.metadata if options.metadata else info.metadata.only_profile(),
    )


def check_output(
    path: str | Path,
    info: PhotoInfo,
    options: OutputOptions,
    *,
    transparent: bool,
    source_path: Path | None = None,
    allow_input: bool = False,
) -> None:
    """Raise, before any work, what would keep :func:`write_bands` from writing ``info`` to ``path``.

    ``info`` is that of :func:`result_info`; ``transparent`` says whether any pixel is less than opaque. A result over
    ``source_path``, the input, is refused unless ``allow_input``. :class:`PhotoError` names the formats that can hold
    what this one cannot; :class:`UsageError` is for ``options`` and for the input itself.
    """
    path = Path(path)
    photo_format = format_of_output(path)
    _check_options(path, photo_format, options)
    _prepared(path, photo_format, info, transparent)
    _check_place(path, None if allow_input else source_path)


def write_bands(
    bands: Iterable[Region],
    info: PhotoInfo,
    path: str | Path,
    options: OutputOptions,
    *,
    temporary: Path | None = None,
) -> None:
    """Write a picture in the format that the extension of ``path`` names, whole or not at all.

    ``bands`` are full-width regions from top to bottom; their heights change neither the bytes of the file nor, as
    long as each is small, the memory it takes (WebP alone holds the picture). ``info`` is that of
    :func:`result_info`. PNG and TIFF are lossless; WebP is too unless a quality is named; JPEG takes 95 by default
    and is never subsampled. Metadata go in with the tags of the size corrected, the colour profile byte for byte.

    An existing file is replaced in one step, and a link stays a link. Until then the file is ``temporary``, on the
    same disk, or a hidden one beside ``path``. Raises :class:`PhotoError`, :class:`UsageError` for ``options``, and
    what ``bands`` raises as it is.
    """
    path = Path(os.path.realpath(path))
    photo_format = format_of_output(path)
    _check_options(path, photo_format, options)
    info = _prepared(path, photo_format, info, transparent=info.alpha)
    write = _writer(photo_format, options)
    with _failures_as_they_are(file_rows(bands, info)) as rows, whole_or_absent(path, temporary) as stream:
        write(rows, info, stream)


def write_photo(
    photo: Photo, path: str | Path, options: OutputOptions | None = None, *, quality: int | None = None
) -> None:
    """Write a photo that is in memory; ``quality`` is short for options with it. See :func:`write_bands`."""
    options = options or OutputOptions()
    if quality is not None:
        options = replace(options, quality=quality)
    info = result_info(photo.info, photo.size, path, options)
    if not info.alpha:
        _prepared(Path(path), format_of_output(Path(path)), info, photo.transparent())
    tops = range(0, photo.height, GROUP_ROWS)
    write_bands((photo.read(top, 0, GROUP_ROWS, photo.width) for top in tops), info, path, options)


def _depth(path: Path, photo_format: PhotoFormat, depth: Depth, bits: Bits) -> Depth:
    """The depth that is written; :class:`PhotoError` where that would lose what nobody agreed to lose."""
    wanted = _NAMED_DEPTHS.get(bits, depth)
    if _holds_depth(photo_format, wanted):
        return wanted
    others = [f for f in formats.FORMATS if _holds_depth(f, wanted)]
    if bits is not Bits.AUTO:
        raise UsageError(
            f"bits is {bits.value}, but {photo_format.name} holds {photo_format.max_bits} bits per channel, so {path} "
            "cannot be written.",
            f"Use {_names(others)}, or leave it out.",
        )
    has = "32-bit float" if depth is Depth.FLOAT else f"{depth.value}-bit"
    raise PhotoError(
        f"{path} cannot be written: the photo has {has} channels, and {photo_format.name} holds "
        f"{photo_format.max_bits} bits at most.",
        f"Use {_names(others)}, or agree to the loss with --bits {photo_format.max_bits}.",
    )


def _holds_depth(photo_format: PhotoFormat, depth: Depth) -> bool:
    if depth is Depth.FLOAT:
        return photo_format is formats.TIFF
    return 8 * depth.dtype.itemsize <= photo_format.max_bits


def _check_options(path: Path, photo_format: PhotoFormat, options: OutputOptions) -> None:
    if options.quality is not None and photo_format not in _LOSSY:
        raise UsageError(
            f"quality is {options.quality}, but {photo_format.name} ({path}) is lossless.",
            "Leave it out, or write .jpg.",
        )
    known = _COMPRESSIONS.get(photo_format, ())
    if options.compression is not None and options.compression not in known:
        words = " and ".join(word.value for word in known) or "no choice of it"
        raise UsageError(
            f"compression is {options.compression.value}, but {photo_format.name} ({path}) has {words}.",
            "Leave it out, or write .tif.",
        )


def _prepared(path: Path, photo_format: PhotoFormat, info: PhotoInfo, transparent: bool) -> PhotoInfo:
    """The picture with the metadata of its file; :class:`PhotoError` where the format cannot hold all of it."""
    try:
        info = replace(info, metadata=info.metadata.for_output(photo_format, *info.size, grey=info.grey))
    except PhotoError as error:
        raise PhotoError(f"{path} cannot be written: {error.message}", error.hint) from error
    beyond = _beyond(photo_format, info, transparent)
    if beyond is not None:
        others = [f for f in formats.FORMATS if _beyond(f, info, transparent) is None]
        message = f"{path} cannot be written: {photo_format.name} cannot hold {beyond}."
        raise PhotoError(message, f"Use {_names(others)}.")
    return info


def _beyond(photo_format: PhotoFormat, info: PhotoInfo, transparent: bool) -> str | None:
    """The first thing about a picture that a format cannot hold."""
    metadata = info.metadata
    sizes = (
        ("EXIF", metadata.exif, photo_format.max_exif_bytes),
        ("XMP", metadata.xmp, photo_format.max_xmp_bytes),
        ("IPTC", metadata.iptc, photo_format.max_iptc_bytes),
    )
    if max(info.size) > photo_format.max_side_px:
        return f"sides above {photo_format.max_side_px} pixels, and this would be {info.width} x {info.height}"
    if transparent and not photo_format.holds_alpha:
        return "the transparency of this photo"
    if info.cmyk and not photo_format.holds_cmyk:
        return "the inks (CMYK) of this photo"
    if metadata.grey_profile and not photo_format.holds_grey:
        return "a grey photo with its grey colour profile"
    for name, data, limit in sizes:
        if data is not None and limit is not None and len(data) > limit:
            return f"as much {name} as this photo has ({len(data)} bytes)"
    return None


def _names(photo_formats: Iterable[PhotoFormat]) -> str:
    return " or ".join(f"{photo_format.name} ({photo_format.extensions[0]})" for photo_format in photo_formats)


def _check_place(path: Path, source_path: Path | None) -> None:
    try:
        folder = Path(os.path.realpath(path)).parent
        if path.is_dir():
            raise PhotoError(f"{path} is a folder, so no photo can be written to it.", "Name a file in it.")
        if path.exists() and not path.is_file():
            raise PhotoError(f"{path} is no regular file, so no photo can be written to it.", "Name a file.")
        if source_path is not None and path.exists() and path.samefile(source_path):
            raise UsageError(f"{path} is the input itself and would be overwritten.", "Name another output.")
        if not folder.is_dir():
            raise PhotoError(f"{path} cannot be written: there is no folder {folder}.", "Make the folder first.")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be written: {reason(error)}.", "Choose a folder you may write to.") from error


def _writer(
    photo_format: PhotoFormat, options: OutputOptions
) -> Callable[[Iterable[Samples], PhotoInfo, BinaryIO], None]:
    compression = options.compression or Compression.DEFLATE
    if photo_format is formats.PNG:
        return partial(write_png, compress=compression is not Compression.NONE)
    if photo_format is formats.JPEG:
        return partial(write_jpeg, quality=options.quality or JPEG_QUALITY)
    if photo_format is formats.WEBP:
        return partial(write_webp, quality=options.quality)
    return partial(write_tiff, compression=compression)


@contextmanager
def _failures_as_they_are(rows: Iterator[Samples]) -> Iterator[Iterator[Samples]]:
    """The rows; what they raise comes out of the block as it is, whatever the block made of it."""
    raised: list[Exception] = []

    def guarded() -> Iterator[Samples]:
        try:
            yield from rows
        except Exception as error:
            raised.append(error)
            raise

    try:
        yield guarded()
    except PhotoError:
        if not raised:
            raise
    if raised:
        raise raised[0]
