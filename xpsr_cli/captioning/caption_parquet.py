"""Rows of captions in Parquet files. Needs pyarrow, which is imported when the first file is touched."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from xpsr_cli.errors import MissingExtraError, UsageError
from xpsr_cli.photos.formats import reason

_COLUMNS = ("photo", "sha256", "high", "low", "captioner", "regions")
_SIDES = ("left", "top", "width", "height")


def check() -> None:
    """:class:`MissingExtraError` without pyarrow."""
    _pyarrow("pyarrow.parquet")


def write(rows: Sequence[dict[str, Any]], stream: BinaryIO) -> None:
    """Rows as :meth:`xpsr_cli.captioning.caption_files.CaptionRow.to_dict` gives them."""
    pyarrow = _pyarrow("pyarrow")
    box = pyarrow.struct([(side, pyarrow.int64()) for side in _SIDES])
    regions = pyarrow.list_(pyarrow.struct([("box", box), ("high", pyarrow.string())]))
    types = dict.fromkeys(_COLUMNS, pyarrow.string()) | {"regions": regions}
    table = pyarrow.Table.from_pylist([_in_unicode(row) for row in rows], schema=pyarrow.schema(types.items()))
    _pyarrow("pyarrow.parquet").write_table(table, stream)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Row by row, the columns that a caption may have; other columns, pictures perhaps, are not even read.

    Raises :class:`UsageError` for a file that is no Parquet.
    """
    parquet, error_types = _pyarrow("pyarrow.parquet"), _pyarrow("pyarrow").ArrowException
    try:
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
            for batch in file.iter_batches(columns=columns):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise
    except (error_types, OSError, ValueError) as error:
        raise UsageError(f"{path} is no Parquet file that can be read: {reason(error)}.", "Write it anew.") from None


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(
            "Parquet files need pyarrow, which is not installed.", "Run: pip install 'xpsr[parquet]'"
        ) from None


def _in_unicode(value: Any) -> Any:
    """The same values with question marks for what is no Unicode, as in the names of some files."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _in_unicode(part) for name, part in value.items()}
    return [_in_unicode(part) for part in value] if isinstance(value, list) else value
