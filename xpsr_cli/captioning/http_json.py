"""JSON over HTTP with one server: patient with a busy one, silent about its key, and one sentence when it fails.

Standard library only. Proxies come from the environment, as urllib reads them.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request

from xpsr_cli import __version__
from xpsr_cli.captioning.captions import one_line
from xpsr_cli.captioning.http_opener import NotReachedError, opener_of_one_server, origin
from xpsr_cli.errors import EndpointError

KEY_VARIABLES = ("XPSR_ENDPOINT_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold a server's key; the first that is set counts."""
_CHECK = "Check the address: that of most servers ends in /v1."
_MOST_BYTES = 16 << 20  # of an answer
_MOST_WORDS = 200  # characters of a server's own words in a message
_BUSY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds, and how often it is asked."""

    connect_s: float = 10.0
    answer_s: float = 600.0  # a large model on a processor, loaded by the first request
    attempts: int = 5
    pause_s: float = 1.0  # after the first attempt; it doubles with each
    longest_pause_s: float = 60.0  # whatever the server asks for


class AnswerError(EndpointError):
    """The server answered, but not with what was asked for.

    ``status`` is that of HTTP (200 for an answer that is no JSON), ``words`` what the server says, on one line.
    """

    def __init__(self, message: str, hint: str, status: int, words: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        self.words = words


class _BusyError(Exception):
    """Worth another attempt; ``failure`` is what to say after the last one."""

    def __init__(self, failure: EndpointError, wait_s: float = 0.0) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.wait_s = wait_s


class JsonServer:
    """Asks one server, from any number of threads. The key is read from the environment and goes to it alone."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._key_variable, self._key = _key_of_environment()
        self._opener = opener_of_one_server(patience.connect_s)

    def ask(self, url: str, body: Mapping[str, Any] | None = None) -> Any:
        """What the server answers to GET, or to POST of ``body``.

        A busy server (status 429, 5xx) and a connection that breaks are given further attempts, after growing pauses
        or the one the server asks for. Raises :class:`EndpointError`; of these :class:`AnswerError` where the server
        did answer.
        """
        for attempt in range(self._patience.attempts):
            try:
                return self._ask_once(url, body)
            except _BusyError as busy:
                if attempt + 1 == self._patience.attempts:
                    raise busy.failure from None
                pause = max(busy.wait_s, self._patience.pause_s * 2**attempt)
                time.sleep(min(pause, self._patience.longest_pause_s))
        raise ValueError(f"attempts is {self._patience.attempts}, not at least 1")

    def shown(self, words: str) -> str:
        """What the server says, as one short line without the key that does nothing to a terminal."""
        known = words.replace(self._key, "(the key)") if self._key else words
        line = "".join(letter for letter in one_line(known) if letter.isprintable())
        return line if len(line) <= _MOST_WORDS else f"{line[: _MOST_WORDS - 1].rstrip()}…"

    def _ask_once(self, url: str, body: Mapping[str, Any] | None) -> Any:
        headers = {"User-Agent": f"xpsr/{__version__}", "Accept": "application/json"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = Request(url, data, headers)
        if self._key:
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        until = time.monotonic() + self._patience.answer_s
        try:
            try:
                with self._opener.open(request, timeout=self._patience.answer_s) as response:
                    content = _read(response, until)
            except HTTPError as error:
                with error:
                    raise self._refusal(url, error, error.read(_MOST_BYTES)) from None
        except (HTTPException, OSError, ValueError) as error:  # ValueError: a host or port that is none
            raise self._silence(request, url, error) from None
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise AnswerError(f"{url} answered with something that is not JSON.", _CHECK, 200) from None

    def _refusal(self, url: str, error: HTTPError, content: bytes) -> EndpointError | _BusyError:
        """What to raise for a status that means failure."""
        words = self.shown(_words_of(content))
        said = f"HTTP status {error.code}" + (f": {words.rstrip('.')}" if words else "")
        if error.code in (401, 403):
            return AnswerError(*self._about_key(url, said), error.code, words)
        hint = "Try again later, or with a smaller batch size." if error.code in _BUSY else _CHECK
        failure = AnswerError(f"{url} cannot be used ({said}).", hint, error.code, words)
        return _BusyError(failure, _retry_after(error)) if error.code in _BUSY else failure

    def _about_key(self, url: str, said: str) -> tuple[str, str]:
        if not self._key:
            return f"{url} wants a key ({said}).", f"Put it into the variable {KEY_VARIABLES[0]}."
        return (
            f"{url} does not take the key in {self._key_variable} ({said}).",
            f"Put the right key into {KEY_VARIABLES[0]}.",
        )

    def _silence(self, request: Request, url: str, error: Exception) -> EndpointError | _BusyError:
        """What to raise when no answer came."""
        why = error.reason if isinstance(error, URLError) and isinstance(error.reason, OSError) else error
        direct = request.host == urlsplit(url).netloc
        facts = {
            "place": origin(url) + ("" if direct else " (through the proxy of the environment)"),
            "connect_s": self._patience.connect_s,
            "answer_s": self._patience.answer_s,
            "why": self.shown(str(getattr(why, "verify_message", "") or getattr(why, "strerror", "") or why)).rstrip(
                "."
            ),
        }
        message, hint = next((said, do) for kind, said, do in _SILENCES if isinstance(why, kind))
        failure = EndpointError(message.format(**facts), hint)
        return _BusyError(failure) if isinstance(why, _BROKEN) else failure


_BROKEN = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, IncompleteRead)
_LOOK = "Check the address and the network."
_SILENCES = (  # the first that fits counts
    (socket.gaierror, "The host of {place} is not known.", _LOOK),
    (ConnectionRefusedError, "Nothing listens at {place}.", "Start the server, or check the address."),
    (NotReachedError, "{place} could not be reached within {connect_s:g} s.", _LOOK),
    (TimeoutError, "{place} gave no answer within {answer_s:g} s.", "Use a smaller batch size or a faster model."),
    (ssl.SSLCertVerificationError, "The certificate of {place} is not trusted: {why}.", "Check the address."),
    (ssl.SSLError, "{place} does not speak https.", "Write http:// where the server has no certificate."),
    (_BROKEN, "{place} closed the connection before it had answered.", "See what the server itself reports."),
    (HTTPException, "What listens at {place} does not speak HTTP.", _CHECK),
    (Exception, "{place} cannot be reached: {why}.", _LOOK),
)


