"""Captioners that take no weights: what they say follows from the pixels, so that a wrong photo shows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from xpsr_cli.captioning.captions import Caption, CaptionerKey
from xpsr_cli.captioning.choosing import CaptionerChoice
from xpsr_cli.errors import NoAnswerError


class BrightnessCaptioner:
    """Says how bright a photo and its corners are; remembers how often and about how many it was asked."""

    name = "brightness"
    says_content = True

    def __init__(self, batch_size=3):
        self.batch_size = batch_size
        self.described = []  # photos per call
        self.summarized = []
        self.closed = 0

    def look(self, photo, box=None):
        info = photo.info
        window = (0, 0, info.height, info.width) if box is None else (box.top, box.left, box.height, box.width)
        return round(255 * float(photo.read(*window).colour.mean()))

    def describe(self, looks):
        self.described.append(len(looks))
        return [Caption(f"a surface of brightness {look}", "no noise", self.name) for look in looks]

    def summarize(self, looks):
        self.summarized.append(len(looks))
        return [f"brightness {look}" for look in looks]

    def close(self):
        self.closed += 1


class ChoosyCaptioner(BrightnessCaptioner):
    """Refuses whole batches with a photo in them that it will not describe."""

    def __init__(self, refused, batch_size=3):
        super().__init__(batch_size)
        self.refused = refused

    def describe(self, looks):
        if any(look in self.refused for look in looks):
            raise NoAnswerError("The model does not describe the photo.", "Try another model.")
        return super().describe(looks)


def choice_of(captioner, version=1):
    """As :func:`choose_captioner` gives it; loading gives ``captioner``."""
    key = CaptionerKey(captioner.name, "the mean of the pixels", version=version)
    return CaptionerChoice(key, lambda: captioner)


def grey_photo(path, value, size=(24, 16)):
    """A photo of one brightness."""
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path)
    return path
