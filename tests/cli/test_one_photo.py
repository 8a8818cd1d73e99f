"""What a result says of its making gives way to the photo's own metadata."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from xpsr_cli.errors import ExitCode
from xpsr_cli.photos import formats, xmp
from xpsr_cli.photos.metadata import Metadata
from xpsr_cli.photos.photo import Photo
from xpsr_cli.photos.provenance import read_provenance, with_provenance
from xpsr_cli.photos.sink import write_photo
from xpsr_cli.photos.source import read_photo

LIMIT = formats.JPEG.max_xmp_bytes


def packet_of(length):
    """An XMP packet of so many bytes."""
    packet = xmp.with_texts(None, [("Title", "x" * 1000)])
    return packet.replace(b"x" * 1000, b"x" * (1000 + length - len(packet)))


@pytest.fixture
def enlarge(xpsr, tiny_model, tmp_path):
    """``enlarge(metadata, ...)`` enlarges a JPEG that has them to one; returns the path of the result."""

    def call(metadata, *arguments):
        pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        write_photo(Photo(pixels, metadata=metadata), tmp_path / "photo.jpg")
        command = ["upscale", tmp_path / "photo.jpg", "-o", tmp_path / "big.jpg", "--overwrite"]
        outcome = xpsr(*command, "--model", tiny_model, "--scale", 1, "--steps", 1, *arguments)
        assert outcome.code == ExitCode.OK, outcome.err
        return tmp_path / "big.jpg"

    return call


@pytest.mark.parametrize("room", [0, 1, 100, 300])
def test_xmp_that_fills_a_jpeg_is_kept_and_a_comment_tells_the_making(enlarge, room):
    packet = packet_of(LIMIT - room)
    assert len(packet) == LIMIT - room
    made = enlarge(Metadata(xmp=packet), "--seed", 7)
    assert read_photo(made).metadata.xmp == packet
    assert read_provenance(made)["seed"] == 7


def test_where_there_is_room_the_packet_says_it_too(enlarge):
    made = enlarge(Metadata(xmp=packet_of(LIMIT - 20000)), "--seed", 7)
    packet = read_photo(made).metadata.xmp
    assert xmp.read_property(packet, xmp.DIGITAL_SOURCE_TYPE)
    assert '"seed":7' in xmp.read_property(packet, xmp.MANIFEST)


def test_a_making_that_is_longer_than_a_comment_is_left_out(enlarge):
    made = enlarge(Metadata(texts=(("Comment", "mine"),)), "--prompt", "word " * 14000)
    assert read_provenance(made) is None
    with Image.open(made) as image:
        assert image.info["comment"] == b"mine"


def test_an_older_making_never_stays_in_place_of_one_that_does_not_fit(enlarge):
    older = with_provenance(Metadata(), {"xpsr": "0.0.1", "seed": 1})
    made = enlarge(older, "--prompt", "word " * 14000)
    assert read_provenance(made) is None


def test_a_comment_of_the_user_is_what_viewers_show(enlarge):
    made = enlarge(Metadata(texts=(("Comment", "taken at dawn"),)))
    with Image.open(made) as image:
        assert image.info["comment"] == b"taken at dawn"
    assert read_provenance(made) is not None
