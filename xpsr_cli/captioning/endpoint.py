"""Photos described by a model that somebody already serves: vLLM, llama.cpp's server, Ollama, LM Studio, hosted ones.

All of them speak OpenAI's chat completions. A key comes from the environment (``XPSR_ENDPOINT_KEY``) alone.
"""

from __future__ import annotations

import base64
import io
import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from xpsr_cli.captioning.captions import HIGH_INSTRUCTION, LOW_INSTRUCTION, Box, Caption, CaptionerKey, one_line
from xpsr_cli.captioning.http_json import AnswerError, JsonServer, Patience
from xpsr_cli.captioning.served_models import bases_of, model_at, models_at, name_of
from xpsr_cli.captioning.views import View, take_view
from xpsr_cli.errors import EndpointError, NoAnswerError, UsageError

if TYPE_CHECKING:
    from xpsr_cli.photos.photo import PhotoSource, Pixels

BATCH_SIZE = 4
"""Photos asked about at a time, unless said otherwise: servers that take one at a time let the others wait."""
MAX_TOKENS = 256
"""Length limit of each text."""
MAX_THINKING_TOKENS = 4096
"""The limit when a model has spent the usual one on thinking and not begun to answer."""
SMALL_PX = 512 * 512
"""Pictures of up to so many pixels are sent without loss, as PNG."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def endpoint_key(url: str, model: str | None = None, *, patience: Patience | None = None) -> CaptionerKey:
    """Who captions there: the model and what it is asked, wherever it is served.

    Without ``model`` the server is asked for the name of its own, in one short request. Raises :class:`UsageError` for
    an address that is none and :class:`EndpointError` for a server that does not answer.
    """
    bases = bases_of(url)
    if model is None:
        patience = patience or Patience()
        brief = replace(patience, answer_s=min(patience.answer_s, 3 * patience.connect_s))
        model = model_at(*models_at(JsonServer(brief), bases), None)
    asked = (("high", HIGH_INSTRUCTION), ("low", LOW_INSTRUCTION), ("max_tokens", str(MAX_TOKENS)))
    return CaptionerKey(name=name_of(model), model=f"endpoint {model}", settings=asked)


def open_endpoint(
    url: str, model: str | None = None, batch_size: int | None = None, *, patience: Patience | None = None
) -> EndpointCaptioner:
    """The model at a server that speaks OpenAI's chat completions.

    ``url`` may end in ``/v1`` or not. ``model`` is a name that the server lists; without it, the first of them.
    ``batch_size`` is the number of photos asked about at a time. Raises :class:`UsageError` for an address that is
    none, :class:`EndpointError` for a server that does not answer or does not have the model.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch size is {batch_size}, not at least 1.", "Leave it out for the usual one.")
    server = JsonServer(patience or Patience())
    base, served = models_at(server, bases_of(url))
    there = model_at(base, served, model)
    return EndpointCaptioner(server, base, there, name=name_of(model or there), batch_size=batch_size or BATCH_SIZE)


@dataclass(frozen=True)
class _Dialect:
    """What the length limit is called, and whether the model may be told to be greedy: some hosted ones may not."""

    limit: str = "max_tokens"
    greedy: bool = True

    def settings(self, max_tokens: int) -> dict[str, int]:
        return {self.limit: max_tokens} | ({"temperature": 0} if self.greedy else {})

    def corrected(self, words: str) -> _Dialect:
        """What to say instead, by what the server says against it; the same if that is about something else."""
        limit = "max_completion_tokens" if "max_completion_tokens" in words else self.limit
        return _Dialect(limit, self.greedy and "temperature" not in words)


