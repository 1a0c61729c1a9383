"""Series in files: `timestamp,<channels…>[,label]` as CSV, gzipped CSV or Parquet.

The first column is the time: ISO 8601 text (without an offset it is UTC), or numbers, whose unit follows from their
magnitude (below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds; a mere row number is
seconds). A column called `label` is never read: a detector must not see the answer. Empty cells, NaN and infinities are
missing values, NaN in the result. Everything else that is not a number is an error with its file, line and column.
"""

import csv
import gzip
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import numpy as np
import numpy.typing as npt

from streamae.core.types import F64
from streamae.errors import SeriesError
from streamae.history.prepared import Prepared

__all__ = ["LABEL", "Series", "number_array", "open_text", "read_series", "times_of", "write_series"]

LABEL = "label"


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A recording of one stream: `values[N, C]` at `time_s[N]`, with the times' own text for output that quotes it."""

    name: str
    channels: tuple[str, ...]
    time_s: F64
    time_text: list[str]
    values: F64
    prepared: Prepared | None = None
    """How its rows were made of samples; None: they are as they were recorded."""

    @classmethod
    def read(cls, path: Path | str) -> "Series":
        """Read `timestamp,<channels…>` from CSV, gzipped CSV or Parquet; the stream is called as the file.

        >>> series = Series.read("pump01.csv")
        >>> series.name, series.channels, len(series)
        ('pump01', ('pressure', 'flow', 'vibration', 'temperature'), 1200)

        :raises SeriesError: with file, line, column, value and remedy.
        """
        return read_series(path)

    @classmethod
    def of(cls, name: str, channels: Sequence[str], time_s: npt.ArrayLike, values: npt.ArrayLike) -> "Series":
        """Make the series of a stream from `values[N, C]` at `time_s[N]`, seconds since 1970; NaN where one is missing.

        >>> Series.of("pump07", ["flow", "pressure"], [0.0, 1.0], [[3.1, 0.4], [3.2, float("nan")]]).channels
        ('flow', 'pressure')

        :raises SeriesError: the arrays are not of numbers, or do not fit each other; with key, value and remedy.
        """
        if isinstance(channels, str) or not channels or len(set(channels)) < len(channels):
            raise SeriesError(f"channels: got {channels!r}; give each column of values a name of its own, in a list")
        rows, times = number_array("values", values), number_array("time_s", time_s)
        if rows.ndim != 2 or rows.shape[1] != len(channels):
            wanted = f"[N, {len(channels)}], a row for each time and a column for each channel"
            raise SeriesError(f"values: got the shape {list(rows.shape)}; give {wanted} ({', '.join(channels)})")
        if times.shape != rows.shape[:1] or not np.isfinite(times).all():
            raise SeriesError(
                f"time_s: got the shape {list(times.shape)}; give a finite time for each of {len(rows)} rows"
            )
        known = np.where(np.isfinite(rows), rows, np.nan)
        return cls(name, tuple(channels), times, [repr(t) for t in times.tolist()], known)

    def __len__(self) -> int:
        """Return N, the number of rows."""
        return len(self.time_s)


def number_array(key: str, given: npt.ArrayLike) -> F64:
    """Return a copy of numbers as float64, of any shape. Raises SeriesError for what is none; `key` names it."""
    try:
        found = np.asarray(given)
    except ValueError as error:
        raise SeriesError(
            f"{key}: got rows of different lengths; give each row all its values, NaN for none"
        ) from error
    if found.dtype.kind not in "fiu":
        shown = repr(given) if len(repr(given)) < 80 else f"{repr(given)[:76]} …"
        raise SeriesError(f"{key}: got {shown}, of type {found.dtype}; give numbers, NaN where one is missing")
    return found.astype(np.float64)


@contextmanager
def open_text(path: Path, mode: str = "r") -> Iterator[TextIO]:
    """Open a text file, through gzip where its name ends in .gz; what goes wrong inside becomes a SeriesError."""
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with (
            opened(path, f"{mode}b") as raw,
            io.TextIOWrapper(cast(BinaryIO, raw), encoding=encoding, newline="") as file,
        ):
            yield file
    except (OSError, EOFError) as error:  # gzip.BadGzipFile is an OSError; a cut archive ends in EOFError
        verb = "read" if mode == "r" else "written"
        raise SeriesError(f"{path}: cannot be {verb}: {error}") from error
    except UnicodeDecodeError as error:
        raise SeriesError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def read_series(path: Path | str) -> Series:
    """Read a series; `name` is the file's name without its endings.

    :raises SeriesError: with file, line, column, value and remedy.
    """
    path = Path(path)
    name = path.name
    for ending in (".gz", ".csv", ".parquet", ".pq"):
        name = name.removesuffix(ending)
    if path.suffix in {".parquet", ".pq"}:
        return _read_parquet(path, name)
    header, columns, lines = _read_csv(path)
    channels = _channels(path, header)
    time_s = times_of(path, columns[0], lines)
    values = np.empty((len(lines), len(channels)), np.float64)
    for c, (index, channel) in enumerate(channels):
        values[:, c] = _numbers(path, channel, columns[index], lines)
    return Series(name, tuple(channel for _, channel in channels), time_s, list(columns[0]), values)


