"""One daemon per state directory: an advisory lock that dies with its process.

`flock(2)` belongs to the open file, so the kernel lets go of it at `kill -9` too; the file stays, with the pid of
whoever held it last, and is no sign of a holder by itself.
"""

import fcntl
import os
import stat
from pathlib import Path

from streamae.errors import StoreError

__all__ = ["StateLock", "cautions"]


class StateLock:
    """The lock on one state directory; taken at construction, or StoreError names the pid that has it."""

    def __init__(self, directory: Path) -> None:
        path = directory / "lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror}); give this user the directory") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise StoreError(
                f"{directory}: in use by the process with pid {holder}; stop it, or give this one another state dir"
            ) from error
        # The pid is a courtesy to the next one who asks; a full disk must not keep us from holding the lock.
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def cautions(directory: Path, file: Path) -> list[str]:
    """Return, in sentences, who else could change the state, and where it lies if not where it seems to."""
    found = []
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        found.append(f"{directory} can be changed by other users (mode {mode:o}): chmod 700 it")
    if file.is_symlink():
        found.append(f"{file} is a link: the state is kept in {file.resolve()}")
    return found
