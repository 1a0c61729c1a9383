"""The journal: every accepted batch, in order, before it is acknowledged.

A row's body is the batch as a struct of arrays, compressed when that pays:

    codec u8 | flags u8 | reasons u16 | N u32 | epoch i64 | bytes u64     little-endian, then `bytes` of, in this order,
    arrival_s f64[N] | mid i32[N]? | dup bit[N]? | topic lengths u32[N] | payload lengths u32[N]
    | topics joined | payloads joined | per reason: length u8, name, count u64
    | thinning u32, holes u32 (2^32 - 1: all topics), lengths u32[holes], topics joined ?
    | maintenance: length u32, a JSON list of [group, stream, start_s, end_s] ?
    | confirmed alerts: length u32, a JSON list of [group, stream, id] ?
    | changes: length u32, a JSON list of [kind, group, stream, name, rows] ?

Its crc32 covers the row's number and time too, so that a row cannot stand in for another. Sensor topics repeat
themselves: deflate at its fastest level takes 2 µs a message and leaves about a quarter.
"""

import json
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
import numpy.typing as npt

from streamae.core.setting import Setting
from streamae.core.types import Batch, Confirmed, Drop, Drops, Maintenance, StreamChange

__all__ = ["Entry", "Journal", "JournalLimits", "crc_of", "decode_batch", "encode_batch", "read_rows"]

_CODEC = 1
_HEAD = struct.Struct("<BBHIqQ")
_COUNT = struct.Struct("<Q")
_STAMP = struct.Struct("<qd")
_HAS_MID, _HAS_DUP, _DEFLATED, _BACKLOG, _MAINTENANCE, _CHANGES = 1, 2, 4, 8, 16, 32
_RESUMED, _CONFIRMED = 64, 128
_LENGTH = struct.Struct("<I")
_THIN = struct.Struct("<II")
_ALL_TOPICS = 0xFFFFFFFF
_BODY_MAX = 1 << 30  # SQLite's own limit on a blob
_ROW_OVERHEAD = 32
_PRUNE_ROWS = 256  # a commit deletes no more rows than this, so that none takes long
_AGE_CHECK_S = 60.0
_REASONS = {reason.value: reason for reason in Drop}


def crc_of(number: int, time_s: float, body: bytes) -> int:
    """The crc32 of a row: its number, its time and its body."""
    return zlib.crc32(body, zlib.crc32(_STAMP.pack(number, time_s)))


def encode_batch(batch: Batch) -> bytes:
    """A batch as the bytes of one journal row; ValueError when its arrays disagree about N."""
    n = len(batch)
    if len(batch.payloads) != n or len(batch.arrival_s) != n or {len(batch.mid), len(batch.dup)} - {0, n}:
        raise ValueError(f"a batch of {n} topics has arrays of another length")
    flags = (_HAS_MID if len(batch.mid) else 0) | (_HAS_DUP if len(batch.dup) else 0)
    parts = [
        np.asarray(batch.arrival_s, "<f8").tobytes(),
        np.asarray(batch.mid, "<i4").tobytes(),
        np.packbits(batch.dup, bitorder="little").tobytes(),
        np.fromiter(map(len, batch.topics), "<u4", n).tobytes(),
        np.fromiter(map(len, batch.payloads), "<u4", n).tobytes(),
        *batch.topics,
        *batch.payloads,
    ]
    for reason, count in batch.lost.items():
        name = reason.value.encode()
        parts += [bytes([len(name)]), name, _COUNT.pack(count)]
    if batch.thinning != 1 or batch.broken:
        flags |= _BACKLOG
        parts += _encode_backlog(batch)
    if batch.maintenance is not None:
        flags |= _MAINTENANCE
        parts += _encode_tuples(batch.maintenance)
    flags |= _RESUMED if batch.resumed else 0
    if batch.confirmed:
        flags |= _CONFIRMED
        parts += _encode_tuples(batch.confirmed)
    if batch.changes:
        flags |= _CHANGES
        parts += _encode_tuples(batch.changes)
    plain = b"".join(parts)
    packed = zlib.compress(plain, 1)
    if len(packed) < len(plain):
        flags |= _DEFLATED
    head = _HEAD.pack(_CODEC, flags, len(batch.lost), n, batch.epoch, len(plain))
    return head + (packed if flags & _DEFLATED else plain)


