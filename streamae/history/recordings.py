r"""Recordings of messages, as JSON lines.

A line is `{"time_s": 1714564800.25, "topic": "plant/a/p1", "payload": "{\"flow\": 3.2}"}`; a payload that is not
UTF-8 stands as base64 under `payload_b64`. `arrival_s` of a message that is read back is the recorded time, so the
pipeline runs as it did then, however fast the file is read. Series (see series.py) become messages by `encode.py`.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from streamae.core.types import Batch
from streamae.errors import SeriesError
from streamae.history.encode import MessageEncoder
from streamae.history.series import Series, open_text, read_series, write_series

__all__ = [
    "Message",
    "Series",
    "message_line",
    "read_batches",
    "read_series",
    "scan_messages",
    "series_messages",
    "write_series",
]

Message = tuple[float, bytes, bytes]  # time_s, topic, payload


def message_line(time_s: float, topic: bytes, payload: bytes) -> str:
    """Return one message as a line of a recording, with its line end."""
    record: dict[str, Any] = {"time_s": time_s, "topic": topic.decode(errors="replace")}
    try:
        record["payload"] = payload.decode()
    except UnicodeDecodeError:
        record["payload_b64"] = base64.b64encode(payload).decode()
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def scan_messages(path: Path | str) -> Iterator[Message]:
    """Read a recording line by line, in bounded memory.

    :raises SeriesError: with file, line, what is wrong there, and the remedy.
    """
    path = Path(path)
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _parse(path, number, line)


def _parse(path: Path, number: int, line: str) -> Message:
    try:
        record = json.loads(line)
        raw = record.get("payload_b64")
        payload = base64.b64decode(raw, validate=True) if raw is not None else record["payload"].encode()
        return float(record["time_s"]), record["topic"].encode(), payload
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        shape = '{"time_s": …, "topic": …, "payload": …} or with "payload_b64"'
        cause = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise SeriesError(f"{path}:{number}: {cause}; a line of a recording is {shape}") from error


def read_batches(path: Path | str, size: int = 4096) -> Iterator[Batch]:
    """Read a recording in batches, in bounded memory.

    :raises SeriesError: see `scan_messages`.
    """
    messages = scan_messages(path)
    while part := list(islice(messages, size)):
        yield _batch(part)


def _batch(messages: Sequence[Message]) -> Batch:
    return Batch(
        topics=[topic for _, topic, _ in messages],
        payloads=[payload for _, _, payload in messages],
        arrival_s=np.array([time_s for time_s, _, _ in messages], np.float64),
        mid=np.zeros(len(messages), np.int32),
        dup=np.zeros(len(messages), np.bool_),
        epoch=1,
    )


def series_messages(series: Series, encoder: MessageEncoder) -> Iterator[Message]:
    """Turn a series into the messages that would have carried it, each arriving at its row's time."""
    for time_s, row in zip(series.time_s.tolist(), series.values.tolist(), strict=True):
        for topic, payload in encoder.encode(time_s, row):
            yield time_s, topic.encode(), payload.encode()
