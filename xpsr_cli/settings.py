"""The settings of every job, as frozen dataclasses of plain values.

The same word names a setting in the flag, the config file, Python, the JSON output and the docs.
``None`` means "what the model's own preset says" (see :class:`SamplingPreset`).
Only the standard library is imported here: the command line reads this module to draw its help.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from xpsr_cli.activator_names import NONE, ActivatorName
from xpsr_cli.errors import UsageError

MIN_SIDE_PX = 16
"""Smallest side of an input photo, in pixels."""
MIN_SCALE, MAX_SCALE = 1.0, 8.0
REFERENCE_STRENGTH = 0.6
"""Share of the steps that is done from a reference: at full noise nothing is left of it."""


def output_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Width and height of the result, in pixels."""
    return round(width * scale), round(height * scale)


class ColorFix(str, Enum):
    """How the colours of the result are tied to the input (specs: paper C9)."""

    ADAIN = "adain"
    WAVELET = "wavelet"
    WAVELET_CHROMA = "wavelet-chroma"  # that, and what is colour alone tied more closely
    NONE = "none"


class SchedulerName(str, Enum):
    """The diffusers schedulers that can drive the sampler."""

    DDPM = "ddpm"
    DDIM = "ddim"
    UNIPC = "unipc"
    DPMSOLVERPP = "dpmsolver++"


class Precision(str, Enum):
    """Floating-point type of the networks; ``auto`` takes the fastest one that is safe on the device."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class StartLatent(str, Enum):
    """What the sampler starts from.

    ``lr``: the encoded, enlarged input, noised (published XPSR noises it twice: ``added_noise_level``).
    ``reference``: the same of what an activator makes of the input (mode ``cassr``).
    ``noise``: pure noise times ``start_noise``; for residual latents, whose mean is zero, this *is* the input.
    """

    LR = "lr"
    REFERENCE = "reference"
    NOISE = "noise"


class Mode(str, Enum):
    """How many stages a photo goes through.

    ``xpsr``: one, conditioned on the photo. ``cassr``: an activator makes a reference of it first, and the model is
    conditioned on both (after CasSR). ``activator``: the first of these two alone, to see what it makes.
    """

    XPSR = "xpsr"
    CASSR = "cassr"
    ACTIVATOR = "activator"


class Sizing(str, Enum):
    """How the working canvas reaches a size the networks take.

    ``pad``: exact target size, edges replicated to the next multiple, cropped afterwards.
    ``resize``: the released script's rule (short side at least 512, floor to multiples of 8, resized back at the end).
    """

    PAD = "pad"
    RESIZE = "resize"


class Bits(str, Enum):
    """Bits per channel of a result; ``auto`` takes those of the photo, where the format holds them."""

    AUTO = "auto"
    EIGHT = "8"
    SIXTEEN = "16"


class Compression(str, Enum):
    """Lossless compression of a result: PNG knows ``none`` and ``deflate``, TIFF all of them."""

    NONE = "none"
    DEFLATE = "deflate"
    LZW = "lzw"
    ZSTD = "zstd"


class LongPrompts(str, Enum):
    """What happens to a prompt that is longer than the text encoder's 77 tokens.

    ``chunk``: it is encoded in several pieces and nothing of it is lost. ``truncate``: what the released script does;
    the end is cut off, and with it the quality words that stand there (specs C1).
    """

    CHUNK = "chunk"
    TRUNCATE = "truncate"


class CaptionSource(str, Enum):
    """Where the prompts of a photo come from, unless they are given.

    ``auto``: the sidecar beside the photo, else what suits the model and is at hand. ``none``: nowhere.
    ``measured``: the photo is measured and its quality put into words. ``mllm``: a multimodal model describes it.
    ``sidecar``: from ``photo.caption.json`` alone.
    """

    AUTO = "auto"
    NONE = "none"
    MEASURED = "measured"
    MLLM = "mllm"
    SIDECAR = "sidecar"


class CaptionScope(str, Enum):
    """What a high-level text speaks of: the whole ``image``, or each ``region`` of a few windows."""

    IMAGE = "image"
    REGION = "region"


class Quantization(str, Enum):
    """Number format of a multimodal model's weights in memory (bitsandbytes)."""

    NONE = "none"
    EIGHT_BIT = "8bit"
    FOUR_BIT = "4bit"


