"""What made a picture, in the picture: a manifest, and in IPTC's words that a model had a hand in it.

The manifest is a JSON object. It lies in the XMP packet of every format and, where there are texts, in one with the
keyword ``xpsr``, which any viewer shows. It names the input by its file name and SHA-256 only: folders are nobody's
business. It has no time in it, so the same work gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from PIL import JpegImagePlugin, WebPImagePlugin

from xpsr_cli import __version__
from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import formats, png_chunks, xmp
from xpsr_cli.photos.formats import PhotoFormat, reason
from xpsr_cli.photos.ifd import read_directory, read_header
from xpsr_cli.photos.metadata import Metadata, read_metadata
from xpsr_cli.photos.texts import MANIFEST, with_text
from xpsr_cli.photos.whole_picture import pillow_as_decoder
from xpsr_cli.settings import OutputOptions

# A photograph in which a diffusion model has put detail: neither made by the model alone (trainedAlgorithmicMedia)
# nor merely corrected by rules (algorithmicallyEnhanced), as the detail is the model's invention.
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's word for a result (https://cv.iptc.org/newscodes/digitalsourcetype/)."""

_MAX_BYTES = 2**24  # of XMP, which in a result has kilobytes
_XMP_TAG = 700


def make_manifest(
    *,
    model: str,
    weights: str,
    input_name: str,
    input_sha256: str,
    settings: Mapping[str, Any],
    options: OutputOptions,
    seed: int,
    made_with: Mapping[str, Any] | None = None,
    captioner: str = "",
    reference: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of a result, of plain values.

    ``weights`` is the fingerprint of the model's files, ``settings`` are those that were used (of the model's preset
    and of the user), ``made_with`` is what else the exact pixels depend on: the kind of device, precision, libraries.
    ``captioner`` is who wrote the prompts among the settings, where somebody did. ``reference`` is what else
    had a part in it, where there was a first stage: the add-on, and the files of its activator by their hash.
    """
    output = {"bits": options.bits, "quality": options.quality, "compression": options.compression}
    return {
        "xpsr": __version__,
        "model": model,
        "weights": weights,
        "input": {"name": Path(input_name).name, "sha256": input_sha256},
        "settings": {name: _plain(value) for name, value in settings.items()},
        "output": {name: _plain(value) for name, value in output.items()},
        "seed": seed,
        "captioner": captioner,
        **({"reference": dict(reference)} if reference else {}),
        "made_with": {name: _plain(value) for name, value in (made_with or {}).items()},
    }


def with_provenance(metadata: Metadata, manifest: Mapping[str, Any]) -> Metadata:
    """The metadata with a manifest and the source type, in place of any that the photo had.

    A photo whose XMP is damaged keeps it as it is and has the manifest as a text only.
    """
    words = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    packet = xmp.with_properties(
        metadata.xmp,
        {xmp.DIGITAL_SOURCE_TYPE: xmp.as_text(DIGITAL_SOURCE_TYPE), xmp.MANIFEST: xmp.as_text(words)},
    )
    return replace(metadata, xmp=packet or metadata.xmp, texts=with_text(metadata.texts, MANIFEST, words))


def ways_to_tell(metadata: Metadata, manifest: Mapping[str, Any]) -> Iterator[Metadata]:
    """The metadata with a manifest, for files that hold only so much: whole, as a text alone, and at last without it.

    The last two leave the photo's own XMP as it is, but for an older manifest.
    """
    whole = with_provenance(metadata, manifest)
    yield whole
    packet = metadata.xmp and xmp.with_properties(metadata.xmp, {xmp.MANIFEST: None})
    own = replace(metadata, xmp=packet or metadata.xmp)
    yield replace(own, texts=whole.texts)
    yield replace(own, texts=tuple(text for text in metadata.texts if text[0] != MANIFEST))


def read_provenance(path: str | Path) -> dict[str, Any] | None:
    """The manifest of a result in PNG, JPEG, WebP or TIFF; ``None`` for a photo that xpsr did not make.

    Only what stands around the pixels is read. :class:`PhotoError` for what is no photo or is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            photo_format = formats.identify(stream.read(16))
            found = None if photo_format is None else _read(photo_format, stream)
    except OSError as error:
        raise PhotoError(f"{path} cannot be opened: {reason(error)}.", "Check the name and the folder.") from error
    except Exception as error:  # decoders raise anything on damaged files
        raise PhotoError(f"{path} is damaged or cut short: {reason(error)}.", "Copy it again.") from error
    if photo_format is None:
        raise PhotoError(f"{path} is not a photo, as its first bytes show.", "Name a result of xpsr.")
    return found


def _read(photo_format: PhotoFormat, stream: BinaryIO) -> dict[str, Any] | None:
    metadata, _ = read_metadata(_info(photo_format, stream))
    words = dict(metadata.texts).get(MANIFEST)
    if words is None and metadata.xmp is not None and len(metadata.xmp) <= _MAX_BYTES:
        words = xmp.read_property(metadata.xmp, xmp.MANIFEST)
    if words is None:
        return None
    manifest = json.loads(words)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("xpsr"), str):
        raise ValueError("its manifest makes no sense")
    return manifest


def _info(photo_format: PhotoFormat, stream: BinaryIO) -> Mapping[Any, Any]:
    """What stands around the pixels of a file, by the names that :func:`read_metadata` knows."""
    if photo_format is formats.PNG:
        return png_chunks.read_header(stream).metadata
    if photo_format is formats.TIFF:
        layout, offset = read_header(stream)
        return {"xmp": next((f.data for f in read_directory(stream, layout, offset)[0] if f.tag == _XMP_TAG), None)}
    stream.seek(0)
    with pillow_as_decoder():
        if photo_format is formats.WEBP:
            return WebPImagePlugin.WebPImageFile(stream).info
        if photo_format is formats.JPEG:
            image = JpegImagePlugin.JpegImageFile(stream)
            return image.info | {"comment": [data for marker, data in image.applist if marker == "COM"]}
    return {}  # AVIF, which no result is


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
