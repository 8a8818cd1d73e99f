"""A small server on this machine that speaks OpenAI's chat completions, for tests of whoever asks one."""

import base64
import io
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from xpsr_cli.captioning.captions import HIGH_INSTRUCTION


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict
    body: dict | None

    @property
    def instruction(self):
        return next(part["text"] for part in self.body["messages"][0]["content"] if part["type"] == "text")

    @property
    def picture_url(self):
        parts = self.body["messages"][0]["content"]
        return next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")

    @property
    def picture(self):
        """The picture in the request, opened by Pillow."""
        head, _, data = self.picture_url.partition(",")
        assert head in ("data:image/png;base64", "data:image/jpeg;base64")
        return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


@dataclass(frozen=True)
class Failure:
    """What the server does instead of answering; ``drop`` closes the connection without a word."""

    status: int = 500
    body: bytes = b'{"error": {"message": "something broke"}}'
    headers: dict = field(default_factory=dict)
    drop: bool = False


def colour_words(asked):
    """The usual answer: it tells pictures and questions apart."""
    red, green, blue = (round(mean) for mean in np.asarray(asked.picture.convert("RGB")).mean(axis=(0, 1)))
    said = "A picture" if asked.instruction == HIGH_INSTRUCTION else "The quality"
    return f"{said} of colour {red} {green} {blue}."


class ChatServer:
    """A context manager. ``models`` is what it lists, ``answer(asked)`` gives the text or the whole answer, as a dict.

    ``failures`` are used up, one by each chat request, before anything is answered; ``always`` is a failure that is
    not used up, ``models_failure`` one for the list of models. ``delay_s(asked)`` is how long it thinks. It serves
    under ``prefix``. ``asked`` are all requests it got, in order; ``at_once`` how many it thought about at most.
    """

    def __init__(self, models=("tiny-llava",), *, prefix="/v1", answer=colour_words):
        self.models = list(models)
        self.prefix = prefix
        self.answer = answer
        self.failures = []
        self.always = None
        self.models_failure = None
        self.delay_s = lambda asked: 0.0
        self.asked = []
        self.at_once = 0
        self._busy_with = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server._serve(self)

            def do_POST(self):
                server._serve(self)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def root(self):
        """The address without ``/v1``."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def url(self):
        return self.root + self.prefix

    @property
    def questions(self):
        """The chat requests among all that were asked."""
        return [asked for asked in self.asked if asked.path.endswith("/chat/completions")]

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def _serve(self, request):
        content = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        asked = Asked(request.command, request.path, dict(request.headers), json.loads(content) if content else None)
        with self._lock:
            self.asked.append(asked)
            failure = self.failure_for(asked)
        try:
            self._reply(request, asked, failure)
        except ConnectionError:
            request.close_connection = True  # who asked has gone

    def failure_for(self, asked):
        """What goes wrong with a request, or ``None``; tests may put their own function here."""
        if (asked.method, asked.path) == ("GET", f"{self.prefix}/models"):
            return self.models_failure
        if (asked.method, asked.path) != ("POST", f"{self.prefix}/chat/completions"):
            return Failure(404, b'{"detail": "Not Found"}')
        return self.failures.pop(0) if self.failures else self.always

    def _reply(self, request, asked, failure):
        if failure is not None and failure.drop:
            request.close_connection = True
            return
        if failure is not None:
            self._send(request, failure.status, failure.body, failure.headers)
        elif asked.method == "GET":
            self._send(request, 200, {"object": "list", "data": [{"id": name} for name in self.models]})
        else:
            with self._busy():
                time.sleep(self.delay_s(asked))
                answer = self.answer(asked)
            self._send(request, 200, chat_answer(answer) if isinstance(answer, str) else answer)

    @contextmanager
    def _busy(self):
        with self._lock:
            self._busy_with += 1
            self.at_once = max(self.at_once, self._busy_with)
        yield
        with self._lock:
            self._busy_with -= 1

    def _send(self, request, status, body, headers=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def chat_answer(content, finish_reason="stop"):
    """The JSON of an answer."""
    message = {"role": "assistant", "content": content}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}