def _read_csv(path: Path) -> tuple[list[str], list[tuple[str, ...]], list[int]]:
    with open_text(path) as file:
        first = file.readline()
        delimiter = ";" if ";" in first and "," not in first else ","
        header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        reader = csv.reader(file, delimiter=delimiter)
        rows: list[list[str]] = []
        lines: list[int] = []
        try:
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    where = f"{path}:{reader.line_num + 1}"
                    raise SeriesError(f"{where}: {len(row)} cells, the header has {len(header)}; repair this line")
                rows.append(row)
                lines.append(reader.line_num + 1)
        except csv.Error as error:
            raise SeriesError(f"{path}:{reader.line_num + 1}: not CSV: {error}; repair this line") from error
    if not header or not rows:
        raise SeriesError(f"{path}: no rows; a series is timestamp,<channels…> and a row for each time")
    return header, list(zip(*rows, strict=True)), lines


def _channels(path: Path, header: Sequence[str]) -> list[tuple[int, str]]:
    channels = [(i, name) for i, name in enumerate(header) if i and name.lower() != LABEL]
    names = [name for _, name in channels]
    if not channels:
        raise SeriesError(f"{path}:1: no channel after {header!r}; a series is timestamp,<channels…>")
    if len(set(names)) < len(names) or "" in names:
        twice = next((name for name in names if names.count(name) > 1), "")
        raise SeriesError(f"{path}:1: column {twice!r} without a name of its own; give each channel another name")
    return channels


def times_of(path: Path, texts: Sequence[str], lines: Sequence[int]) -> F64:
    """Seconds since 1970 UTC of numbers (s, ms, µs or ns) or ISO 8601, from these lines. Raises SeriesError."""
    try:
        number = np.array(texts, dtype=np.float64)
    except ValueError:
        return _iso_times(path, texts, lines)
    bad = np.flatnonzero(~np.isfinite(number)).tolist()
    if bad:
        where = f"{path}:{lines[bad[0]]}: timestamp: got {texts[bad[0]]!r}"
        raise SeriesError(f"{where}; give every row a time")
    return number * _unit_s(float(np.abs(number).max()))


def _unit_s(magnitude: float) -> float:
    return 1.0 if magnitude < 1e11 else 1e-3 if magnitude < 1e14 else 1e-6 if magnitude < 1e17 else 1e-9


def _iso_times(path: Path, texts: Sequence[str], lines: Sequence[int]) -> F64:
    time_s = np.empty(len(texts), np.float64)
    for i, text in enumerate(texts):
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError as error:
            where = f"{path}:{lines[i]}: timestamp: got {text!r}"
            raise SeriesError(f"{where}; write ISO 8601 (2024-05-01T12:00:00Z) or numbers, in every row") from error
        time_s[i] = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return time_s


def _numbers(path: Path, channel: str, cells: Sequence[str], lines: Sequence[int]) -> F64:
    try:
        number = np.array(cells, dtype=np.float64)
    except ValueError:
        number = np.fromiter((_number(cell) for cell in cells), np.float64, len(cells))
        for i in np.flatnonzero(number == np.inf).tolist():
            if cells[i].strip().lower() not in {"inf", "+inf", "infinity"}:
                where = f"{path}:{lines[i]}: {channel}: got {cells[i]!r}"
                message = f"{where}; a channel holds numbers, empty where one is missing"
                raise SeriesError(message) from None
    return np.where(np.isfinite(number), number, np.nan)


def _number(cell: str) -> float:
    """Return the number in a cell, NaN where it is empty, infinity where it is something else (to be found)."""
    text = cell.strip()
    if not text or text.lower() in {"na", "n/a", "null", "none"}:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.inf


def _read_parquet(path: Path, name: str) -> Series:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SeriesError(f"{path}: Parquet needs pyarrow; pip install 'streamae[parquet]'") from error
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SeriesError(f"{path}: cannot be read: {error}") from error
    channels = _channels(path, table.column_names)
    if not table.num_rows:
        raise SeriesError(f"{path}: no rows; a series is timestamp,<channels…> and a row for each time")
    time = table.column(0)
    if pa.types.is_timestamp(time.type):
        time_s = time.cast(pa.timestamp("ns")).to_numpy().astype("datetime64[ns]").astype(np.int64) / 1e9
        texts = [f"{moment}Z" for moment in np.datetime_as_string(time.cast(pa.timestamp("us")).to_numpy())]
    else:
        texts = [str(value) for value in time.to_pylist()]
        time_s = times_of(path, texts, range(1, len(texts) + 1))
    values = np.empty((table.num_rows, len(channels)), np.float64)
    for c, (index, channel) in enumerate(channels):
        try:
            values[:, c] = table.column(index).to_numpy().astype(np.float64)
        except (TypeError, ValueError) as error:
            raise SeriesError(f"{path}: {channel}: {error}; a channel holds numbers") from error
    return Series(name, tuple(c for _, c in channels), time_s, texts, np.where(np.isfinite(values), values, np.nan))


def write_series(
    path: Path, channels: Sequence[str], time_text: Sequence[str], values: F64, label: Iterable[int] | None = None
) -> None:
    """Write a series as CSV (gzipped where the name ends in .gz); numbers keep every digit, NaN is an empty cell.

    :raises SeriesError: the file cannot be written.
    """
    with open_text(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["timestamp", *channels, *([] if label is None else [LABEL])])
        rows = (["" if math.isnan(v) else repr(v) for v in row] for row in values.tolist())
        if label is None:
            writer.writerows([text, *row] for text, row in zip(time_text, rows, strict=True))
        else:
            writer.writerows([t, *row, mark] for t, row, mark in zip(time_text, rows, label, strict=True))
