"""Where a server that speaks OpenAI's chat completions answers, and which of its models is meant.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from xpsr_cli.captioning.http_json import AnswerError, JsonServer
from xpsr_cli.errors import EndpointError, UsageError

_LIKE = "Write it like http://localhost:8000/v1."


def bases_of(url: str) -> list[str]:
    """The addresses under which the server may answer, the likelier one first."""
    text = url.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna")
        right = parts.scheme in ("http", "https") and bool(host) and parts.port != 0 and text.isprintable()
    except ValueError:  # a port or host that is none
        raise UsageError("The endpoint's address has no host or port that could be.", _LIKE) from None
    if "@" in text:
        raise UsageError(
            "The endpoint's address holds a user name or password.", "Put a key into the variable XPSR_ENDPOINT_KEY."
        )
    if parts.query or parts.fragment:
        raise UsageError(
            "The endpoint's address has a part after ? or #.",
            "Leave it out; a key goes into the variable XPSR_ENDPOINT_KEY.",
        )
    if not right or " " in text:
        raise UsageError(f"endpoint is {url!r}, which is no http or https address.", _LIKE)
    return [text] if re.search(r"/v\d+\Z", parts.path) else [f"{text}/v1", text]


def models_at(server: JsonServer, bases: Sequence[str]) -> tuple[str, list[str] | None]:
    """The base under which the server answers, and the models it lists: ``None`` if it lists none under any."""
    telling: AnswerError | None = None
    for base in bases:
        try:
            answer = server.ask(f"{base}/models")
        except AnswerError as error:
            if error.status == 429 or error.status >= 500:
                raise
            if error.status not in (404, 405):
                telling = telling or error
            continue
        if isinstance(answer, dict) and isinstance(answer.get("data") or [], list) and "data" in answer:
            return base, _names(answer["data"] or [])
        telling = telling or AnswerError(f"{base}/models answered with no list of models.", _LIKE, 200)
    if telling is not None:
        raise telling
    return bases[-1], None


def _names(models: Sequence[Any]) -> list[str]:
    names = [model.get("id") for model in models if isinstance(model, dict)]
    return [name for name in names if isinstance(name, str) and name and name.isprintable()]


def model_at(base: str, served: Sequence[str] | None, wanted: str | None) -> str:
    """The name by which the server knows the model; what it lists counts only if it lists something."""
    if wanted is None:
        if served is None:
            raise EndpointError(f"{base} does not say which models it has.", "Check the address, or name the model.")
        if not served:
            raise EndpointError(f"{base} serves no model.", "Load one into the server first.")
        return served[0]
    if not served or wanted in served:
        return wanted
    if f"{wanted}:latest" in served:  # as Ollama calls a model that is named without a version
        return f"{wanted}:latest"
    some = ", ".join(served[:10]) + (f" and {len(served) - 10} more" if len(served) > 10 else "")
    raise EndpointError(f"{base} has no model {wanted}; it has {some}.", "Name one of these.")


def name_of(model: str) -> str:
    """What captions call a model; of one that is served by its path, the file or folder."""
    windows = re.match(r"[A-Za-z]:[\\/]", model)
    path = PureWindowsPath(model) if windows else PurePosixPath(model)
    return path.name if path.is_absolute() and path.name else model
