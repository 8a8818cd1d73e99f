"""The plain ways to enlarge that everything is compared with. Standard library only."""

from __future__ import annotations

from enum import Enum


class Baseline(str, Enum):
    """Plain resampling, with Pillow."""

    BICUBIC = "bicubic"
    LANCZOS = "lanczos"
    NEAREST = "nearest"
