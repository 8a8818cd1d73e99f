"""Photos described by a served model, over real HTTP on this machine: addresses, keys, failures, order, pictures."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import numpy as np
import pytest
from chat_server import ChatServer, Failure, chat_answer

from xpsr_cli.captioning.captions import HIGH_INSTRUCTION, LOW_INSTRUCTION, Box, Caption
from xpsr_cli.captioning.endpoint import MAX_THINKING_TOKENS, MAX_TOKENS, data_url, endpoint_key, open_endpoint
from xpsr_cli.captioning.http_json import Patience
from xpsr_cli.captioning.views import View
from xpsr_cli.errors import EndpointError, ExitCode, UsageError
from xpsr_cli.photos.photo import Photo

QUICK = Patience(connect_s=2.0, answer_s=20.0, attempts=3, pause_s=0.01, longest_pause_s=0.2)
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in ("XPSR_ENDPOINT_KEY", "OPENAI_API_KEY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with ChatServer() as server:
        yield server


def open_quick(url, *args, **kwargs):
    return open_endpoint(url, *args, patience=QUICK, **kwargs)


def looks(count):
    """Views that differ in colour."""
    pictures = [np.full((8, 12, 3), (20 * number, 7, 200), np.uint8) for number in range(count)]
    return [View(picture, picture) for picture in pictures]


def one_caption(captioner):
    return captioner.describe(looks(1))[0]


def failure_of(function, *args):
    """The error that a user sees: one sentence and a hint, exit code 4."""
    with pytest.raises(EndpointError) as caught:
        function(*args)
    assert caught.value.exit_code == ExitCode.WEIGHTS == 4
    assert caught.value.hint.endswith(".")
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message
    return caught.value


def test_both_questions_are_asked_of_every_photo(server):
    whole = np.full((8, 12, 3), (10, 20, 30), np.uint8)
    detail = np.full((5, 6, 3), (40, 50, 60), np.uint8)
    captioner = open_quick(server.url)
    assert captioner.describe([View(whole, detail)]) == [
        Caption("A picture of colour 10 20 30.", "The quality of colour 40 50 60.", "tiny-llava")
    ]
    assert captioner.says_content
    assert captioner.name == "tiny-llava"
    high, low = server.questions
    assert (high.instruction, low.instruction) == (HIGH_INSTRUCTION, LOW_INSTRUCTION)
    for asked in (high, low):
        assert asked.body["temperature"] == 0
        assert asked.body["max_tokens"] == MAX_TOKENS
        assert asked.body["model"] == "tiny-llava"
        assert "Authorization" not in asked.headers


def test_summaries_are_the_high_level_text_alone(server):
    assert open_quick(server.url).summarize(looks(2)) == [
        "A picture of colour 0 7 200.",
        "A picture of colour 20 7 200.",
    ]
    assert [asked.instruction for asked in server.questions] == [HIGH_INSTRUCTION] * 2


def test_a_photo_and_a_part_of_it_are_looked_at(server):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[10:, 15:] = (90, 60, 30)
    captioner = open_quick(server.url)
    looks = [captioner.look(Photo(pixels)), captioner.look(Photo(pixels), Box(15, 10, 15, 10))]
    captioner.describe(looks)
    sizes = {asked.picture.size for asked in server.questions}
    assert sizes == {(30, 20), (15, 10)}
    assert captioner.describe(looks[1:])[0].high == "A picture of colour 90 60 30."


@pytest.mark.parametrize(("size", "format_name"), [((37, 53), "PNG"), ((800, 700), "JPEG")])
def test_the_picture_that_is_sent_is_that_of_the_photo(server, size, format_name):
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([rows % 256, columns % 256, (rows + columns) // 8 % 256], axis=-1).astype(np.uint8)
    open_quick(server.url).describe([View(pixels, pixels)])
    picture = server.questions[0].picture
    sent = np.asarray(picture.convert("RGB"))
    assert picture.format == format_name
    assert sent.shape == pixels.shape
    if format_name == "PNG":
        assert np.array_equal(sent, pixels)
    else:
        assert np.abs(sent.astype(float) - pixels).mean() < 2


def test_pictures_in_colour_keep_it_in_jpeg():
    """Fine colour stripes survive: no colour is thrown away by subsampling."""
    pixels = np.zeros((600, 600, 3), np.uint8)
    pixels[:, ::2] = (255, 0, 0)
    pixels[:, 1::2] = (0, 0, 255)
    url = data_url(pixels)
    assert url.startswith("data:image/jpeg;base64,")
    with ChatServer() as server:
        open_quick(server.url).describe([View(pixels, pixels)])
        sent = np.asarray(server.questions[0].picture)
    assert sent[:, ::2, 0].mean() > 200
    assert sent[:, ::2, 2].mean() < 55


@pytest.mark.parametrize("ending", ["/v1", "/v1/", "", "/", "/v1/chat/completions"])
def test_an_address_may_end_as_people_write_it(server, ending):
    assert one_caption(open_quick(server.root + ending)).high == "A picture of colour 0 7 200."


@pytest.mark.parametrize("ending", ["/openai", "/openai/", "/openai/v1beta"])
def test_servers_that_do_not_answer_under_v1_are_found(ending):
    with ChatServer(prefix=ending.rstrip("/")) as server:
        assert one_caption(open_quick(server.root + ending)).captioner == "tiny-llava"


def test_a_page_for_every_address_does_not_hide_the_models():
    """Some servers answer unknown addresses with their web page."""
    with ChatServer(prefix="") as server:
        server.failure_for = lambda asked: Failure(200, b"<html></html>") if "/v1/" in asked.path else None
        assert one_caption(open_quick(server.root)).captioner == "tiny-llava"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://localhost/v1",
        "http://",
        "http://a b/v1",
        "http://localhost:99999/v1",
        "http://localhost:x/v1",
        "http://a..b/v1",
        "http://127.0.0.1:1/v1?key=" + KEY,
        "http://me:" + KEY + "@127.0.0.1:1/v1",
        "me:" + KEY + "@127.0.0.1:1",
    ],
)
def test_an_address_that_is_none_is_a_usage_error(url):
    for function in (open_quick, endpoint_key):
        with pytest.raises(UsageError) as caught:
            function(url)
        assert KEY not in caught.value.message + caught.value.hint


def test_a_batch_size_below_one_is_a_usage_error(server):
    with pytest.raises(UsageError, match="batch size is 0"):
        open_quick(server.url, batch_size=0)


def test_the_first_model_is_taken_unless_one_is_named():
    with ChatServer(["first", "second"]) as server:
        assert one_caption(open_quick(server.url)).captioner == "first"
        assert one_caption(open_quick(server.url, "second")).captioner == "second"
        assert [asked.body["model"] for asked in server.questions] == ["first", "first", "second", "second"]


def test_a_model_that_the_server_does_not_have_is_named_with_those_it_has():
    with ChatServer(["first", "second"]) as server:
        failure = failure_of(open_quick, server.url, "third")
    assert "no model third" in failure.message
    assert "it has first, second" in failure.message
    assert not server.questions


def test_many_models_make_no_endless_sentence():
    with ChatServer([f"model-{number}" for number in range(300)]) as server:
        failure = failure_of(open_quick, server.url, "other")
    assert "model-9 and 290 more" in failure.message


def test_ollamas_names_may_be_given_without_a_version():
    with ChatServer(["text:1b", "llava:latest"]) as server:
        captioner = open_quick(server.url, "llava")
        assert one_caption(captioner).captioner == "llava"
        assert server.questions[0].body["model"] == "llava:latest"
        assert endpoint_key(server.url, "llava").name == "llava"


def test_a_server_without_any_model_says_so():
    with ChatServer([]) as server:
        assert "serves no model" in failure_of(open_quick, server.url).message
        server.models_failure = Failure(200, b'{"object": "list", "data": null}')
        assert "serves no model" in failure_of(open_quick, server.url).message


def test_a_server_that_lists_no_models_needs_the_name(server):
    server.models_failure = Failure(404, b"{}")
    assert "does not say which models" in failure_of(open_quick, server.url).message
    assert one_caption(open_quick(server.url, "tiny-llava")).captioner == "tiny-llava"
    server.models_failure = Failure(200, b'{"data": []}')
    assert one_caption(open_quick(server.url, "tiny-llava")).captioner == "tiny-llava"


def test_names_that_would_act_on_a_terminal_are_left_out():
    with ChatServer(["\x1b[2Jevil", "good"]) as server:
        assert open_quick(server.url).name == "good"


def test_a_model_served_by_its_path_is_called_by_its_file():
    with ChatServer(["/home/someone/models/llava.gguf"]) as server:
        assert one_caption(open_quick(server.url)).captioner == "llava.gguf"
        assert server.questions[0].body["model"] == "/home/someone/models/llava.gguf"
        assert endpoint_key(server.url).name == "llava.gguf"
    assert endpoint_key("http://nowhere.invalid", r"C:\models\llava.gguf").name == "llava.gguf"
    assert endpoint_key("http://nowhere.invalid", "llava-hf/llava-1.5-7b-hf").name == "llava-hf/llava-1.5-7b-hf"


def test_batch_size_changes_how_many_are_asked_at_once_but_no_text():
    """Earlier photos answer later, so that threads end in another order than they began."""
    captions, at_once = {}, {}
    for batch_size in (1, 4):
        with ChatServer() as server:
            server.delay_s = lambda asked: 0.03 * (2 - np.asarray(asked.picture)[0, 0, 0] // 20 % 3)
            captions[batch_size] = open_quick(server.url, batch_size=batch_size).describe(looks(10))
            at_once[batch_size] = server.at_once
    assert captions[1] == captions[4]
    assert [caption.high for caption in captions[4]] == [f"A picture of colour {20 * n} 7 200." for n in range(10)]
    assert at_once[1] == 1
    assert 1 < at_once[4] <= 4


def test_nothing_more_is_begun_after_a_failure(server):
    server.always = Failure(400, b'{"error": "no"}')
    failure_of(open_quick(server.url, batch_size=2).describe, looks(20))
    assert len(server.questions) <= 2


def test_describing_nothing_asks_nothing(server):
    assert open_quick(server.url).describe([]) == []
    assert not server.questions


def test_nothing_listens():
    with socket.socket() as taken:  # bound, never listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        failure = failure_of(open_quick, f"http://127.0.0.1:{port}/v1")
    assert failure.message == f"Nothing listens at http://127.0.0.1:{port}."


def test_a_host_that_is_not_known(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert (
        "host of http://nowhere.invalid:8000 is not known"
        in failure_of(open_quick, "http://nowhere.invalid:8000").message
    )


def test_a_host_that_does_not_answer_the_door():
    """A queue of connections that is full: the next one waits."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        start = time.monotonic()
        hasty = Patience(connect_s=0.2, answer_s=20.0)
        failure = failure_of(lambda: open_endpoint(f"http://127.0.0.1:{address[1]}/v1", patience=hasty))
        assert time.monotonic() - start < 5
        for one in waiting:
            one.close()
    assert "could not be reached within 0.2 s" in failure.message


