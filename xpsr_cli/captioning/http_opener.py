"""How one server is reached: soon or not at all, and never another server in its stead.

Standard library only. Proxies come from the environment, as urllib reads them.
"""

from __future__ import annotations

from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from xpsr_cli.errors import EndpointError

_PORTS = {"http": 80, "https": 443}


def opener_of_one_server(connect_s: float) -> OpenerDirector:
    """Opens requests, with ``connect_s`` seconds for each connection, whatever their own time limit.

    A redirect is followed with method, body and key to addresses of the same server. One that leads elsewhere is an
    :class:`EndpointError`: photos and keys are for the server that was named.
    """
    return build_opener(_Http(connect_s), _Https(connect_s), _SameServer())


def origin(url: str) -> str:
    """The server alone, as in ``http://127.0.0.1:8000``."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port is not None else "")


class NotReachedError(TimeoutError):
    """The connection itself was not made in time."""


class _Soon:
    """A connection that must be made soon, though its answers may take long."""

    def __init__(self, *args: Any, connect_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connect_s = connect_s

    def connect(self: Any) -> None:
        answer_s, self.timeout = self.timeout, self._connect_s
        try:
            super().connect()  # type: ignore[misc]
        except TimeoutError:
            raise NotReachedError from None
        self.timeout = answer_s
        self.sock.settimeout(answer_s)


class _HttpConnection(_Soon, HTTPConnection):
    pass


class _HttpsConnection(_Soon, HTTPSConnection):
    pass


class _Http(HTTPHandler):
    def __init__(self, connect_s: float) -> None:
        super().__init__()
        self._connection = partial(_HttpConnection, connect_s=connect_s)

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self._connection, req)


class _Https(HTTPSHandler):
    def __init__(self, connect_s: float) -> None:
        super().__init__()
        self._connection = partial(_HttpsConnection, connect_s=connect_s)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self._connection, req)


class _SameServer(HTTPRedirectHandler):
    """Follows a server to another of its addresses with request and key, and to no other server."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if code == 303:  # the answer lies elsewhere, to be fetched without asking: no chat answer does
            return None
        if not _same_server(req.full_url, newurl):
            raise EndpointError(
                f"{origin(req.full_url)} sends requests on to {origin(newurl)}.",
                "Give that address if you trust it: photos and keys go to no other server than the one named.",
            )
        again = Request(newurl, req.data, req.headers, method=req.get_method())
        if key := req.get_header("Authorization"):
            again.add_unredirected_header("Authorization", key)
        return again


def _same_server(url: str, other: str) -> bool:
    """Whether both are one server; the secure side of one on the usual ports is, the other way round it is not."""
    before, after = ((p.scheme, p.hostname, p.port or _PORTS.get(p.scheme)) for p in map(urlsplit, (url, other)))
    return before == after or (before, after) == (("http", before[1], 80), ("https", before[1], 443))
