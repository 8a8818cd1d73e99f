"""``xpsr caption``: what is in photos and how they are degraded, in words that are kept, shown and written down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpsr_cli.captioning.regions import REGION_PX, region_boxes
from xpsr_cli.cli.caption_options import (
    CAPTIONER_HELP,
    REGION_SIZE_HELP,
    EndpointOption,
    QuantizeOption,
    ScopeOption,
    complete_captioner,
)
from xpsr_cli.cli.caption_review import Reviewer, check_terminal, lines_of
from xpsr_cli.cli.console import Console, print_error, quiet_third_parties
from xpsr_cli.cli.options import (
    ConfigOption,
    DebugFlag,
    DeviceOption,
    JsonFlag,
    PrecisionOption,
    QuietFlag,
)
from xpsr_cli.errors import PartialFailureError, UsageError, XpsrError
from xpsr_cli.photos.inputs import Shard, find_photos
from xpsr_cli.progress import Progress
from xpsr_cli.settings import MIN_SIDE_PX, CaptionScope, Precision, Quantization

if TYPE_CHECKING:
    from xpsr_cli.captioning.captioning import Boxes, Captioned
    from xpsr_cli.captioning.captions import Caption
    from xpsr_cli.captioning.choosing import CaptionerChoice


def caption(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUTS...", help="Photos: files, folders or patterns.")],
    model: Annotated[str, typer.Option(help=CAPTIONER_HELP, autocompletion=complete_captioner)] = "auto",
    endpoint: EndpointOption = None,
    quantize: QuantizeOption = Quantization.NONE,
    batch_size: Annotated[
        int | None, typer.Option(help="Photos at once; changes speed only.", show_default="by the memory")
    ] = None,
    scope: ScopeOption = CaptionScope.IMAGE,
    region_size: Annotated[int | None, typer.Option(help=REGION_SIZE_HELP, show_default=str(REGION_PX))] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Describe anew what was described before; a person's words stay.")
    ] = False,
    sidecars: Annotated[
        bool, typer.Option("--sidecars", help="Write photo.caption.json beside each photo, to read and to change.")
    ] = False,
    review: Annotated[
        bool, typer.Option("--review", help="Go through the captions: accept, edit or skip each one.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write all captions into one file, .jsonl or .parquet.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of captions that exist.")] = False,
    text_pairs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write two .txt files per photo, as researchers do.", show_default=False),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Take folders under a folder too.")] = False,
    shard: Annotated[
        str | None, typer.Option(help="Do one part of the photos only, as in 3/8; slurm: that of the array task.")
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.AUTO,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Describe photos: what is in them, and how they are degraded. Each is described once; what was said is kept."""
    if review:
        _refuse_with_review(as_json, quiet, export, text_pairs)
        check_terminal()
    boxes = _boxes(scope, region_size)
    if export is not None:
        _check_export(export, overwrite)
    part = None if shard is None else Shard.parse(shard)
    photos = find_photos(inputs, recursive)
    photos = photos if part is None else part.of(photos)
    if text_pairs is not None:
        _check_text_pairs(photos, text_pairs, overwrite)

    if not debug:
        quiet_third_parties()
    from xpsr_cli.captioning.choosing import choose_captioner

    choice = choose_captioner(
        model, endpoint=endpoint, quantize=quantize, device=device, precision=precision, batch_size=batch_size
    )
    console = Console(quiet=quiet, as_json=as_json)
    _introduce(console, choice, scope)
    run = _Run(console, photos, stop_at_errors=debug or len(photos) == 1)
    captioning = partial(_caption, photos, choice, boxes, sidecars, refresh)
    if review:
        reviewer = Reviewer(len(photos), again=refresh)
        with console.log_lines("xpsr_cli", warnings_only=True):
            run.take(captioning(None), reviewer)
        console.note(reviewer.tally)
    else:
        with console.log_lines("xpsr_cli", warnings_only=True), console.progress("photos") as progress:
            run.take(captioning(progress))
    run.write(export, text_pairs)
    run.end()


def _refuse_with_review(as_json: bool, quiet: bool, export: Path | None, text_pairs: Path | None) -> None:
    given = {"--json": as_json, "--quiet": quiet, "--export": export, "--text-pairs": text_pairs}
    flag = next((name for name, value in given.items() if value), None)
    if flag is not None:
        raise UsageError(f"--review and {flag} do not go together.", f"Review first, then run it again with {flag}.")


