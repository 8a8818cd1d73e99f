"""A result says what made it, in every format, and says it once."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_photos import EXTENSIONS, refusal

from xpsr_cli import __version__
from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import formats, xmp
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.provenance import DIGITAL_SOURCE_TYPE, make_manifest, read_provenance, with_provenance
from xpsr_cli.photos.sink import write_photo
from xpsr_cli.photos.source import read_photo
from xpsr_cli.settings import Bits, ColorFix, Compression, OutputOptions

BROKEN_XMP = b"<x:xmpmeta> was never closed"


@pytest.fixture
def manifest():
    return make_manifest(
        model="xpsr-mini",
        weights="ab" * 32,
        input_name="/home/somebody/secret/photo \u00f6.jpg",
        input_sha256="cd" * 32,
        settings={
            "scale": 2.5,
            "prompt": 'a "red" <panda> & \u4e2d\U0001f600',
            "color_fix": ColorFix.WAVELET,
            "steps": None,
        },
        options=OutputOptions(bits=Bits.SIXTEEN, compression=Compression.ZSTD),
        seed=7,
        made_with={"device": "cpu"},
    )


def test_the_manifest_is_plain_and_names_no_folder(manifest):
    assert manifest["input"] == {"name": "photo \u00f6.jpg", "sha256": "cd" * 32}
    assert manifest["xpsr"] == __version__
    assert manifest["settings"]["color_fix"] == "wavelet"
    assert manifest["output"] == {"bits": "16", "quality": None, "compression": "zstd"}
    assert "somebody" not in json.dumps(manifest)
    assert json.loads(json.dumps(manifest)) == manifest


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_it_comes_back_from_every_format(tmp_path, pixels, icc, manifest, extension):
    path = tmp_path / f"result{extension}"
    write_photo(Photo(pixels, metadata=with_provenance(Metadata(icc=icc), manifest)), path)
    assert read_provenance(path) == manifest
    packet = read_photo(path).metadata.xmp
    assert xmp.read_property(packet, xmp.DIGITAL_SOURCE_TYPE) == DIGITAL_SOURCE_TYPE
    with Image.open(path) as image:
        image.load()  # others still read it


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_photo_of_somebody_else_has_none(tmp_path, pixels, extension):
    path = tmp_path / f"photo{extension}"
    write_photo(Photo(pixels, metadata=Metadata(texts=(("Comment", "hello"),))), path)
    assert read_provenance(path) is None


def test_an_avif_is_no_result(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.avif")
    assert read_provenance(tmp_path / "a.avif") is None


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_enlarging_a_result_again_says_only_the_last(tmp_path, pixels, manifest, extension):
    path = tmp_path / f"result{extension}"
    metadata, sizes = Metadata(texts=(("Comment", "hello"),)), []
    for seed in range(5, 9):
        write_photo(Photo(pixels, metadata=with_provenance(metadata, manifest | {"seed": seed})), path)
        metadata = read_photo(path).metadata
        sizes.append(len(metadata.xmp))
        assert read_provenance(path)["seed"] == seed
    assert len(set(sizes)) == 1
    assert [keyword for keyword, _ in metadata.texts].count("xpsr") <= 1
    assert metadata.xmp.count(DIGITAL_SOURCE_TYPE.encode()) == 1


def test_a_source_type_of_the_camera_is_replaced(manifest):
    camera = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    had = xmp.with_properties(None, {xmp.DIGITAL_SOURCE_TYPE: camera})
    made = with_provenance(Metadata(xmp=had), manifest)
    assert xmp.read_property(made.xmp, xmp.DIGITAL_SOURCE_TYPE) == DIGITAL_SOURCE_TYPE
    assert camera.encode() not in made.xmp


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_damaged_xmp_stays_as_it_is_and_a_text_says_it(tmp_path, pixels, manifest, extension):
    path = tmp_path / f"result{extension}"
    write_photo(Photo(pixels, metadata=with_provenance(Metadata(xmp=BROKEN_XMP), manifest)), path)
    assert read_photo(path).metadata.xmp == BROKEN_XMP
    assert read_provenance(path) == manifest


def test_xmp_that_just_fits_a_jpeg_goes_without_the_manifest(tmp_path, pixels, manifest):
    limit = formats.JPEG.max_xmp_bytes
    long = xmp.with_texts(None, [("Comment", "x" * 1000)])
    long = long.replace(b"x" * 1000, b"x" * (1000 + limit - len(long) - 500))
    made = with_provenance(Metadata(xmp=long), manifest)
    assert len(made.xmp) > limit
    write_photo(Photo(pixels, metadata=made), tmp_path / "a.jpg")
    assert read_provenance(tmp_path / "a.jpg") == manifest
    packet = read_photo(tmp_path / "a.jpg").metadata.xmp
    assert xmp.read_property(packet, xmp.DIGITAL_SOURCE_TYPE) == DIGITAL_SOURCE_TYPE


def test_only_the_profile_is_left_without_metadata(manifest, icc):
    made = with_provenance(Metadata(icc=icc, dpi=(72.0, 72.0)), manifest).only_profile()
    assert made == Metadata(icc=icc)


@pytest.mark.parametrize("words", ["{", "[]", "{}", '{"xpsr": 1}', "null", '"text"'])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_a_damaged_manifest_is_a_sentence(tmp_path, pixels, words, extension):
    path = tmp_path / f"result{extension}"
    packet = xmp.with_properties(None, {xmp.MANIFEST: xmp.as_text(words)})
    write_photo(Photo(pixels, metadata=Metadata(xmp=packet)), path)
    with refusal(PhotoError, path, "damaged"):
        read_provenance(path)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_damaged_files_are_a_sentence(tmp_path, pixels, manifest, extension):
    path = tmp_path / f"result{extension}"
    write_photo(Photo(pixels, metadata=with_provenance(Metadata(), manifest)), path)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(whole[: generator.integers(17, len(whole))])
        for place in generator.integers(16, len(broken), 4):
            broken[place] ^= 1 << generator.integers(8)
        path.write_bytes(broken)
        with suppress(PhotoError):
            found = read_provenance(path)
            assert found is None or isinstance(found["xpsr"], str)


def test_what_is_no_photo_is_a_sentence(tmp_path):
    (tmp_path / "a.png").write_text("hello, this is a text and no photo")
    for name, word in (("a.png", "not a photo"), ("b.png", "cannot be opened"), ("", "cannot be opened")):
        with refusal(PhotoError, tmp_path / name, word):
            read_provenance(tmp_path / name)


def test_texts_are_replaced_in_place_of_those_that_were_there(manifest):
    had = Metadata(texts=(("Title", "a"), ("xpsr", "{}"), ("xpsr", "{}")))
    made = with_provenance(had, manifest)
    assert [keyword for keyword, _ in made.texts] == ["Title", "xpsr"]
    assert json.loads(made.texts[1][1]) == manifest
    assert with_provenance(replace(made), manifest) == made
