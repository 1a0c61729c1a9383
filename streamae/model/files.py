"""Reading a file that somebody else may have put there: regular files only, up to a bound, never waiting."""

import os
import stat
from pathlib import Path

__all__ = ["read_regular"]


def read_regular(path: Path, bytes_max: int) -> bytes | None:
    """Return the content of a file; None where it has more than `bytes_max`.

    Raises OSError where it cannot be read, and where it is no regular file: a pipe would let the reader wait for ever
    and a device would never end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        mode, size = os.fstat(handle).st_mode, os.fstat(handle).st_size
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(0, "it is a folder", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(0, "it is a pipe or a device, not a file", str(path))
        content = file.read(min(size, bytes_max) + 1)  # takes memory for as much as it is asked for
    return None if len(content) > bytes_max else content
