"""Small photos to train on, and the folders, pairs and shards that they come in."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
from PIL import Image

from xpsr_cli.training.dataset import TrainingPairs
from xpsr_cli.training.recipe import load_recipe

CROP = 16
PLAIN = [
    f"data.crop_px={CROP}",
    "data.batch_size=2",
    "data.held_out_photos=0",
    "data.held_out_ids=[]",
    "data.degradations={light = 1.0}",
    "data.high_dropout=0",
    "data.low_dropout=0",
    "data.low_phrase_dropout=0",
    "data.negative_probability=0",
]


def make_recipe(*overrides):
    """A recipe of small crops, without dropout and negative samples unless they are asked for."""
    return load_recipe("xpsr-mini", [*PLAIN, *overrides])


def make_pairs(photos, *overrides, captions=None):
    """What is trained on, with the words ``clean.`` as those that ask for quality."""
    recipe = make_recipe(*overrides)
    return TrainingPairs(photos, recipe, prompt_suffix="clean.", negative_low_prompt="clear", captions=captions)


def picture(seed=0, width=48, height=40):
    """(height, width, 3) uint8, smooth, different everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path, pixels, **options):
    """Write a photo, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def encoded(pixels, kind="PNG"):
    """The bytes of a photo's file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def cut_png(pixels):
    """A PNG whose header is whole and whose pixels end early."""
    data = encoded(pixels)
    return data[: len(data) * 2 // 3]


def cut_jpeg(pixels):
    """A JPEG that ends early, which shows only when its pixels are decoded."""
    data = encoded(pixels, "JPEG")
    return data[: len(data) * 2 // 3]


def write_shard(path, members):
    """A tar of names and contents: bytes, texts, or values for JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            if isinstance(content, dict):
                content = json.dumps(content)
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def same_item(first, second):
    """Whether two training items are equal to the last bit."""
    return all(
        bool((first[name] == second[name]).all()) if hasattr(first[name], "shape") else first[name] == second[name]
        for name in first.keys() | second.keys()
    )
