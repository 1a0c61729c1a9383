"""The verb `embed`: each window of a series -> a vector of fixed length, the encoder's state after reading it.

What the vector Z is: the top layer's output h after the last row that the encoder reads, then (LSTM) its cell c, then,
where the network has a linear path of its own, the window's coordinates on that. Lower layers are left out. The encoder
reads the network's own trailing part of the window without the K rows that it forecasts, in units of the stream's
scale; a network that whitens reads what the linear subspace leaves. The columns say so: h0…, c0…, p0….

Rows take the same stages as in the daemon, so a window exists where the daemon would have one, and its vector depends
on nothing but its rows: not on the batch, the stride, or where the file begins (a stream that the model was not trained
on is scaled by its own first rows, as ever).
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from streamae.core.calendar import Calendar
from streamae.core.profile import Profile
from streamae.core.scale import Scale
from streamae.core.types import F32, I64, Rows
from streamae.core.window import Rings
from streamae.errors import SeriesError
from streamae.history.recordings import Series
from streamae.history.series import open_text
from streamae.training.backtest import usable_rows

__all__ = ["Embedded", "code_names", "embed_file", "embed_series", "windows_of", "write_vectors"]

_ROWS_PER_STEP = 2048  # bounds the memory that windows take


class WindowEncoder(Protocol):
    """What is asked of a model; implemented by `streamae.model.runtime`."""

    def encode(self, windows: F32) -> F32:
        """[B, T, C] -> [B, Z]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """`vectors[n, Z]` of the windows that end at the rows `row[n]` of the series."""

    row: I64
    vectors: F32


def code_names(network: Mapping[str, Any]) -> list[str]:
    """Name the Z columns of the code, from the manifest's `network`."""
    recurrent = network["recurrent"]
    kinds = [("h", recurrent["hidden"]), ("c", recurrent["hidden"] if recurrent["cell"] == "lstm" else 0)]
    return [f"{kind}{i}" for kind, size in [*kinds, ("p", recurrent["linear_rank"])] for i in range(size)]


def windows_of(series: Series, profile: Profile, stride: int = 1) -> Iterator[tuple[I64, F32]]:
    """Yield, part by part, the rows `[n]` that every `stride`-th full window ends with, and the windows `[n, T, C]`.

    Scaled as the stream of the series' name. Raises SeriesError where the series lacks a channel of the model.
    """
    usable, values = usable_rows(series, profile)
    scale, calendar = Scale(len(profile.channels), profile.warmup_rows), Calendar.of(profile.calendar)
    read = len(profile.channels) + len(calendar)
    rings = Rings(profile.window, read, gap_max_s=profile.gap_max_s, stride=stride)
    scale.grow(1)
    rings.grow(1)
    scale.begin(0, profile.streams.get(series.name))
    for first in range(0, len(usable), _ROWS_PER_STEP):
        at = usable[first : first + _ROWS_PER_STEP]
        stream = np.zeros(len(at), np.int32)
        kept, scaled = scale.step(Rows(stream, series.time_s[at], values[at]))
        time_s = series.time_s[at[kept]]
        windows, ended, _ = rings.push(stream[kept], time_s, calendar.beside(scaled, time_s))
        yield at[kept[ended]], windows.values


def embed_series(series: Series, profile: Profile, encoder: WindowEncoder, stride: int = 1) -> Embedded:
    """Embed every `stride`-th full window of a series, as the stream of its name.

    Raises SeriesError where the series lacks a channel of the model.
    """
    rows: list[I64] = [np.zeros(0, np.int64)]
    read = len(profile.channels) + len(Calendar.of(profile.calendar))
    vectors: list[F32] = [encoder.encode(np.zeros((0, profile.window, read), np.float32))]
    for ended, windows in windows_of(series, profile, stride):
        rows.append(ended)
        vectors.append(encoder.encode(windows))
    return Embedded(np.concatenate(rows), np.concatenate(vectors))


def write_vectors(path: Path, times: list[str], names: list[str], embedded: Embedded) -> None:
    """Write `timestamp,<names…>` (.csv, .csv.gz; the time of a window is that of its last row), or [n, Z] as .npy.

    Raises SeriesError where the file cannot be written.
    """
    if path.suffix == ".npy":
        try:
            np.save(path, embedded.vectors)
        except OSError as error:
            raise SeriesError(f"{path}: cannot be written: {error}") from error
        return
    with open_text(path, "w") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["timestamp", *names])
        for row, vector in zip(embedded.row.tolist(), embedded.vectors, strict=True):
            lines.writerow([times[row], *(str(x) for x in vector)])  # str of a float32: the shortest that reads back


def embed_file(model: Path, path: Path, out: Path, stride: int, sha256: str | None, registry: Path | None) -> str:
    """The verb `embed`: open, embed, write; returns what was done in one line."""
    from streamae.history.recordings import read_series
    from streamae.model.artifact import open_artifact
    from streamae.model.save import default_registry

    if not out.name.endswith((".csv", ".csv.gz", ".npy")):
        raise SeriesError(f"{out}: its ending says no format; use .csv, .csv.gz or .npy")
    series = read_series(path)
    artifact = open_artifact(model, sha256, registry or default_registry())
    embedded = embed_series(series, artifact.profile, artifact.reconstructor, stride)
    count, size = embedded.vectors.shape
    if not count:
        raise SeriesError(
            f"{path}: has no full window of {artifact.profile.window} rows without a gap; record for longer"
        )
    write_vectors(out, series.time_text, code_names(artifact.manifest["network"]), embedded)
    return f"{path}: {count} windows of {artifact.profile.window} rows as vectors of {size} numbers; written to {out}"