@dataclass(frozen=True)
class OutputOptions:
    """How a result is written. ``None`` is what suits the format (see :mod:`xpsr_cli.photos.sink`)."""

    bits: Bits = Bits.AUTO
    quality: int | None = None  # of JPEG and WebP, 1 to 100
    compression: Compression | None = None
    metadata: bool = True  # False drops everything but the colour profile, which says what the values mean

    def __post_init__(self) -> None:
        _require("quality", self.quality, 1, 100)


@dataclass(frozen=True)
class SamplingPreset:
    """The sampling settings a model was made for. The defaults are the published XPSR ones (its ``test.py``)."""

    steps: int = 20
    guidance_scale: float = 4.5
    conditioning_scale: float = 1.0
    scheduler: SchedulerName = SchedulerName.DDPM
    start: StartLatent = StartLatent.LR
    added_noise_level: int = 800  # second noising of the start latent, in training timesteps
    start_noise: float = 1.0  # standard deviation of the starting noise, for start = "noise"
    color_fix: ColorFix = ColorFix.ADAIN
    sizing: Sizing = Sizing.RESIZE
    tile_size: int = 512  # pixels of the enlarged photo
    tile_overlap: int = 128
    prompt_suffix: str = "clean, high-resolution, 8k, high quality, clear text."
    negative_prompt: str = "blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed."
    negative_low_prompt: str = "high resolution, best quality, clear"
    long_prompts: LongPrompts = LongPrompts.TRUNCATE
    captions: CaptionSource = CaptionSource.MLLM  # what ``auto`` takes where it is at hand

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SamplingPreset:
        """Build from JSON values; an unknown key is a :class:`UsageError` that lists the known ones."""
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UsageError(f"Unknown sampling setting {unknown[0]!r}.", f"Known: {', '.join(known)}.")
        enums = {
            "scheduler": SchedulerName,
            "start": StartLatent,
            "color_fix": ColorFix,
            "sizing": Sizing,
            "long_prompts": LongPrompts,
            "captions": CaptionSource,
        }
        return cls(**{k: enums[k](v) if k in enums else v for k, v in values.items()})


@dataclass(frozen=True)
class RegionPrompt:
    """What is in a part of a photo, which lies in the photo's own pixels."""

    left: int
    top: int
    width: int
    height: int
    prompt: str

    def __post_init__(self) -> None:
        if min(self.left, self.top) < 0 or min(self.width, self.height) < 1:
            raise UsageError(
                f"A region of {self.width} x {self.height} pixels at {self.left}, {self.top} is no part of a photo."
            )