def _key_of_environment() -> tuple[str, str]:
    """The variable that holds a key, and the key; two empty texts without one."""
    for variable in KEY_VARIABLES:
        key = os.environ.get(variable, "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise EndpointError(f"The variable {variable} holds characters that no key has.", "Copy the key anew.")
        if key:
            return variable, key
    return "", ""


def _read(response: HTTPResponse, until: float) -> bytes:
    """The whole of an answer that is not too long and does not come drop by drop for ever."""
    content = bytearray()
    while chunk := response.read1(1 << 16):
        content += chunk
        if len(content) > _MOST_BYTES:
            raise OSError(f"its answer is longer than {_MOST_BYTES >> 20} MB")
        if time.monotonic() > until:
            raise TimeoutError
    if response.length:  # bytes that were announced and never came
        raise IncompleteRead(bytes(content), response.length)
    return bytes(content)


def _words_of(content: bytes) -> str:
    """What a server says of a failure: the message in its JSON, or its plain text; nothing of a web page."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        text = content.decode("utf-8", "replace")
        return "" if text.lstrip().startswith("<") else text
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _retry_after(error: HTTPError) -> float:
    """Seconds that the server asks to wait, given as such or as a date."""
    wanted = error.headers.get("Retry-After", "").strip()
    try:
        return float(wanted) if wanted.isdecimal() else parsedate_to_datetime(wanted).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
