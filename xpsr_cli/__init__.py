"""xpsr: photographs enlarged by a diffusion model that is told what it is looking at (XPSR, ECCV 2024)."""

__version__ = "0.1.0"
