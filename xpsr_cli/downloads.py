"""One file from the first source that has it: resumed with HTTP ranges, and checked before it gets its name."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from xpsr_cli import __version__
from xpsr_cli.errors import WeightsError
from xpsr_cli.integrity import hash_file
from xpsr_cli.progress import Progress, SilentProgress
from xpsr_cli.weights import WeightsFile

PATIENCE = 3
"""Attempts in a row that may bring nothing before a source is given up."""
WAIT_S = 1.0
"""Pause after an attempt that brought nothing; it grows with each."""
TIMEOUT_S = 30.0
_CHUNK = 1 << 20
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


class _SourceError(Exception):
    """This source does not have the file; the next one may."""


def fetch_file(
    file: WeightsFile, sources: Sequence[str], folder: Path, progress: Progress | None = None
) -> str | None:
    """Fetch one file into ``folder``; returns the URL it came from, or ``None`` if it was there already.

    ``sources`` are URLs with ``{path}`` in them, tried in order. What a broken transfer left behind is continued on
    the next call: from any source where the hash is pinned, else only from the same one.
    Raises :class:`WeightsError` that names every source and what was wrong with it.
    """
    target = folder / file.path
    if target.is_file() and (file.sha256 is None or hash_file(target) == file.sha256):
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for source in sources:
        url = source.replace("{path}", quote(file.path))
        part = target.with_name(f"{target.name}.{_short_hash(file.sha256 or url)}.part")
        try:
            _fetch_from(url, part, file.path, progress or SilentProgress())
            if file.sha256 is not None and hash_file(part) != file.sha256:
                part.unlink()
                raise _SourceError("the file is not the expected one, its SHA-256 differs")
        except _SourceError as error:
            reasons.append(f"{urlsplit(url).netloc}: {error}")
            continue
        os.replace(part, target)
        return url
    raise WeightsError(
        f"{file.path} could not be fetched ({'; '.join(reasons)}).",
        "Check the network and run the command again: it goes on where it stopped.",
    )


def _fetch_from(url: str, part: Path, name: str, progress: Progress) -> None:
    """Bring ``part`` to its full length from one URL, however often the connection breaks while it still grows."""
    misses, reason = 0, ""
    while misses < PATIENCE:
        before = _length(part)
        try:
            if _fetch_once(url, part, name, progress):
                return
            reason = "the connection closed before the end"
        except HTTPError as error:
            if error.code == 416 and _total_of(error.headers.get("Content-Range")) == before:
                return  # everything had arrived before the last interruption
            if error.code == 416:
                part.unlink(missing_ok=True)
            elif error.code not in _WORTH_ANOTHER_TRY:
                raise _SourceError(f"HTTP status {error.code}") from None
            reason = f"HTTP status {error.code}"
        except (HTTPException, OSError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise WeightsError(
                    f"The disk of {part.parent} is full.", "Free some space and run it again."
                ) from None
            reason = str(error.reason) if isinstance(error, URLError) else str(error) or type(error).__name__
        misses = 0 if _length(part) > before else misses + 1
        if misses < PATIENCE:
            time.sleep(WAIT_S * misses)
    raise _SourceError(reason)


def _fetch_once(url: str, part: Path, name: str, progress: Progress) -> bool:
    """One request that continues ``part``; true when the file is then as long as the server says."""
    start = _length(part)
    headers = {"User-Agent": f"xpsr/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as response:
        if start and not _continues(response, start):
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        progress.stage(name, total or 0)
        progress.advance(start)
        with part.open("ab" if start else "wb") as out:
            while chunk := response.read(_CHUNK):
                out.write(chunk)
                progress.advance(len(chunk))
    return total is None or _length(part) == total


def _continues(response: HTTPResponse, start: int) -> bool:
    """Whether the server answered with the bytes from ``start`` on; one without ranges sends everything again."""
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _total_of(content_range: str | None) -> int | None:
    found = re.search(r"/(\d+)$", content_range or "")
    return int(found[1]) if found else None


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
