"""Profile, EXIF, XMP and resolution come through every pair of formats, corrected where the picture changed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from small_photos import EXTENSIONS, camera_exif, refusal

from xpsr_cli.errors import PhotoError
from xpsr_cli.photos import exif as exif_block
from xpsr_cli.photos import formats
from xpsr_cli.photos.metadata import Metadata, read_metadata
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.sink import write_photo
from xpsr_cli.photos.source import read_photo
from xpsr_cli.photos.xmp import read_texts

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" exif:PixelXDimension="40">'
    b"<tiff:Orientation>8</tiff:Orientation><tiff:ImageLength>24</tiff:ImageLength><dc:title>T\xc3\xb6ne</dc:title>"
    b"<xmp:Thumbnails><rdf:Alt>AAAA</rdf:Alt></xmp:Thumbnails></rdf:Description></x:xmpmeta>"
)


def tags(path):
    """What Pillow finds: the first directory, the EXIF one and the GPS one."""
    with Image.open(path) as image:
        found = image.getexif()
        return dict(found), dict(found.get_ifd(ExifTags.IFD.Exif)), dict(found.get_ifd(ExifTags.IFD.GPSInfo))


def enlarged(photo, factor=2):
    return photo.with_pixels(photo.pixels.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize("target", EXTENSIONS)
@pytest.mark.parametrize("source", EXTENSIONS)
def test_exif_goes_from_every_format_to_every_format(tmp_path, pixels, exif, source, target):
    first, second = tmp_path / f"in{source}", tmp_path / f"out{target}"
    write_photo(Photo(pixels, metadata=Metadata(exif=exif_block.upright(exif))), first)
    write_photo(enlarged(read_photo(first)), second)
    main, camera, place = tags(second)
    assert main[0x010F] == "Maker"
    assert main[0x8298] == "somebody"
    assert 0x0112 not in main
    assert camera[0x829A] == (1, 200)
    assert camera[0x9003] == "2020:01:02 03:04:05"
    assert camera[0x927C] == b"a note \0\1\2 of the maker"
    assert (camera[0xA002], camera[0xA003]) == (80, 48)
    assert 0x9214 not in camera  # a place in pixels of the old size
    assert place == {1: "N", 2: (47.0, 22.0, 8.5)}


@pytest.mark.parametrize("target", EXTENSIONS)
def test_a_photo_on_its_side_comes_out_upright_with_its_size_corrected(tmp_path, pixels, exif, target):
    Image.fromarray(pixels).save(tmp_path / "in.png", exif=exif)
    photo = read_photo(tmp_path / "in.png")
    np.testing.assert_array_equal(photo.pixels, np.rot90(pixels, -1))
    write_photo(enlarged(photo), tmp_path / f"out{target}")
    main, camera, _ = tags(tmp_path / f"out{target}")
    assert main.get(0x0112, 1) == 1
    assert (camera[0xA002], camera[0xA003]) == (48, 80)
    again = read_photo(tmp_path / f"out{target}")
    assert again.size == (48, 80)  # not turned a second time


def test_the_embedded_thumbnail_is_gone_and_the_rest_stays_where_it_was(exif):
    assert b"\xff\xd8\xff" in exif
    upright = exif_block.upright(exif)
    assert b"\xff\xd8\xff" not in upright
    found = Image.Exif()
    found.load(upright)
    assert found.get_ifd(ExifTags.IFD.IFD1) == {}
    note = b"a note \0\1\2 of the maker"
    assert upright.index(note) == exif.index(note)  # such notes hold offsets of their own
    assert exif_block.upright(upright) == upright


def test_size_tags_are_corrected_and_never_added():
    block = exif_block.upright(camera_exif())
    found = Image.Exif()
    found.load(exif_block.with_size(block, 70000, 3))
    assert found.get_ifd(ExifTags.IFD.Exif)[0xA002] == 70000
    assert found.get_ifd(ExifTags.IFD.Exif)[0xA003] == 3
    plain = Image.Exif()
    plain[0x010F] = "Maker"
    plain.load(exif_block.with_size(plain.tobytes()[6:], 7, 7))
    assert dict(plain) == {0x010F: "Maker"}


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"nonsense",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
        camera_exif()[:40],
    ],
)
def test_senseless_exif_is_left_out(block):
    metadata, orientation = read_metadata({"exif": b"Exif\0\0" + block})
    assert (metadata.exif, orientation) == (None, 1)


def test_directories_that_point_to_themselves_end():
    block = bytearray(camera_exif(thumbnail=False))
    at = block.index(b"\x69\x87\x04\x00")  # the pointer to the EXIF directory, little-endian
    block[at + 8 : at + 12] = (8).to_bytes(4, "little")
    metadata, orientation = read_metadata({"exif": bytes(block)})
    assert orientation == 6
    assert metadata.for_size(10, 10).exif is not None


def test_exif_that_old_programs_put_into_png_text():
    lines = "\nexif\n      99\n" + (b"Exif\0\0" + camera_exif()).hex()
    metadata, orientation = read_metadata({"Raw profile type exif": lines})
    assert orientation == 6
    assert metadata.exif is not None
    assert read_metadata({"Raw profile type exif": "\nexif\n 4\nzz"})[0].exif is None


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("copies", [1, 300, 3000])
def test_profiles_are_equal_byte_for_byte(tmp_path, pixels, icc, extension, copies):
    profile = icc * copies  # 300 copies need three JPEG segments, 3000 are 1.7 MB
    path = tmp_path / f"photo{extension}"
    write_photo(Photo(pixels, metadata=Metadata(icc=profile)), path)
    if copies < 3000 or extension != ".png":  # Pillow by itself refuses such a PNG
        with Image.open(path) as image:
            assert image.info["icc_profile"] == profile
    assert read_photo(path).metadata.icc == profile


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_xmp_is_carried_with_orientation_and_size_corrected(tmp_path, pixels, extension):
    metadata, orientation = read_metadata({"xmp": XMP})
    assert orientation == 6
    assert b"Thumbnails" not in metadata.xmp
    write_photo(Photo(pixels, metadata=metadata), tmp_path / f"a{extension}")
    first = read_photo(tmp_path / f"a{extension}")
    write_photo(enlarged(first), tmp_path / f"b{extension}")
    xmp = read_photo(tmp_path / f"b{extension}").metadata.xmp
    for part in (
        b'tiff:Orientation="1"',
        b"<tiff:Orientation>1<",
        b'exif:PixelXDimension="80"',
        b"<tiff:ImageLength>48<",
        b"T\xc3\xb6ne",
    ):
        assert part in xmp


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif"])
def test_resolution_is_carried(tmp_path, pixels, extension):
    write_photo(Photo(pixels, metadata=Metadata(dpi=(300.0, 240.0))), tmp_path / f"a{extension}")
    assert np.allclose(read_photo(tmp_path / f"a{extension}").metadata.dpi, (300, 240), atol=0.01)


def test_resolution_goes_through_webp_in_its_xmp(tmp_path, pixels):
    write_photo(Photo(pixels, metadata=Metadata(dpi=(300.0, 240.0))), tmp_path / "a.webp")
    again = read_photo(tmp_path / "a.webp")
    assert again.metadata.dpi == (300.0, 240.0)
    write_photo(again, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert tiff.pages[0].get_resolution() == (300.0, 240.0)


def test_resolution_of_tiff_per_centimetre_and_without_unit(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", resolution=(100, 50), resolutionunit="centimeter")
    assert read_photo(tmp_path / "a.tif").metadata.dpi == (254.0, 127.0)
    tifffile.imwrite(tmp_path / "b.tif", pixels, photometric="rgb", resolution=(100, 50), resolutionunit="none")
    assert read_photo(tmp_path / "b.tif").metadata.dpi is None


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 1), "no", (72,), None])
def test_senseless_resolution_is_left_out(dpi):
    assert read_metadata({"dpi": dpi})[0].dpi is None


def test_text_of_tiff_tags_keeps_its_bytes(tmp_path, pixels):
    extratags = [(270, 2, 0, "T\u00f6ne".encode(), True), (0x9C9B, 1, 4, b"\xf6\0\0\0", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", metadata=None, extratags=extratags)
    write_photo(read_photo(tmp_path / "a.tif"), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert tiff.pages[0].tags[270].value == "T\u00f6ne"
        assert bytes(tiff.pages[0].tags[0x9C9B].value) == b"\xf6\0\0\0"
        assert len(tiff.pages) == 1


def test_tags_of_storage_do_not_leave_a_tiff(tmp_path, pixels):
    extratags = [(33550, 12, 3, (1.0, 1.0, 0.0), True), (34377, 1, 4, b"8BIM", True), (271, 2, 0, "Maker", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="lzw", extratags=extratags)
    write_photo(read_photo(tmp_path / "a.tif"), tmp_path / "b.jpg")
    assert set(tags(tmp_path / "b.jpg")[0]) - {0x011A, 0x011B, 0x0128, 0x0131, 0x010E, 0x0132} == {0x010F}


def test_exif_goes_into_a_bigtiff(pixels):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric="rgb", bigtiff=True, byteorder=">", metadata=None)
    exif_block.add_to_tiff(stream, exif_block.upright(camera_exif("MM")), resolution=True)
    stream.seek(0)
    with tifffile.TiffFile(stream) as tiff:
        page = tiff.pages[0]
        assert tiff.is_bigtiff
        assert page.tags["Make"].value == "Maker"
        assert page.tags["ExifTag"].value["ExposureTime"] == (1, 200)
        np.testing.assert_array_equal(page.asarray(), pixels)


def test_the_example_photo_has_what_can_be_seen_carried(tmp_path):
    example = Path(__file__).parents[2] / "examples" / "photo.jpg"
    photo = read_photo(example)
    assert photo.size == (256, 256)
    assert example.stat().st_size < 100_000
    write_photo(enlarged(photo, 4), tmp_path / "out.png")
    main, camera, _ = tags(tmp_path / "out.png")
    assert "Red panda" in main[0x010E]
    assert camera[0xA002] == 1024
    assert b"sRGB" in read_photo(tmp_path / "out.png").metadata.icc.replace(b"\0", b"")


IPTC = b"\x1c\x02\x05\x00\x05T\xc3\xb6ne\x1c\x02\x78\x00\x01x"
TEXTS = (("Title", "T\u00f6ne"), ("Comment", "two\nlines"), ("Software", "of a camera"))


@pytest.mark.parametrize("target", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("source", [".png", ".jpg", ".tif"])
def test_iptc_goes_between_the_formats_that_hold_it(tmp_path, pixels, source, target):
    first, second = tmp_path / f"in{source}", tmp_path / f"out{target}"
    write_photo(Photo(pixels, metadata=Metadata(iptc=IPTC)), first)
    write_photo(enlarged(read_photo(first)), second)
    assert read_photo(second).metadata.iptc == IPTC


def test_iptc_that_is_among_the_tags_of_an_exif_block(pixels):
    block = exif_block.upright(camera_exif("II", thumbnail=False))
    assert exif_block.iptc(block) is None
    exif = Image.Exif()
    exif[0x83BB] = IPTC
    assert read_metadata({"exif": exif.tobytes()})[0].iptc == IPTC


def test_iptc_does_not_fit_webp_and_the_sentence_says_where_it_does(pixels):
    with refusal(PhotoError, "WebP", "IPTC", "PNG (.png) or JPEG (.jpg) or TIFF (.tif)", "--no-metadata"):
        Metadata(iptc=IPTC).for_output(formats.WEBP, 40, 24)
    assert Metadata(iptc=IPTC, icc=b"x").only_profile().for_output(formats.WEBP, 40, 24) == Metadata(icc=b"x")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_texts_are_in_every_format(tmp_path, pixels, extension):
    write_photo(Photo(pixels, metadata=Metadata(texts=TEXTS)), tmp_path / f"a{extension}")
    found = read_photo(tmp_path / f"a{extension}").metadata
    if extension == ".png":
        assert found.texts == TEXTS
    elif extension == ".jpg":
        assert found.texts == (("Comment", "Title: T\u00f6ne"), ("Comment", "Software: of a camera"), TEXTS[1])
    else:
        assert found.texts == ()
        assert b"<dc:title>" in found.xmp
        assert tuple(read_texts(found.xmp)) == TEXTS[1:]


@pytest.mark.parametrize(
    ("comment", "text"), [(b"plain\0", "plain"), ("T\u00f6ne".encode(), "T\u00f6ne"), (b"T\xf6ne", "T\u00f6ne")]
)
def test_comments_of_jpegs_are_texts(comment, text):
    assert read_metadata({"comment": comment})[0].texts == (("Comment", text),)
    assert read_metadata({"comment": [comment, b"", b"more"]})[0].texts == (("Comment", text), ("Comment", "more"))


def test_texts_that_fit_nowhere_are_refused():
    with refusal(PhotoError, "JPEG", "texts", "PNG (.png)"):
        Metadata(texts=(("Comment", "x" * 65534),)).for_output(formats.JPEG, 40, 24)
    assert Metadata(texts=(("Comment", "x" * 65533),)).for_output(formats.JPEG, 40, 24).texts
    with refusal(PhotoError, "TIFF", "XMP is damaged", "PNG (.png) or JPEG (.jpg)"):
        Metadata(xmp=b"<broken", texts=TEXTS).for_output(formats.TIFF, 40, 24)


def test_texts_that_travel_in_fields_of_their_own_are_no_texts():
    kept = [("Comment", "a"), ("Raw profile type iptc", "\niptc\n"), ("XML:com.adobe.xmp", "<x/>"), ("Empty", "")]
    assert read_metadata({"texts": kept})[0].texts == (("Comment", "a"),)


def test_without_metadata_the_values_still_mean_the_same(icc):
    everything = Metadata(icc, b"e", b"x", b"i", (72.0, 72.0), TEXTS, ((b"gAMA", b"g"),))
    assert everything.only_profile() == Metadata(icc=icc, png_colour=((b"gAMA", b"g"),))


def test_an_exif_block_that_only_turned_the_picture_is_gone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 80)).save(tmp_path / "a.jpg", exif=exif)
    metadata = read_photo(tmp_path / "a.jpg").metadata
    assert metadata.exif is None
    assert metadata.for_size(80, 48).exif is None
