"""What a failure is called: a sentence, what to do about it, and an exit code."""

from __future__ import annotations

import errno

from xpsr_cli.errors import OutOfMemoryError, PhotoError, XpsrError

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def as_xpsr_error(error: Exception) -> XpsrError:
    """The failure as one a user can act on. Running out of memory is told apart by type and words, without torch."""
    if isinstance(error, XpsrError):
        return error
    first_line = str(error).strip().partition("\n")[0]
    lacks_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if lacks_memory or any(words in first_line.lower() for words in _OUT_OF_MEMORY):
        return OutOfMemoryError(
            "There is not enough memory for this photo and these settings.",
            "Use a smaller --scale or, where the command has it, --tile-size, or a device with more memory.",
        )
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return PhotoError(
            f"{error.filename or 'A file'} cannot be used: {error.strerror}.",
            "Make room on the disk." if full else "Check that it is there, and its permissions.",
        )
    return XpsrError(f"Unexpected {type(error).__name__}: {first_line}", "Add --debug to see where it happened.")
