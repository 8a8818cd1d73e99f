"""Pictures made by arithmetic that gives the same pixels everywhere, and what published NIQE code says of them."""

from __future__ import annotations

import numpy as np

PUBLISHED_CODE = {
    "waves": 20.909907,
    "hills": 6.498339,
    "tiles": 12.356300,
    "astronaut": 3.062388,
    "camera": 3.095938,
    "coffee": 4.061590,
}
"""By the unmodified code of pyiqa 0.1.16 (its metric ``niqe``) with the pristine model that the authors published; the
last three are photos of scikit-image."""


def made_pictures() -> dict[str, np.ndarray]:
    """(H, W, 3) uint8 by name: textures, noise, flat areas, odd sizes."""
    y, x = np.mgrid[:300, :421]
    noise = np.random.RandomState(5).randint(0, 64, (300, 421, 3))
    waves = (x * x + 3 * y * y) // 97 % 96 + (x * y) // 61 % 64
    grains = np.random.RandomState(6).randint(-12, 13, (288, 384)).cumsum(axis=0).cumsum(axis=1)
    hills = np.abs(grains // 16) % 384
    tiles = np.random.RandomState(7).randint(0, 256, (12, 16, 3)).repeat(24, axis=0).repeat(24, axis=1)
    tiles[100:260, 50:350] += np.random.RandomState(8).randint(-3, 4, (160, 300, 3))
    return {
        "waves": (waves[..., None] + noise).astype(np.uint8),
        "hills": np.repeat(np.minimum(hills, 383 - hills)[..., None], 3, axis=2).astype(np.uint8),
        "tiles": tiles.clip(0, 255).astype(np.uint8),
    }
