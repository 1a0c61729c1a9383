"""What the tests of store and sinks share: batches, reports, transitions, and a clock that obeys."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamae.core.report import Report, Transition
from streamae.core.types import Batch, Drops
from streamae.store.alerts import decode_transition
from streamae.store.store import Store


class Clock:
    """A clock that stands still until it is set going."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def transition(
    number: int = 0, sequence: int = 1, state: str = "firing", *, stream: str | None = None, **changes: object
) -> Transition:
    """A transition of alert `number`; the same arguments give equal transitions."""
    fields: dict[str, object] = {
        "id": f"{number:016x}",
        "sequence": sequence,
        "instance": "plant-1",
        "group": "pumps",
        "stream": stream if stream is not None else f"north/p{number}",
        "labels": {"line": "north", "pump": f"p{number}"},
        "rule": "model",
        "state": state,
        "severity": "warning",
        "onset_s": 1_700_000_000.0 + number,
        "time_s": 1_700_000_000.1 + number + sequence,
        "window_start_s": 1_699_999_990.0,
        "score": 2.5,
        "threshold": 1.0,
        "shares": {"pressure": 0.7, "flow": 0.3},
        "model_digest": "sha256:0",
    }
    return Transition(**(fields | changes))


def batch(messages: Sequence[tuple[str, str]], *, first_mid: int = 0, dup: bool = False, epoch: int = 1) -> Batch:
    """A batch of (topic, payload); packet ids count from `first_mid`, or are 0."""
    n = len(messages)
    mid = np.arange(first_mid, first_mid + n, dtype=np.int32) if first_mid else np.zeros(n, np.int32)
    return Batch(
        [topic.encode() for topic, _ in messages],
        [payload.encode() for _, payload in messages],
        np.arange(n, dtype=np.float64),
        mid,
        np.full(n, dup),
        epoch,
    )


def numbered(number: int, n: int = 3, *, first_mid: int = 0) -> Batch:
    """A batch that differs from any other."""
    return batch([(f"plant/p{i}/pressure", f"{number}.{i}") for i in range(n)], first_mid=first_mid)


def report(*transitions: Transition, rows: int = 1) -> Report:
    """A report with these transitions."""
    return Report(rows, rows, 0, Drops(), {}, transitions)


def text_of(batch: Batch) -> tuple[tuple[bytes, bytes], ...]:
    """A batch's messages as something that can be compared."""
    return tuple(zip(batch.topics, batch.payloads, strict=True))


def opened(folder: Path, durability: str = "process", **options: object) -> Store:
    return Store.open(folder, durability, Clock(), **options)


def timeline(store: Store, alert: str) -> list[Transition]:
    """The transitions of an alert as the file has them, in order."""
    with store._database.read() as connection:
        rows = connection.execute("SELECT body, crc FROM transition WHERE alert = ? ORDER BY seq", (alert,)).fetchall()
    return [decode_transition(*row) for row in rows]


def crash(store: Store) -> None:
    """End as `kill -9` would: nothing is said, the kernel closes the files."""
    store._abandon()


def folded(store: Store, skip: int = 0) -> tuple[bytes | None, list[tuple[tuple, float]]]:
    recovery = store.recover(skip)
    return recovery.snapshot, [(text_of(b), now_s) for b, now_s in recovery.journal]