class EndpointCaptioner:
    """Describes photos through a server; see :class:`~xpsr_cli.captioning.captions.Captioner`."""

    says_content = True

    def __init__(self, server: JsonServer, base: str, model: str, *, name: str, batch_size: int) -> None:
        self.name = name
        self.batch_size = batch_size
        self._server = server
        self._base = base
        self._model = model
        self._dialect = _Dialect()

    def look(self, photo: PhotoSource, box: Box | None = None) -> View:
        """What is sent of a photo, or of a part of it."""
        return take_view(photo, box)

    def describe(self, looks: Sequence[View]) -> list[Caption]:
        """One caption for each look, in their order, of two questions each."""

        def caption(look: View) -> Caption:
            return Caption(
                self._answer(look.whole, HIGH_INSTRUCTION), self._answer(look.detail, LOW_INSTRUCTION), self.name
            )

        return _side_by_side(caption, looks, self.batch_size)

    def summarize(self, looks: Sequence[View]) -> list[str]:
        """The high-level text alone, for each look."""
        return _side_by_side(lambda look: self._answer(look.whole, HIGH_INSTRUCTION), looks, self.batch_size)

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, pixels: Pixels, instruction: str) -> str:
        """One text on one picture. A model that thinks too long to begin an answer is given more room once."""
        picture = data_url(pixels)
        for max_tokens in (MAX_TOKENS, MAX_THINKING_TOKENS):
            text, complete = self._said(self._chat(picture, instruction, max_tokens))
            if text or complete:
                break
        if not text:
            raise NoAnswerError(
                f"The model {self._model} at {self._base} gave an empty answer.", "Try again, or name another model."
            )
        return text if complete else to_sentence_end(text)

    def _chat(self, picture: str, instruction: str, max_tokens: int) -> Any:
        content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": instruction}]
        body = {"model": self._model, "messages": [{"role": "user", "content": content}], "stream": False}
        while True:
            dialect = self._dialect
            try:
                return self._server.ask(f"{self._base}/chat/completions", body | dialect.settings(max_tokens))
            except AnswerError as error:
                corrected = dialect.corrected(error.words) if error.status == 400 else dialect
                if corrected == dialect:
                    raise self._explained(error) from None
                self._dialect = corrected

    def _explained(self, error: AnswerError) -> EndpointError:
        """The failure, with what most often causes it: a model that takes no pictures."""
        if error.status == 413:
            return NoAnswerError(error.message, error.hint)
        if error.status not in (400, 415, 422, 500) or not error.words:
            return error
        said = f"The model {self._model} at {self._base} does not describe the photo: {error.words.rstrip('.')}."
        return NoAnswerError(said, "Check that this model takes images.")

    def _said(self, answer: Any) -> tuple[str, bool]:
        """The text of an answer on one line, without what the model thought aloud, and whether it is complete."""
        try:
            choice = answer["choices"][0]
            content = choice["message"].get("content") or ""
            if not isinstance(content, str):
                content = " ".join(part["text"] for part in content if part["type"] == "text")
            text = content.encode("utf-8", "replace").decode()  # JSON can hold halves of characters
            return one_line(without_thinking(text)), choice.get("finish_reason") != "length"
        except (KeyError, IndexError, TypeError, AttributeError):
            said = answer.get("error") if isinstance(answer, dict) else None
            words = f": {self._server.shown(str(said)).rstrip('.')}" if said else ""
            raise EndpointError(
                f"{self._base} answered with something that is no chat answer{words}.",
                "Check that the address is that of an OpenAI-compatible server.",
            ) from None


def data_url(pixels: Pixels) -> str:
    """A picture, (H, W, 3) uint8, as a URL that holds all of it."""
    small = pixels.shape[0] * pixels.shape[1] <= SMALL_PX
    file = io.BytesIO()
    if small:
        Image.fromarray(pixels).save(file, "PNG")
    else:
        Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_THOUGHT_BEFORE = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL)  # some servers keep the opening mark to themselves
_SENTENCE_END = re.compile(r"(?<!\s\d)(?<!\s\d\d)[.!?…]+[\"'”’)\]*]*(?=\s|\Z)|[。！？]")  # "2." begins an item


def without_thinking(text: str) -> str:
    """An answer without the part in which a reasoning model thinks aloud."""
    return _THOUGHT_BEFORE.sub("", _THOUGHT.sub("", text)).strip()


def to_sentence_end(text: str) -> str:
    """A text that broke off, up to its last whole sentence; all of it if there is none."""
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


def _side_by_side(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Results in the order of the items, of so many threads.

    After a failure nothing more is begun; the one of the foremost item is raised. The threads do not keep an
    interrupted program from ending.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(len(items)):
        todo.put(place)
    results: dict[int, Result] = {}
    failures: dict[int, BaseException] = {}
    ended = threading.Event()

    def work() -> None:
        while not failures and not ended.is_set():
            try:
                place = todo.get_nowait()
            except queue.Empty:
                return
            try:
                results[place] = function(items[place])
            except BaseException as failure:  # raised again by the thread that asked
                failures[place] = failure

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, len(items)))]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(0.1)
    finally:
        ended.set()
    if failures:
        raise failures[min(failures)]
    return [results[place] for place in range(len(items))]
