"""What is told of each photo of a run: a line for people, a JSON record for programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli.cli.console import Console, printable
from xpsr_cli.errors import XpsrError

if TYPE_CHECKING:
    from xpsr_cli.captioning.captions import Caption
    from xpsr_cli.photos.photo import PhotoInfo
    from xpsr_cli.upscaling.enlargement import Enlargement
    from xpsr_cli.upscaling.journal import Claim
    from xpsr_cli.upscaling.seams import SeamReport
    from xpsr_cli.upscaling.upscaler import Upscaler


def label(source: Path, number: int, count: int) -> str:
    """What a photo of a run is called: its name, with its number where there are several."""
    return source.name if count == 1 else f"[{number}/{count}] {source.name}"


def tell_done(
    console: Console,
    claim: Claim,
    name: str,
    info: PhotoInfo,
    made: Enlargement,
    caption: Caption,
    upscaler: Upscaler,
    left: str,
) -> None:
    """A result is in its place.

    ``info`` is what was written, ``caption`` where its prompts come from, ``left`` the time that is left for the
    others.
    """
    words = [f"{name}: {info.width} x {info.height} pixels in {sum(made.seconds.values()):.1f} s"]
    if made.seams is not None:
        words.append(in_words(made.seams) if made.windows > 1 else "one window, so no seams")
    if made.agreement is not None:
        words.append(f"reduced, it agrees with the photo to {made.agreement:.1f} dB")
    console.note(", ".join([*words, left] if left else words))
    if caption.high or caption.low:
        console.note(f"  {_told(caption)}")
    record = _record(claim.source, claim.target, "done")
    if console.as_json:
        record |= {
            "width": info.width,
            "height": info.height,
            "bits": bits_of(info),
            "input_sha256": claim.photo.sha256,
            "model": upscaler.components.name,
            "fingerprint": upscaler.components.fingerprint,
            "seed": made.seed,
            "settings": made.settings,
            "captioner": caption.captioner,
            "windows": made.windows,
            "seconds": made.seconds,
        }
        if upscaler.components.reference is not None:
            record["add_on"] = upscaler.components.reference.name
        if made.seams is not None:
            record["seams"] = asdict(made.seams)
        if made.agreement is not None:
            record["agreement_db"] = round(made.agreement, 2)
    console.result(record, str(claim.target))


def tell_done_before(console: Console, source: Path, target: Path) -> None:
    """An earlier run has made this very result."""
    console.note(f"{source}: done before")
    console.result(_record(source, target, "done before"), str(target))


def tell_skipped(console: Console, source: Path, target: Path) -> None:
    """The user wanted photos left out whose result exists."""
    console.note(f"{source}: skipped, {target} exists")
    console.result(_record(source, target, "skipped"))


def tell_failed(console: Console, source: Path, target: Path, failure: XpsrError) -> None:
    """A photo could not be done."""
    told = {"error": failure.message, "hint": failure.hint, "exit_code": int(failure.exit_code)}
    console.result(_record(source, target, "failed") | told)


def tell_planned(console: Console, source: Path, target: Path, line: str, facts: dict[str, Any]) -> None:
    """What doing a photo would take."""
    console.result(_record(source, target, "planned") | facts, line)


def _told(caption: Caption) -> str:
    """A caption on one line."""
    texts = "; ".join(text for text in (caption.high, caption.low) if text)
    regions = f", and {len(caption.regions)} regions of their own" if caption.regions else ""
    return printable(f"{caption.captioner}: {texts}{regions}")


def in_words(seams: SeamReport) -> str:
    """The figures of a seam meter."""
    interval = f"{seams.index_low:.3f} to {seams.index_high:.3f}"
    step = f"brightness step {seams.brightness_step:.2f}/255"
    return f"seam index {seams.index:.3f} (99 % CI {interval}), {step}"


def bits_of(info: PhotoInfo) -> int:
    """Bits per channel."""
    return 8 * info.depth.dtype.itemsize


def _record(source: Path, target: Path, status: str) -> dict[str, Any]:
    return {"input": str(source), "output": str(target), "status": status}
