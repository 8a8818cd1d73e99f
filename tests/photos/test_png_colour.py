"""A PNG that describes its colours without a profile looks the same in the formats that need one."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import ImageCms
from small_photos import refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import formats
from xpsr_cli.photos.metadata import Metadata, read_metadata
from xpsr_cli.photos.png_colour import profile_of

SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE_PRIMARIES = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


def gamma(value):
    return b"gAMA", struct.pack(">I", value)


def primaries(values):
    return b"cHRM", struct.pack(">8I", *values)


def cicp(*numbers):
    return b"cICP", bytes(numbers)


def luminance(profile, levels, space="rgb"):
    """Y, over that of white, of equal channels at ``levels``."""
    values = np.asarray(levels, np.float32)[None]
    values = values if space == "gray" else np.stack([values] * 3, -1)
    options = {"colorspace": space, "outcolorspace": "xyz", "outdtype": "float32", "intent": 1}
    xyz = imagecodecs.cms_transform(values, profile, imagecodecs.cms_profile("xyz"), **options)
    return xyz[0, :, 1] / xyz[0, -1, 1]


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        ((b"sRGB", b"\0"), gamma(100000)),
        (gamma(45455),),
        (gamma(45455), primaries(SRGB_PRIMARIES)),
        (primaries(SRGB_PRIMARIES),),
        (cicp(1, 13, 0, 1), gamma(100000)),
        (gamma(0),),
        ((b"gAMA", b"12"),),
        (primaries((0,) * 8),),
        (primaries((31270, 32900) * 4),),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_what_is_srgb_or_nonsense_needs_no_profile(chunks, grey):
    assert profile_of(chunks, grey=grey) is None


@pytest.mark.parametrize(
    ("chunks", "exponent"),
    [((gamma(100000),), 1.0), ((gamma(55556),), 1.8), ((cicp(1, 8, 0, 1),), 1.0), ((cicp(1, 4, 0, 1),), 2.2)],
)
@pytest.mark.parametrize("grey", [False, True])
def test_the_tone_curve_is_the_pngs(chunks, exponent, grey):
    levels = np.linspace(0.05, 1, 20)
    profile = profile_of(chunks, grey=grey)
    imagecodecs.cms_profile_validate(profile)
    np.testing.assert_allclose(luminance(profile, levels, "gray" if grey else "rgb"), levels**exponent, atol=1e-3)
    assert profile == profile_of(chunks, grey=grey)


@pytest.mark.parametrize(
    ("chunks", "green"),
    [
        ((primaries(ADOBE_PRIMARIES),), (0.21, 0.71)),
        ((gamma(45455), primaries(ADOBE_PRIMARIES)), (0.21, 0.71)),
        ((cicp(12, 13, 0, 1), (b"sRGB", b"\0")), (0.265, 0.690)),
        ((cicp(9, 1, 0, 1),), (0.170, 0.797)),
    ],
)
def test_the_primaries_are_the_pngs(chunks, green):
    read = ImageCms.ImageCmsProfile(io.BytesIO(profile_of(chunks))).profile
    to_d50 = np.array(read.chromatic_adaptation[0])
    xyz = np.linalg.inv(to_d50) @ np.array(read.green_primary[0])
    np.testing.assert_allclose(xyz[:2] / xyz.sum(), green, atol=1e-3)


@pytest.mark.parametrize(
    "numbers", [(9, 16, 0, 1), (9, 18, 0, 1), (9, 13, 6, 1), (9, 13, 0, 0), (3, 13, 0, 1), (9, 9, 0, 1)]
)
def test_what_no_profile_says_is_kept_in_pngs_and_refused_elsewhere(numbers):
    metadata = Metadata(png_colour=(cicp(*numbers),))
    assert metadata.for_output(formats.PNG, 40, 24) == metadata
    assert metadata.hdr == (numbers[1] in (16, 18))
    with refusal(PhotoError, "PNG", "cICP" if not metadata.hdr else "HDR"):
        metadata.for_output(formats.TIFF, 40, 24)


def test_a_profile_goes_before_all_but_cicp():
    info = {
        "icc_profile": b"p",
        "png_colour": [gamma(100000), (b"sRGB", b"\0"), cicp(9, 16, 0, 1), (b"cLLI", bytes(8))],
    }
    metadata, _ = read_metadata(info)
    assert metadata.png_colour == (cicp(9, 16, 0, 1), (b"cLLI", bytes(8)))
    with refusal(PhotoError, "HDR"):
        metadata.for_output(formats.JPEG, 40, 24)
    assert read_metadata({**info, "icc_profile": None})[0].png_colour == tuple(info["png_colour"])


def test_other_formats_get_a_profile_in_place_of_the_chunks():
    metadata = Metadata(png_colour=(gamma(100000),))
    made = metadata.for_output(formats.TIFF, 40, 24)
    assert made == Metadata(icc=profile_of((gamma(100000),)))
    assert metadata.for_output(formats.JPEG, 40, 24, grey=True).grey_profile
    both = Metadata(icc=b"own", png_colour=(cicp(12, 13, 0, 1),))
    assert both.for_output(formats.WEBP, 40, 24) == Metadata(icc=b"own")
