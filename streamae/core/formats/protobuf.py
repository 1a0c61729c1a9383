"""The wire format of protocol buffers, as much of it as a message needs to be read: fields by number.

A message is a sequence of (key, value); the key is a varint, field number times eight plus wire type: 0 varint, 1 eight
bytes, 2 length and bytes, 3 and 4 begin and end of a group (obsolete, skipped), 5 four bytes. For any bytes, the only
error raised is ValueError. Specification: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "fields"]

VARINT, FIXED64, BYTES, _GROUP, _END, FIXED32 = range(6)
_NUMBER_MAX = (1 << 29) - 1
_NESTED_MAX = 100  # groups within groups


def fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (number, wire type, value) of each field in its order; fixed widths are bytes, little-endian.

    Raises ValueError where the bytes are not a message.
    """
    at, end, groups = 0, len(message), []  # type: tuple[int, int, list[int]]
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _NUMBER_MAX:
            raise ValueError(f"field number {number}")
        if kind == _GROUP:
            groups.append(number)
            if len(groups) > _NESTED_MAX:
                raise ValueError("groups nested too deep")
            continue
        if kind == _END:
            if not groups or groups.pop() != number:
                raise ValueError(f"end of a group {number} that did not begin")
            continue
        value, at = _value(message, at, kind)
        if not groups:
            yield number, kind, value
    if groups:
        raise ValueError("a group does not end")


def _value(message: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    if kind == VARINT:
        return _varint(message, at)
    if kind == BYTES:
        size, at = _varint(message, at)
    elif kind in (FIXED32, FIXED64):
        size = 4 if kind == FIXED32 else 8
    else:
        raise ValueError(f"wire type {kind}")
    if size > len(message) - at:
        raise ValueError("a field is longer than its message")
    return message[at : at + size], at + size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Read seven bits a byte, the lowest first, up to 64 of them."""
    value = shift = 0
    for byte in message[at : at + 10]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + shift // 7
    raise ValueError("a varint does not end")