def decode_batch(body: bytes, wanted: Callable[[bytes], bool] | None = None) -> Batch:
    """The batch that `encode_batch` was given, or of its messages those of `wanted` topics.

    Raises ValueError for any other bytes.
    """
    try:
        codec, flags, reasons, n, epoch, length = _HEAD.unpack_from(body)
    except struct.error as error:
        raise ValueError("a journal row is too short") from error
    if codec != _CODEC or length > _BODY_MAX:
        raise ValueError(f"a journal row of codec {codec} and {length} bytes is none of ours")
    plain = _inflate(body[_HEAD.size :], length) if flags & _DEFLATED else body[_HEAD.size :]
    if len(plain) != length:
        raise ValueError("a journal row has the wrong length")
    take = _Cutter(plain)
    arrival_s = np.frombuffer(take(8 * n), "<f8").astype(np.float64)
    mid = np.frombuffer(take(4 * n if flags & _HAS_MID else 0), "<i4").astype(np.int32)
    bits = np.frombuffer(take((n + 7) // 8 if flags & _HAS_DUP else 0), np.uint8)
    dup = np.unpackbits(bits, count=n if flags & _HAS_DUP else 0, bitorder="little").astype(np.bool_)
    topic_lengths = np.frombuffer(take(4 * n), "<u4")
    payload_lengths = np.frombuffer(take(4 * n), "<u4")
    topics = take.pieces(topic_lengths)
    at = None if wanted is None else [i for i, topic in enumerate(topics) if wanted(topic)]
    payloads = take.pieces(payload_lengths, at)
    lost = Drops()
    for _ in range(reasons):
        name = take(take(1)[0]).decode("ascii", "replace")
        (count,) = _COUNT.unpack(take(_COUNT.size))
        if name in _REASONS:  # a reason that a later release no longer knows cannot be counted under any label
            lost[_REASONS[name]] = count
    thinning, holes = _decode_backlog(take) if flags & _BACKLOG else (1, ())
    maintenance = _decode_tuples(take, Maintenance) if flags & _MAINTENANCE else None
    confirmed = _decode_tuples(take, Confirmed) if flags & _CONFIRMED else ()
    changes = _decode_tuples(take, StreamChange) if flags & _CHANGES else ()
    take.finish()
    if at is not None:
        topics, arrival_s = [topics[i] for i in at], arrival_s[at]
        mid, dup = mid[at] if len(mid) else mid, dup[at] if len(dup) else dup
    resumed = bool(flags & _RESUMED)
    return Batch(
        topics, payloads, arrival_s, mid, dup, epoch, lost, holes, thinning, maintenance, resumed, confirmed, changes
    )


def _encode_backlog(batch: Batch) -> list[bytes]:
    holes = batch.holes
    if holes is None:
        return [_THIN.pack(batch.thinning, _ALL_TOPICS)]
    return [_THIN.pack(batch.thinning, len(holes)), np.fromiter(map(len, holes), "<u4", len(holes)).tobytes(), *holes]


def _decode_backlog(take: "_Cutter") -> tuple[int, Sequence[bytes] | None]:
    thinning, holes = _THIN.unpack(take(_THIN.size))
    if not thinning:
        raise ValueError("a journal row says that every 0th window is scored")
    if holes == _ALL_TOPICS:
        return thinning, None
    return thinning, tuple(take.pieces(np.frombuffer(take(4 * holes), "<u4")))


def _encode_tuples(tuples: Sequence[Maintenance] | Sequence[Confirmed] | Sequence[StreamChange]) -> list[bytes]:
    text = json.dumps(tuples, separators=(",", ":")).encode("ascii")
    return [_LENGTH.pack(len(text)), text]


_T = TypeVar("_T", Maintenance, Confirmed, StreamChange)


def _decode_tuples(take: "_Cutter", kind: type[_T]) -> list[_T]:
    (length,) = _LENGTH.unpack(take(_LENGTH.size))
    try:
        return [kind(*one) for one in json.loads(take(length))]
    except TypeError as error:
        raise ValueError(f"a journal row's {kind.__name__} has another form") from error


class _Cutter:
    """Cuts bytes from the front, and refuses to cut more than there are."""

    def __init__(self, source: bytes) -> None:
        self._source, self._at = source, 0

    def __call__(self, size: int) -> bytes:
        piece = self._source[self._at : self._at + size]
        if len(piece) != size:
            raise ValueError("a journal row ends early")
        self._at += size
        return piece

    def pieces(self, lengths: npt.NDArray[np.uint32], at: Sequence[int] | None = None) -> list[bytes]:
        """Cut pieces of these lengths, and return all of them or those at some positions."""
        end = self._at + np.cumsum(lengths, dtype=np.int64)
        start = end - lengths
        if len(end):
            self._at = int(end[-1])
        if self._at > len(self._source):
            raise ValueError("a journal row ends early")
        chosen = slice(None) if at is None else at
        source, pairs = self._source, zip(start[chosen].tolist(), end[chosen].tolist(), strict=True)
        return [source[first:last] for first, last in pairs]

    def finish(self) -> None:
        if self._at != len(self._source):
            raise ValueError("a journal row has bytes left over")


def _inflate(packed: bytes, length: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # One byte more than announced shows a longer stream without unpacking it.
        return inflater.decompress(packed, length + 1)
    except zlib.error as error:
        raise ValueError(f"a journal row cannot be inflated ({error})") from error


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """What the journal may hold beyond the rows that recovery needs."""

    max_bytes: Annotated[int, Setting(key="journal_max", ge=10**6)] = 512 * 10**6
    """Size beyond which the oldest journal rows before the last snapshot are deleted."""
    max_age_s: Annotated[float, Setting(key="journal_age", gt=0)] = 604800.0
    """Age beyond which journal rows before the last snapshot are deleted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one commit changes in the journal; applied to the counters once the transaction stands."""

    appended: int = 0
    pruned: int = 0
    age_checked_s: float | None = None


class Journal:
    """The rows of the journal table, numbered without a gap; the counters follow what is committed."""

    def __init__(self, connection: sqlite3.Connection, limits: JournalLimits) -> None:
        self._limits = limits
        self._age_checked_s = float("-inf")
        (newest, size) = connection.execute(
            "SELECT COALESCE(MAX(seq), 0), COALESCE(SUM(LENGTH(body) + ?), 0) FROM journal", (_ROW_OVERHEAD,)
        ).fetchone()
        (covered,) = connection.execute("SELECT COALESCE(MAX(covers), 0) FROM snapshot").fetchone()
        self.last: int = max(newest, covered)
        self.bytes: int = size

    def append(self, connection: sqlite3.Connection, batch: Batch, now_s: float) -> int:
        """Write the row after the last; return the bytes it counts for."""
        body, seq = encode_batch(batch), self.last + 1
        connection.execute(
            "INSERT INTO journal (seq, now_s, messages, crc, body) VALUES (?, ?, ?, ?, ?)",
            (seq, now_s, len(batch), crc_of(seq, now_s, body), body),
        )
        return len(body) + _ROW_OVERHEAD

    def prune(self, connection: sqlite3.Connection, floor: int, now_s: float, appended: int) -> Entry:
        """Delete the oldest rows beyond the limits, never one past `floor`; return what the commit changes."""
        excess = self.bytes + appended - self._limits.max_bytes
        # The clock may have stepped back: any distance from the last look is a reason to look again.
        look = abs(now_s - self._age_checked_s) >= _AGE_CHECK_S
        if excess <= 0 and not look:
            return Entry(appended)
        oldest_s, last, pruned, rows = now_s - self._limits.max_age_s, None, 0, 0
        for seq, row_s, size in connection.execute(
            "SELECT seq, now_s, LENGTH(body) FROM journal WHERE seq <= ? ORDER BY seq LIMIT ?", (floor, _PRUNE_ROWS)
        ):
            if pruned >= excess and row_s >= oldest_s:
                break
            last, pruned, rows = seq, pruned + size + _ROW_OVERHEAD, rows + 1
        if last is not None:
            connection.execute("DELETE FROM journal WHERE seq <= ?", (last,))
        return Entry(appended, pruned, now_s if rows < _PRUNE_ROWS else float("-inf"))

    def committed(self, entry: Entry) -> None:
        """Follow a transaction that stands."""
        self.last += 1 if entry.appended else 0
        self.bytes += entry.appended - entry.pruned
        if entry.age_checked_s is not None:
            self._age_checked_s = entry.age_checked_s


def read_rows(
    connection: sqlite3.Connection, after: int, wanted: Callable[[bytes], bool] | None = None
) -> Iterator[tuple[int, Batch | str, float]]:
    """Rows past `after` in order, as (number, batch, now_s); a damaged one has the reason where its batch would be.

    Of a batch only the messages of `wanted` topics are unpacked, if that is given.

    Each row is a query of its own: what one of them holds can then not end the reading of the rest.
    """
    following = "SELECT MIN(seq) FROM journal WHERE seq > ?"
    while (seq := connection.execute(following, (after,)).fetchone()[0]) is not None:
        after = seq
        try:
            row = connection.execute("SELECT now_s, crc, body FROM journal WHERE seq = ?", (seq,)).fetchone()
            now_s, crc, body = row
            if crc_of(seq, now_s, body) != crc:
                raise ValueError("its crc32 does not match")  # noqa: TRY301 (caught with the decoder's own)
            yield seq, decode_batch(body, wanted), now_s
        except (sqlite3.Error, TypeError, struct.error, ValueError) as error:
            yield seq, str(error), 0.0
