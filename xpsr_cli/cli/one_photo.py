"""One photo from its file to the file of its result, whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpsr_cli.activator_names import ActivatorName
from xpsr_cli.errors import PhotoError
from xpsr_cli.photos.photo import PhotoInfo
from xpsr_cli.photos.provenance import make_manifest, ways_to_tell
from xpsr_cli.photos.sink import check_output, result_info, write_bands
from xpsr_cli.photos.source import open_photo
from xpsr_cli.progress import Progress
from xpsr_cli.settings import Mode, OutputOptions, UpscaleSettings
from xpsr_cli.upscaling.journal import Claim

if TYPE_CHECKING:
    from xpsr_cli.captioning.captions import Caption
    from xpsr_cli.upscaling.enlargement import Enlargement
    from xpsr_cli.upscaling.upscaler import Upscaler

WITHOUT_EFFECT = frozenset({"tile_batch", "in_memory_mp", "verify"})
"""Settings that change speed, memory or what is said, but no byte of a result."""
_OFF = {"fidelity": 0, "mode": Mode.XPSR, "activate": None, "start": None, "strength": None}
"""Settings that at these values have no effect either: what was made before there were such settings stays known."""


def upscale_file(
    claim: Claim,
    upscaler: Upscaler,
    settings: UpscaleSettings,
    caption: Caption,
    options: OutputOptions,
    progress: Progress,
) -> tuple[PhotoInfo, Enlargement]:
    """Enlarge the photo of a claim and put the result in its place; what was written, and how it came about.

    ``caption`` is where the prompts in the settings come from: the result says who wrote it.
    Raises what reading, enlarging and writing raise; nothing is left of the result then.
    """
    claim.work_folder.mkdir(parents=True, exist_ok=True)
    with open_photo(claim.source, spool_folder=claim.work_folder) as photo:
        made = upscaler.upscale(photo, settings, progress, work_folder=claim.work_folder)
        info = result_info(made.info, made.info.size, claim.target, options)
        if options.metadata:
            manifest = _manifest(claim, upscaler, made, caption, options)
            info = _with_manifest(info, manifest, claim.target, options)
        with _told_of(claim.target, claim.complete):
            write_bands(made.bands(), info, claim.complete, options, temporary=claim.temporary)
    claim.commit()
    return info, made


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a result's settings, those that have a say in its bytes. Where an activator's files lie has none."""
    chosen = {
        name: value for name, value in settings.items() if name not in WITHOUT_EFFECT and value != _OFF.get(name, ...)
    }
    if "activate" in chosen:
        chosen["activate"] = str(ActivatorName.parse(chosen["activate"]))
    return chosen


def _manifest(
    claim: Claim, upscaler: Upscaler, made: Enlargement, caption: Caption, options: OutputOptions
) -> dict[str, Any]:
    told = {"model", "weights", "add_on", "add_on_weights"}
    machine = {name: value for name, value in upscaler.identity.items() if name not in told}
    return make_manifest(
        model=upscaler.components.name,
        weights=upscaler.components.fingerprint,
        input_name=claim.source.name,
        input_sha256=claim.photo.sha256,
        settings=deciding(made.settings),
        options=options,
        seed=made.seed,
        made_with=machine,
        captioner=caption.captioner,
        reference=_reference(claim, upscaler),
    )


def _reference(claim: Claim, upscaler: Upscaler) -> dict[str, Any]:
    """Which add-on and which files of an activator had a part in a result; nothing where none had."""
    add_on, hashes = upscaler.components.reference, claim.making["model"]
    told = {
        "add_on": add_on and add_on.name,
        "add_on_sha256": hashes.get("add_on"),
        "activator_sha256": hashes.get("activator"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _with_manifest(info: PhotoInfo, manifest: Mapping[str, Any], target: Path, options: OutputOptions) -> PhotoInfo:
    """The result with as much of the manifest as its file holds: no photo fails for our words."""
    for metadata in ways_to_tell(info.metadata, manifest):
        told = replace(info, metadata=metadata)
        with suppress(PhotoError):
            check_output(target, told, options, transparent=told.alpha)
            break
    return told


@contextmanager
def _told_of(target: Path, complete: Path) -> Iterator[None]:
    """Failures to write ``complete`` speak of the file that the user asked for."""
    try:
        yield
    except PhotoError as error:
        message = error.message.replace(os.path.realpath(complete), str(target))
        raise PhotoError(message, error.hint) from error
