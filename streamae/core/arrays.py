"""State of many streams in arrays `[S, ...]`: room for more of them, runs in a sorted column, and rounds of a batch."""

import math
import mmap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["firsts", "grown", "rounds", "without"]

_G = TypeVar("_G", bound=np.generic)
_ROOM_MIN = 16
_LARGE_BYTES = 1 << 18


def grown(array: npt.NDArray[_G], streams: int, fill: "float | npt.NDArray[Any]") -> npt.NDArray[_G]:
    """Return per-stream state `[S, ...]` for at least so many streams, the new ones filled with `fill`.

    The result is the front of a buffer with room for twice as many, of which the rest is not touched: the system gives
    memory to what is touched only. Growing within the room moves nothing, and then the old array is a part of the new.
    """
    have = len(array)
    if streams <= have:
        return array
    room = array.base
    if not isinstance(room, np.ndarray) or len(room) < streams or not _is_front(array, room):
        room = _untouched((max(streams, 2 * have, _ROOM_MIN), *array.shape[1:]), array.dtype)
        room[:have] = array
    room[have:streams] = fill
    more: npt.NDArray[_G] = room[:streams]
    return more


def without(array: npt.NDArray[_G], stream: int) -> npt.NDArray[_G]:
    """Return per-stream state `[S, ...]` less one stream, whose number the last one takes; changes `array`."""
    array[stream] = array[-1]
    fewer: npt.NDArray[_G] = array[:-1]
    return fewer


def _untouched(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an array of which no page is in use yet; a large one goes back to the system whole when it is outgrown.

    The allocator would keep its pieces, and NumPy would ask for huge pages, of which the first byte touches all.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE_BYTES:
        return np.empty(shape, dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.ndarray(shape, dtype, pages)


def _is_front(array: npt.NDArray[Any], room: npt.NDArray[Any]) -> bool:
    kind = (array.shape[1:], array.strides, array.dtype, array.ctypes.data)
    return kind == (room.shape[1:], room.strides, room.dtype, room.ctypes.data)


def firsts(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where the entries of columns `[N]` differ from those before them: a run of equal ones begins there."""
    found = np.ones(len(columns[0]), np.bool_)
    np.not_equal(columns[0][1:], columns[0][:-1], out=found[1:])
    for column in columns[1:]:
        found[1:] |= column[1:] != column[:-1]
    return found


def rounds(stream: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Split positions 0..N-1 into rounds in which every stream occurs at most once, keeping each stream's order.

    Later stages then need no care for several rows of one stream in one batch: they scatter and gather by stream.
    """
    n = len(stream)
    if n == 0:
        return
    order = np.argsort(stream, kind="stable")
    first = firsts(stream[order])
    if first.all():
        yield np.arange(n)
        return
    rank = np.arange(n) - np.maximum.accumulate(np.where(first, np.arange(n), 0))
    by_rank = np.lexsort((order, rank))
    bounds = [*np.flatnonzero(firsts(rank[by_rank])).tolist(), n]
    for a, b in pairwise(bounds):
        yield order[by_rank[a:b]]
