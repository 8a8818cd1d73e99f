"""What is wrong with the enlargement of a photo of the corpus, read with other libraries than the program does."""

from __future__ import annotations

import numpy as np
from color_difference import ciede2000, to_lab
from photo_corpus import SCALE
from photo_files import CAPTION, CITY, COMMENT, COPYRIGHT, DPI, LATITUDE, MAKE, TAKEN
from photo_reading import Contents, read

MOST_DIFFERENT = 1.0
"""Mean CIEDE2000 between an input and its result at the input's size."""


def faults(result, record):
    """What is wrong with the file ``result``, one clause each, and the mean colour difference to the input."""
    found, source = read(result), read(record.path)
    source.orientation = record.tags.orientation
    source.upright()
    wrong = [*_wrong_picture(found, record), *_lost_tags(found, record, result.suffix)]
    if found.size != record.size:
        return wrong, float("inf")
    difference = colour_difference(source, found)
    if not difference <= MOST_DIFFERENT:
        wrong.append(f"colours differ by {difference:.2f}")
    return wrong, difference


def colour_difference(source: Contents, result: Contents):
    """Mean CIEDE2000 between a picture and its enlargement at its size, both over middle grey."""
    height, width = source.values.shape[:2]
    small = result.over_grey().reshape(height, SCALE, width, SCALE, -1).mean(axis=(1, 3))
    pair = []
    for contents, values in ((source, source.over_grey()), (result, small)):
        if values.shape[2] == 1 and contents.icc is None:
            values = np.repeat(values, 3, axis=2)
        pair.append(to_lab(values, contents.icc))
    return float(ciede2000(*pair).mean())


def _wrong_picture(found, record):
    if found.size != record.size:
        yield f"the size is {found.size}, not {record.size}"
    if found.bits < record.bits:
        yield f"{found.bits} bits of {record.bits}"
    if found.icc != record.tags.icc:
        yield "another colour profile" if found.icc else "no colour profile"
    if found.orientation != 1 or found.xmp_orientation != 1:
        yield f"orientation {found.orientation}, in XMP {found.xmp_orientation}"
    if (found.alpha is not None) != record.alpha:
        yield "no alpha" if record.alpha else "alpha out of nowhere"


def _lost_tags(found, record, suffix):
    if not record.tags.words:
        return
    wanted = {"Make": MAKE, "Copyright": COPYRIGHT, "DateTimeOriginal": TAKEN}
    wanted |= {"PixelXDimension": record.size[0], "PixelYDimension": record.size[1]}
    for name, value in wanted.items():
        if found.exif.get(name) != value:
            yield f"EXIF {name} is {found.exif.get(name)!r}"
    if found.latitude is None or not np.allclose(found.latitude, LATITUDE):
        yield f"GPS latitude is {found.latitude}"
    if f'photoshop:City="{CITY}"' not in found.xmp:
        yield "the city in XMP is lost"
    if f'exif:PixelXDimension="{record.size[0]}"' not in found.xmp:
        yield "the width in XMP is not the result's"
    if record.path.suffix in (".jpg", ".tif") and found.iptc.decode() != CAPTION:
        yield f"the caption in IPTC is {found.iptc!r}"
    if record.path.suffix in (".jpg", ".png") and COMMENT not in found.comments:
        yield f"the comment is lost among {found.comments}"
    if record.path.suffix in (".jpg", ".png", ".tif") and (found.dpi is None or abs(found.dpi - DPI) > 0.5):
        yield f"DPI is {found.dpi}"
