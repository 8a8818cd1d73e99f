"""Everything that can go wrong, as one family of exceptions.

Library code raises these and never prints or exits; ``cli/app.py`` turns them into one sentence and an exit code.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of the ``xpsr`` command."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    PHOTO = 3
    WEIGHTS = 4
    MEMORY = 5
    MISSING_EXTRA = 6
    PARTIAL = 7
    INTERRUPTED = 130
    TERMINATED = 143


class XpsrError(Exception):
    """A failure a user can act on.

    ``message`` is one sentence that names the thing and its value; ``hint`` is one sentence that says what to do.
    """

    exit_code = ExitCode.UNEXPECTED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(XpsrError):
    """A flag, setting or config value that is not allowed."""

    exit_code = ExitCode.USAGE


class PhotoError(XpsrError):
    """A photo that cannot be read, written or held by the wanted format."""

    exit_code = ExitCode.PHOTO


class WeightsError(XpsrError):
    """Model weights that are missing, damaged, of another architecture or refused."""

    exit_code = ExitCode.WEIGHTS


class EndpointError(XpsrError):
    """A server that describes photos cannot be reached, or does not answer as it should."""

    exit_code = ExitCode.WEIGHTS


class NoAnswerError(EndpointError):
    """The server is there, but does not describe this picture; it may well describe others."""


class OutOfMemoryError(XpsrError):
    """The device ran out of memory."""

    exit_code = ExitCode.MEMORY


class MissingExtraError(XpsrError):
    """An optional dependency is not installed."""

    exit_code = ExitCode.MISSING_EXTRA


class PartialFailureError(XpsrError):
    """Some items of a batch failed; the others are done."""

    exit_code = ExitCode.PARTIAL