def _boxes(scope: CaptionScope, region_size: int | None) -> Boxes | None:
    """What gives the regions of a photo, if they are wanted."""
    if scope is CaptionScope.IMAGE:
        if region_size is not None:
            raise UsageError(f"region_size is {region_size}, but no regions are asked for.", "Add --scope region.")
        return None
    side_px = REGION_PX if region_size is None else region_size
    if side_px < MIN_SIDE_PX:
        raise UsageError(
            f"region_size is {side_px}, and {MIN_SIDE_PX} is the least.", f"The usual one is {REGION_PX}."
        )
    return partial(region_boxes, side_px=side_px)


def _check_text_pairs(photos: Sequence[Path], folder: Path, overwrite: bool) -> None:
    from xpsr_cli.captioning.caption_files import check_no_texts, check_text_names

    names = [str(photo) for photo in photos]
    check_text_names(names)
    if not overwrite:
        check_no_texts(names, folder)


def _check_export(path: Path, overwrite: bool) -> None:
    from xpsr_cli.captioning.caption_files import check_captions_file

    check_captions_file(path)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists.", "Add --overwrite, or name another file.")


def _introduce(console: Console, choice: CaptionerChoice, scope: CaptionScope) -> None:
    """Say who describes the photos."""
    from xpsr_cli.captioning.choosing import MEASURED

    console.note(f"Captioner: {choice.key.name}")
    if choice.note:
        console.note(choice.note)
    if scope is CaptionScope.REGION and choice.key.name == MEASURED:
        console.note("Regions get no texts of their own: measuring does not tell what is in a photo.")


def _caption(
    photos: Sequence[Path],
    choice: CaptionerChoice,
    boxes: Boxes | None,
    sidecars: bool,
    refresh: bool,
    progress: Progress | None,
) -> Iterator[Captioned]:
    from xpsr_cli.captioning.captioning import caption_photos
    from xpsr_cli.captioning.store import CaptionStore

    return caption_photos(
        photos, choice, CaptionStore(), boxes=boxes, sidecars=sidecars, refresh=refresh, progress=progress
    )


class _Run:
    """What is told of the photos of one run, and what is left of them at its end."""

    def __init__(self, console: Console, photos: Sequence[Path], *, stop_at_errors: bool) -> None:
        self._console = console
        self._photos = photos
        self._stop_at_errors = stop_at_errors
        self._captions: dict[Path, tuple[str, Caption]] = {}
        self._failed: list[Path] = []

    def take(self, items: Iterable[Captioned], reviewer: Reviewer | None = None) -> None:
        """Tell of each photo as soon as it is done, or let a person decide."""
        for item in items:
            decided = item if reviewer is None or item.error else reviewer.decide(item)
            if decided is None:
                return
            if decided.caption is not None and decided.sha256 is not None:
                self._captions[decided.photo] = decided.sha256, decided.caption
            if reviewer is None:
                self._console.result(_record(decided), _lines(decided))
            if decided.error is not None:
                self._fail(decided.photo, decided.error)

    def write(self, export: Path | None, text_pairs: Path | None) -> None:
        """Write all captions down, in the order of the photos."""
        if export is None and text_pairs is None:
            return
        from xpsr_cli.captioning.caption_files import write_captions, write_text_pairs
        from xpsr_cli.captioning.caption_rows import CaptionRow

        rows = [CaptionRow(str(p), *self._captions[p]) for p in self._photos if p in self._captions]
        if export is not None:
            write_captions(rows, export)
            self._console.note(f"{len(rows)} captions are in {export}")
        if text_pairs is not None:
            write_text_pairs(rows, text_pairs)
            self._console.note(f"{len(rows)} pairs of texts are in {text_pairs}")

    def end(self) -> None:
        """Raise :class:`PartialFailureError` if photos failed."""
        if self._failed:
            names = ", ".join(map(str, self._failed))
            raise PartialFailureError(
                f"{len(self._failed)} of {len(self._photos)} photos failed: {names}.", "The others are done."
            )

    def _fail(self, photo: Path, error: XpsrError) -> None:
        if self._stop_at_errors:
            raise error
        self._failed.append(photo)
        print_error(error.message, error.hint)


def _record(item: Captioned) -> dict[str, Any]:
    """What ``--json`` prints of a photo."""
    record: dict[str, Any] = {"photo": str(item.photo), "status": "failed" if item.error else "done"}
    if item.caption is not None and item.origin is not None:
        record |= {"sha256": item.sha256, "origin": item.origin.value, **item.caption.to_dict()}
        record["seconds"] = round(item.seconds, 3)
    if item.error is not None:
        record |= {"error": item.error.message, "hint": item.error.hint, "exit_code": int(item.error.exit_code)}
    return record


def _lines(item: Captioned) -> str:
    """What a person sees of a photo."""
    return "" if item.caption is None else "\n".join([str(item.photo), *lines_of(item.caption)])
