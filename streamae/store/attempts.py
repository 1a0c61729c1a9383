"""What was being worked on when the process died: a few bytes in a file beside the state, written around each batch.

They go to the kernel and to the disk whenever it likes, since they must outlive the process, not the machine: two
small writes a batch. A process that dies between its batches leaves "rest" behind. One that dies within a batch, or
raises, is counted by the next; the count goes on as long as processes die in what the broker delivers again (or in the
same row of the journal), and is over with the first batch that holds nothing but news.

After the second such death in a row at most a 64th of the deadly batch is taken at once, and so on, down to single
messages, until as many have passed as the deadly batch held. A message on its own that was there at three deaths, or at
two that came after two more, is condemned: it is left out from then on (`store.poison`), and the daemon lives.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamae.core.types import Batch
from streamae.store.dedup import digest_of

__all__ = ["Attempts"]

_MAGIC = b"tri1"
_RECORD = struct.Struct("<4sBxxxIqQQII")
_CRC = struct.Struct("<I")
_REST, _BATCH, _ROW = 0, 1, 2
_CAREFUL_DEATHS = 2
_PART = 64
_SAME_DEATHS = 3


class _Attempt(NamedTuple):
    """At what a process is: `deaths` in a row came before it, `same` of them at the single message `suspect`."""

    phase: int = _REST
    messages: int = 0
    row: int = 0
    digest: int = 0
    suspect: int = 0
    deaths: int = 0
    same: int = 0


class Attempts:
    """The file of one state directory; made when a process starts, which then knows how the last ones ended."""

    def __init__(self, directory: Path) -> None:
        self._file = os.open(directory / "attempt", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        last = _decode(os.pread(self._file, _RECORD.size + _CRC.size, 0))
        died = last.phase != _REST
        self.row = last.row if last.phase == _ROW else -1
        self._begin(
            deaths=last.deaths + 1 if died else 0,
            suspect=last.digest if died else 0,
            same=0 if not died or not last.digest else last.same + 1 if last.digest == last.suspect else 1,
        )
        self.part, self._unproven = max(1, last.messages // _PART), last.messages
        self._write(_Attempt())

    def _begin(self, deaths: int = 0, suspect: int = 0, same: int = 0) -> None:
        self.deaths, self._suspect, self._same = deaths, suspect, same

    @property
    def careful(self) -> bool:
        """Whether at most `part` messages are to be taken at once: processes have died over and over in the same."""
        return self.deaths >= _CAREFUL_DEATHS

    @property
    def condemned(self) -> int:
        """The digest of the message that ended the processes before this one; 0 where none is found."""
        enough = _SAME_DEATHS if self.deaths < _CAREFUL_DEATHS + 2 else _SAME_DEATHS - 1
        return self._suspect if self._same >= enough else 0

    @contextmanager
    def batch(self, batch: Batch) -> Iterator[None]:
        """Take a batch from the source, as far as its commit; news alone end all suspicion."""
        if len(batch) and not batch.dup.any():
            self._begin()
        with self._at(_BATCH, batch, -1):
            yield
        self._unproven -= len(batch)
        if self._unproven <= 0:  # all that the last process died in was taken: its death was none of theirs
            self._begin()

    @contextmanager
    def journalled(self, batch: Batch, row: int) -> Iterator[None]:
        """Fold a row of the journal, or a part of one."""
        with self._at(_ROW, batch, row):
            yield

    @property
    def folding(self) -> bool:
        """Whether it was the journal that the last process died in, and it is not folded yet."""
        return self.row >= 0

    def folded(self) -> None:
        """Say that the whole journal is folded: whatever was wrong with it is over."""
        if self.folding:
            self.row = -1
            self._begin()

    def parts(self, batch: Batch, row: int) -> Iterator[Batch]:
        """Split a row in which processes died over and over; what is said of the whole goes with its first part."""
        if not self.careful or row != self.row or len(batch) <= self.part:
            yield batch
            return
        for first in range(0, len(batch), self.part):
            yield batch.only(np.arange(first, min(first + self.part, len(batch))), first=first == 0)

    @contextmanager
    def _at(self, phase: int, batch: Batch, row: int) -> Iterator[None]:
        digest = digest_of(batch, 0) if len(batch) == 1 else 0
        self._write(_Attempt(phase, len(batch), row, digest, self._suspect, self.deaths, self._same))
        yield  # where the block raises, this stays: the process will end by it
        self._write(_Attempt())

    def _write(self, record: _Attempt) -> None:
        body = _RECORD.pack(_MAGIC, *record)
        with contextlib.suppress(OSError):  # a failing disk is said by those who need it
            os.pwrite(self._file, body + _CRC.pack(zlib.crc32(body)), 0)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _decode(text: bytes) -> _Attempt:
    """The record, or one of rest where there is none or it is damaged."""
    body, crc = text[: _RECORD.size], text[_RECORD.size :]
    if len(crc) != _CRC.size or _CRC.unpack(crc) != (zlib.crc32(body),) or not body.startswith(_MAGIC):
        return _Attempt()
    return _Attempt(*_RECORD.unpack(body)[1:])
