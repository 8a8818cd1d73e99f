"""A Chromium without a window, driven over its DevTools protocol: pages are opened, clicked, looked at and asked.

The protocol runs over a pair of pipes (``--remote-debugging-pipe``), so no port is opened and no package is needed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "+": 187, "-": 189, "0": 48}
_TIMEOUT_S = 60


def find_browser():
    """The program of a Chromium or Chrome; skips the test where there is none."""
    program = os.environ.get("XPSR_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if os.name != "posix":
        pytest.skip("browsers are driven over inherited pipes, which this system does not have")
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    return program


class Browser:
    """One browser with one page. ``errors`` are what the console got; ``requests`` the addresses that were fetched."""

    def __init__(self, program, folder):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars"]
        flags += ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions"]

        def as_3_and_4():
            os.dup2(to_browser, 63)  # out of the way: either pipe may have been given the number 3 or 4
            os.dup2(from_browser, 64)
            os.dup2(63, 3)
            os.dup2(64, 4)

        self._process = subprocess.Popen(
            [program, *flags, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=as_3_and_4,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._received, self._count, self._session = b"", 0, None
        self.errors, self.requests, self._loaded, self._scripts = [], [], 0, True
        pages = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        target = pages[0]["targetId"] if pages else self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """One command of the protocol; gives its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next_message()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, path, width=1000, height=800, *, dark=False, scripts=True):
        """Show a file in a window of this size, and wait until it is loaded."""
        self.resize(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._scripts = scripts
        self.errors.clear()
        self.requests.clear()
        before = self._loaded
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self._loaded == before:
            self._next_message()
        self.settle()

    def resize(self, width, height):
        """Give the window a size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def settle(self):
        """Wait until what was asked for is painted; a page without scripts cannot say when."""
        if not self._scripts:
            return
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
        self.ask(frames)

    def ask(self, expression):
        """The value of a JavaScript expression, waited for if it is a promise."""
        made = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in made, made.get("exceptionDetails")
        return made["result"].get("value")

    def wait_for(self, expression):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + _TIMEOUT_S
        while not self.ask(expression):
            assert time.monotonic() < end, f"this never became true: {expression}"
            time.sleep(0.02)

    def look(self, selector=None):
        """The window, or the first element of ``selector`` in it, as (H, W, 3) uint8."""
        self.settle()
        clip = {"clip": self.box(selector) | {"scale": 1}} if selector else {}
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png", **clip)["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def box(self, selector):
        """Where the first element of a selector is in the page: x, y, width, height."""
        return self.ask(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height}; })()"
        )

    def mouse(self, kind, x, y, *, buttons=0, clicks=0, **more):
        """One event of the mouse, at a place in the window."""
        button = "left" if kind in ("mousePressed", "mouseReleased") else "none"
        event = {"type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": clicks}
        self.call("Input.dispatchMouseEvent", **event, **more)

    def drag(self, start, end):
        """Press the left button at a place, move, and let go at another."""
        self.mouse("mousePressed", *start, buttons=1, clicks=1)
        self.mouse("mouseMoved", *((a + b) / 2 for a, b in zip(start, end, strict=True)), buttons=1)
        self.mouse("mouseMoved", *end, buttons=1)
        self.mouse("mouseReleased", *end, clicks=1)
        self.settle()

    def press(self, key, *, shift=False):
        """Press and release a key of :data:`KEYS`."""
        text = {"text": key} if len(key) == 1 else {}
        common = {"key": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)
        self.settle()

    def close(self):
        """End the browser."""
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._write)
            os.close(self._read)

    def _next_message(self):
        parts = [self._received]
        while b"\0" not in parts[-1]:  # a message may be of many megabytes: a page's pictures are in its addresses
            ready, _, _ = select.select([self._read], [], [], _TIMEOUT_S)
            assert ready, "the browser does not answer"
            parts.append(os.read(self._read, 2**20))
            assert parts[-1], "the browser has ended"
        end, _, self._received = parts.pop().partition(b"\0")
        message = json.loads(b"".join([*parts, end]))
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, params):
        """Keep what a page did that nobody asked it for."""
        if method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"])