@dataclass(frozen=True)
class UpscaleSettings:
    """What ``xpsr upscale`` was asked to do with a photo. ``None`` takes the model's preset."""

    scale: float = 4.0
    mode: Mode = Mode.XPSR
    activate: str | None = None  # who makes the reference (activator_names.py); None: as the add-on was trained
    prompt: str = ""  # what is in the photo (high-level)
    low_prompt: str = ""  # how it is degraded (low-level)
    region_prompts: tuple[RegionPrompt, ...] = ()  # what is in parts of it: a window takes the nearest, not ``prompt``
    negative_prompt: str | None = None
    long_prompts: LongPrompts | None = LongPrompts.CHUNK
    seed: int = 0
    steps: int | None = None
    start: StartLatent | None = None
    strength: float | None = None  # how far back to noise the start is taken: the share of the steps that is done
    guidance_scale: float | None = None
    conditioning_scale: float | None = None
    scheduler: SchedulerName | None = None
    color_fix: ColorFix | None = None
    fidelity: float = 0.0  # 0 leaves the result free; 1: reduced, it is the photo (upscaling/fidelity.py)
    tile_size: int | None = None  # pixels of the enlarged photo, a multiple of 64
    tile_overlap: int | None = None  # pixels of the enlarged photo, a multiple of 8
    tile_batch: int | None = None  # windows evaluated at a time, each in its own network call; None: by the memory
    in_memory_mp: float = 4.0  # megapixels of a result up to which its latents stay in memory
    verify: bool = False  # measure seams on the result

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            value = getattr(self, name)
            if value is not None:  # the word is as good as the member
                object.__setattr__(self, name, _choice(name, value, kind))
        regions = (RegionPrompt(**r) if isinstance(r, dict) else r for r in self.region_prompts)
        object.__setattr__(self, "region_prompts", tuple(regions))  # JSON values are as good as objects
        for name in ("prompt", "low_prompt", "negative_prompt"):
            _require_text(name, getattr(self, name) or "")
        _require("scale", self.scale, MIN_SCALE, MAX_SCALE)
        _require("steps", self.steps, 1, 1000)
        _require("strength", self.strength, 0.01, 1.0)
        self._check_mode()
        _require("guidance_scale", self.guidance_scale, 0.0, 50.0)
        _require("conditioning_scale", self.conditioning_scale, 0.0, 10.0)
        _require("fidelity", self.fidelity, 0.0, 1.0)
        if self.scale == self.fidelity == 1:
            raise UsageError(
                "The result of fidelity 1 at scale 1 is the photo itself.", "Use a larger scale or a lower fidelity."
            )
        _require("tile_batch", self.tile_batch, 1, 4096)
        _require("in_memory_mp", self.in_memory_mp, 0.0, 1e6)
        _require("seed", self.seed, 0, 2**63 - 1)
        _require("tile_size", self.tile_size, 128, 65536)
        if self.tile_size is not None and self.tile_size % 64:
            raise UsageError(f"tile-size is {self.tile_size}, which is not a multiple of 64.", "Try 512.")
        _require("tile_overlap", self.tile_overlap, 0, 65536)
        if self.tile_overlap is not None and self.tile_overlap % 8:
            raise UsageError(f"tile-overlap is {self.tile_overlap}, which is not a multiple of 8.", "Try 128.")

    def _check_mode(self) -> None:
        """Refuse what has no meaning in the mode."""
        if self.mode is Mode.XPSR and self.activate is not None:
            raise UsageError("Mode xpsr has no activator.", "Add --mode cassr, or leave --activate out.")
        if self.mode is not Mode.CASSR and self.start is StartLatent.REFERENCE:
            raise UsageError("A start from the reference needs one.", "Add --mode cassr.")
        activator = None if self.activate is None else ActivatorName.parse(self.activate).word
        if activator == NONE and self.start is StartLatent.REFERENCE:
            raise UsageError("Activator none makes no reference to start from.", "Name another one with --activate.")
        if activator == NONE and self.mode is Mode.ACTIVATOR:
            raise UsageError("Activator none makes nothing to be shown.", "Name another one with --activate.")
        if self.strength is not None and self.strength < 1 and self.start is StartLatent.NOISE:
            raise UsageError(
                f"strength is {self.strength:g}, and a start from noise alone has no other than 1.",
                "Start from lr or reference.",
            )

    def resolve(self, preset: SamplingPreset) -> SamplingPreset:
        """The preset with every setting the user named put over it; overlap must stay below the tile size."""
        named = {f.name: getattr(self, f.name) for f in fields(preset) if hasattr(self, f.name)}
        resolved = replace(preset, **{k: v for k, v in named.items() if v is not None})
        if resolved.tile_overlap > resolved.tile_size // 2:
            raise UsageError(
                f"tile-overlap {resolved.tile_overlap} is more than half of tile-size {resolved.tile_size}.",
                f"Use at most {resolved.tile_size // 2}.",
            )
        return resolved


_CHOICES: dict[str, type[Enum]] = {
    "mode": Mode,
    "start": StartLatent,
    "scheduler": SchedulerName,
    "color_fix": ColorFix,
    "long_prompts": LongPrompts,
}
"""Settings that are one of a few words."""


def _choice(name: str, value: str, kind: type[Enum]) -> Enum:
    """The member of ``kind`` that ``value`` names; another word is a :class:`UsageError` that lists them."""
    try:
        return kind(value)
    except ValueError:
        words = ", ".join(str(member.value) for member in kind)
        raise UsageError(f"{name.replace('_', '-')} is {value!r}, allowed is {words}.") from None


def _require_text(name: str, text: str) -> None:
    """Raise :class:`UsageError` for bytes of the command line that are no UTF-8: they come as halves of characters."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError(f"{name.replace('_', '-')} is {text!r}, which is no text in UTF-8.", "Type it anew.")


def _require(name: str, value: float | None, low: float, high: float) -> None:
    """Raise :class:`UsageError` unless ``low <= value <= high``; ``None`` passes, NaN does not."""
    if value is None:
        return
    if not math.isfinite(value) or not low <= value <= high:
        raise UsageError(f"{name.replace('_', '-')} is {value}, allowed is {low:g} to {high:g}.")