def test_a_server_that_takes_too_long(server):
    captioner = open_endpoint(server.url, patience=Patience(answer_s=0.2))
    server.delay_s = lambda asked: 3.0
    start = time.monotonic()
    failure = failure_of(one_caption, captioner)
    assert "gave no answer within 0.2 s" in failure.message
    assert time.monotonic() - start < 2
    assert len(server.questions) == 1


def raw_server(answer):
    """Sends ``answer`` to whoever connects; gives its port and a function that ends it."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                for part in answer:
                    try:
                        connection.sendall(part)
                    except OSError:
                        break
                    time.sleep(0.02)

    threading.Thread(target=serve, daemon=True).start()
    return listening.getsockname()[1], listening.close


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([b"220 mail.example ESMTP\r\n"], "does not speak HTTP"),
        ([b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"data": ['], "closed the connection before it had answered"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", *[b" "] * 100], "gave no answer within 0.3 s"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * (1 << 20)] * 17], "is longer than 16 MB"),
    ],
)
def test_answers_that_are_cut_short_endless_or_of_another_language(answer, said):
    port, end = raw_server(answer)
    patience = Patience(answer_s=0.3 if "0.3" in said else 20.0, attempts=2, pause_s=0.01)
    assert said in failure_of(lambda: open_endpoint(f"http://127.0.0.1:{port}/v1", patience=patience)).message
    end()


def test_https_where_the_server_has_none(server):
    failure = failure_of(open_quick, server.url.replace("http://", "https://"))
    assert "does not speak https" in failure.message


def test_a_busy_server_is_asked_again(server):
    captioner = open_quick(server.url)
    server.failures = [Failure(429), Failure(503, b"<html>busy</html>"), None, Failure(drop=True), Failure(500)]
    assert one_caption(captioner) == Caption(
        "A picture of colour 0 7 200.", "The quality of colour 0 7 200.", "tiny-llava"
    )
    assert len(server.questions) == 6


def test_pauses_grow(server):
    captioner = open_endpoint(server.url, patience=Patience(attempts=4, pause_s=0.1))
    server.failures = [Failure(503)] * 3
    start = time.monotonic()
    one_caption(captioner)
    assert 0.7 <= time.monotonic() - start < 3


@pytest.mark.parametrize("asked", ["1", "date"])
def test_the_pause_that_the_server_asks_for_is_kept(server, asked):
    captioner = open_endpoint(server.url, patience=Patience(pause_s=0.01))
    wait = asked if asked == "1" else formatdate(time.time() + 2, usegmt=True)
    server.failures = [Failure(429, headers={"Retry-After": wait})]
    start = time.monotonic()
    one_caption(captioner)
    assert 0.9 <= time.monotonic() - start < 5


@pytest.mark.parametrize("asked", ["86400", "Fri, 31 Dec 2100 23:59:59 GMT", "soon", "-5", ""])
def test_no_server_makes_us_wait_for_ever(server, asked):
    captioner = open_quick(server.url)
    server.failures = [Failure(429, headers={"Retry-After": asked})]
    start = time.monotonic()
    one_caption(captioner)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Failure(429), "HTTP status 429: something broke"),
        (Failure(502, b"<html>Bad Gateway</html>"), "(HTTP status 502)"),
        (Failure(drop=True), "closed the connection before it had answered"),
    ],
)
def test_a_server_that_stays_busy_is_given_up(server, failure, said):
    captioner = open_quick(server.url)
    server.always = failure
    assert said in failure_of(one_caption, captioner).message
    assert len(server.questions) == QUICK.attempts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
def test_what_will_not_change_is_asked_once(server, status):
    captioner = open_quick(server.url)
    server.always = Failure(status)
    assert ("something broke" if status == 400 else f"HTTP status {status}") in failure_of(
        one_caption, captioner
    ).message
    assert len(server.questions) == 1


def test_a_web_page_instead_of_json(server):
    captioner = open_quick(server.url)
    server.always = Failure(200, b"<!doctype html><title>Welcome</title>")
    assert "something that is not JSON" in failure_of(one_caption, captioner).message
    server.models_failure = server.always
    assert "something that is not JSON" in failure_of(open_quick, server.url).message


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"data": 3}', b'{"data": "x"}', b"null", b"7"])
def test_json_that_is_no_list_of_models(server, answer):
    server.models_failure = Failure(200, answer)
    assert "no list of models" in failure_of(open_quick, server.url).message


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": ["text"]},
        {"choices": [{"message": "text"}]},
        {"choices": [{"message": {"content": 5}}]},
        {"error": {"message": "model is loading"}},
    ],
)
def test_json_that_is_no_chat_answer(server, answer):
    server.answer = lambda asked: answer
    failure = failure_of(one_caption, open_quick(server.url))
    assert "no chat answer" in failure.message
    assert ("model is loading" in failure.message) == ("error" in answer)


@pytest.mark.parametrize("content", ["", "  \n ", None, [], "<think>Hm.</think>"])
def test_an_empty_answer_is_a_failure(server, content):
    server.answer = lambda asked: chat_answer(content)
    assert "model tiny-llava at" in failure_of(one_caption, open_quick(server.url)).message
    assert "gave an empty answer" in failure_of(one_caption, open_quick(server.url)).message


def test_a_model_without_images_is_told_in_the_servers_own_words(server):
    words = "\x1b[31mtiny-llava is not a multimodal model\n" + "because it has no eyes, " * 40
    server.always = Failure(400, json.dumps({"error": {"message": words, "code": 400}}).encode())
    failure = failure_of(one_caption, open_quick(server.url))
    assert "tiny-llava is not a multimodal model because it has no eyes" in failure.message
    assert len(failure.message) < 350
    assert "\x1b" not in failure.message
    assert "images" in failure.hint


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "no pictures"}}',
        b'{"error": "no pictures"}',
        b'{"object": "error", "message": "no pictures"}',
        b'{"detail": "no pictures"}',
        b'{"detail": [{"msg": "no pictures"}]}',
        b"no pictures\n",
    ],
)
def test_servers_word_failures_in_different_places(server, body):
    server.always = Failure(400, body)
    assert "no pictures" in failure_of(one_caption, open_quick(server.url)).message


def test_hosted_models_with_other_words_for_the_limit(server):
    """Some refuse max_tokens and a temperature; what they want instead is learned once."""

    def refusal(asked):
        if asked.path.endswith("/models"):
            return None
        if "max_tokens" in asked.body:
            words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        elif "temperature" in asked.body:
            words = "Unsupported value: 'temperature' does not support 0 with this model."
        else:
            return None
        return Failure(400, json.dumps({"error": {"message": words}}).encode())

    server.failure_for = refusal
    captions = open_quick(server.url, batch_size=1).describe(looks(3))
    assert captions[2].high == "A picture of colour 40 7 200."
    assert len(server.questions) == 2 + 6
    assert server.questions[-1].body["max_completion_tokens"] == MAX_TOKENS


def test_line_breaks_and_parts_become_one_line(server):
    server.answer = lambda asked: chat_answer([{"type": "text", "text": "A house.\n\nA  tree."}])
    assert one_caption(open_quick(server.url)).high == "A house. A tree."


def test_halves_of_characters_do_no_harm(server):
    server.always = Failure(200, b'{"choices": [{"message": {"content": "A \\ud83d house."}}]}')
    assert one_caption(open_quick(server.url)).high == "A ? house."


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("A house. A tree? And a", "A house. A tree?"),
        ('He says "stop." Then he', 'He says "stop."'),
        ("A house that is 3.5 m high. 2. Its", "A house that is 3.5 m high."),
        ("No sentence ends her", "No sentence ends her"),
        ("房子很大。树", "房子很大。"),
        ("A whole sentence.", "A whole sentence."),
    ],
)
def test_an_answer_that_ran_out_of_room_ends_with_its_last_sentence(server, said, kept):
    server.answer = lambda asked: chat_answer(said, "length")
    assert one_caption(open_quick(server.url)).high == kept
    server.answer = lambda asked: chat_answer(said, "stop")
    assert one_caption(open_quick(server.url)).high == said


@pytest.mark.parametrize(
    "said",
    [
        "<think>Is it\na house?</think>\n\nA house.",
        "Is it a house?\n</think>\nA house.",
        "<think>One.</think>A <thinking>two</thinking>house.",
    ],
)
def test_what_a_model_thinks_aloud_is_left_out(server, said):
    server.answer = lambda asked: chat_answer(said)
    assert one_caption(open_quick(server.url)).high == "A house."


@pytest.mark.parametrize("thinking", ["<think>Is it a", "", None])
def test_a_model_that_thinks_long_gets_more_room_once(server, thinking):
    def answer(asked):
        room = asked.body["max_tokens"]
        return chat_answer("<think>It is.</think>A house.") if room > MAX_TOKENS else chat_answer(thinking, "length")

    server.answer = answer
    assert one_caption(open_quick(server.url)).high == "A house."
    assert [asked.body["max_tokens"] for asked in server.questions] == [MAX_TOKENS, MAX_THINKING_TOKENS] * 2
    server.answer = lambda asked: chat_answer(thinking, "length")
    assert "empty answer" in failure_of(one_caption, open_quick(server.url)).message


@pytest.mark.parametrize("variable", ["XPSR_ENDPOINT_KEY", "OPENAI_API_KEY"])
def test_the_key_of_the_environment_is_sent(server, monkeypatch, variable):
    monkeypatch.setenv(variable, f" {KEY}\n")
    one_caption(open_quick(server.url))
    assert {asked.headers["Authorization"] for asked in server.asked} == {f"Bearer {KEY}"}


def test_our_own_variable_comes_first(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    monkeypatch.setenv("XPSR_ENDPOINT_KEY", KEY)
    open_quick(server.url)
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("variable", ["XPSR_ENDPOINT_KEY", "OPENAI_API_KEY", None])
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_by_its_variable(server, monkeypatch, variable, status):
    if variable:
        monkeypatch.setenv(variable, KEY)
    server.models_failure = Failure(status, json.dumps({"error": {"message": f"Incorrect key: {KEY}"}}).encode())
    failure = failure_of(open_quick, server.url)
    assert f"HTTP status {status}" in failure.message
    assert (f"does not take the key in {variable}" if variable else "wants a key") in failure.message
    assert "XPSR_ENDPOINT_KEY" in failure.hint
    assert len(server.asked) == 1
    if variable:
        assert KEY not in failure.message + failure.hint


@pytest.mark.parametrize("key", ["ключ", "two\nlines", "bell\x07"])
def test_a_key_that_cannot_be_one_is_not_shown(server, monkeypatch, key):
    monkeypatch.setenv("XPSR_ENDPOINT_KEY", key)
    failure = failure_of(open_quick, server.url)
    assert "XPSR_ENDPOINT_KEY holds characters" in failure.message
    assert key not in failure.message + failure.hint
    assert not server.asked


ECHOES = [
    Failure(400, json.dumps({"error": {"message": "x" * 190 + KEY}}).encode()),
    Failure(400, f"Bearer {KEY} has no pictures".encode()),
    Failure(401, json.dumps({"detail": KEY}).encode()),
    Failure(404, KEY.encode()),
    Failure(429, json.dumps({"message": KEY}).encode()),
    Failure(200, json.dumps({"error": KEY}).encode()),
    Failure(200, KEY.encode()),
]


@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_that_the_server_repeats_is_not_told(server, monkeypatch, caplog, capsys, echo):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("XPSR_ENDPOINT_KEY", KEY)
    captioner = open_quick(server.url)
    server.always = echo
    failure = failure_of(one_caption, captioner)
    shown = failure.message + failure.hint + str(failure) + repr(failure) + caplog.text + "".join(capsys.readouterr())
    assert KEY not in shown
    assert KEY[:10] not in shown
    key = endpoint_key(server.url)
    assert KEY not in repr(key)


def test_a_redirect_on_the_same_server_is_followed_with_question_and_key(server, monkeypatch):
    monkeypatch.setenv("XPSR_ENDPOINT_KEY", KEY)
    captioner = open_quick(server.url)
    for status in (301, 302, 307, 308):
        server.failures = [Failure(status, headers={"Location": "/v1/chat/completions"})]
        assert one_caption(captioner).high == "A picture of colour 0 7 200."
    assert {asked.method for asked in server.questions} == {"POST"}
    assert {asked.headers["Authorization"] for asked in server.questions} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_server_gets_neither_key_nor_photo(server, monkeypatch, status):
    monkeypatch.setenv("XPSR_ENDPOINT_KEY", KEY)
    with ChatServer() as other:
        captioner = open_quick(server.url)
        server.always = Failure(status, headers={"Location": f"{other.url}/chat/completions"})
        failure = failure_of(one_caption, captioner)
        server.models_failure = Failure(status, headers={"Location": f"{other.url}/models"})
        assert failure_of(open_quick, server.url).message == failure.message
        assert not other.asked
    assert failure.message == f"{server.root} sends requests on to {other.root}."


@pytest.mark.parametrize("location", ["http://127.0.0.1:x/", "https://[", "file:///etc/passwd", "ftp://127.0.0.1/"])
def test_redirects_to_nowhere(server, location):
    captioner = open_quick(server.url)
    server.always = Failure(307, headers={"Location": location})
    failure_of(one_caption, captioner)


def test_redirects_in_a_circle_end(server):
    captioner = open_quick(server.url)
    server.always = Failure(307, headers={"Location": "/v1/chat/completions"})
    assert "307" in failure_of(one_caption, captioner).message


def test_a_redirect_to_an_answer_elsewhere_is_not_followed(server):
    captioner = open_quick(server.url)
    server.always = Failure(303, headers={"Location": "/v1/chat/completions"})
    assert "303" in failure_of(one_caption, captioner).message
    assert len(server.asked) == 2


def test_the_proxy_of_the_environment_is_used_and_named(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.root)
    server.prefix = "http://models.invalid/v1"
    assert one_caption(open_quick("http://models.invalid/v1")).captioner == "tiny-llava"
    assert server.asked[0].path == "http://models.invalid/v1/models"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://me:{KEY}@127.0.0.1:{taken.getsockname()[1]}")
        failure = failure_of(open_quick, "http://models.invalid/v1")
    assert "through the proxy of the environment" in failure.message
    assert KEY not in failure.message


def test_the_key_of_captions_does_not_depend_on_where_the_server_is(server):
    with ChatServer(["tiny-llava", "other"]) as moved:
        assert endpoint_key(server.url) == endpoint_key(moved.url) == endpoint_key(moved.root, "tiny-llava")
        assert endpoint_key(moved.url, "other").digest != endpoint_key(moved.url).digest
    key = endpoint_key(server.url)
    assert key.name == "tiny-llava"
    assert HIGH_INSTRUCTION in dict(key.settings).values()
    assert LOW_INSTRUCTION in dict(key.settings).values()
    assert server.root.rpartition(":")[2] not in repr(key)


def test_the_key_for_a_named_model_needs_no_server(server):
    before = len(server.asked)
    assert endpoint_key(server.url, "tiny-llava").name == "tiny-llava"
    assert len(server.asked) == before
    endpoint_key(server.url)
    assert [asked.path for asked in server.asked[before:]] == ["/v1/models"]


def test_the_key_for_a_server_that_is_down_is_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        failure_of(endpoint_key, f"http://127.0.0.1:{taken.getsockname()[1]}")


INTERRUPTED = """
import sys
import numpy as np
from xpsr_cli.captioning.endpoint import open_endpoint
from xpsr_cli.captioning.views import View

picture = np.zeros((8, 8, 3), np.uint8)
try:
    open_endpoint(sys.argv[1], batch_size=2).describe([View(picture, picture)] * 6)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(os.name != "posix", reason="sends the signal of Ctrl-C")
def test_an_interrupted_run_does_not_wait_for_the_server(server):
    server.delay_s = lambda asked: 30.0
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, server.url], stdout=subprocess.PIPE, text=True) as run:
        until = time.monotonic() + 30
        while len(server.questions) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        try:
            assert run.communicate(timeout=10)[0] == "interrupted\n"
        finally:
            run.kill()
    assert run.returncode == 0
    assert len(server.questions) == 2
