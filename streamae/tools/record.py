"""Write what a broker carries to a file of JSON lines, to be replayed, trained on or shown to others."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from streamae.errors import SeriesError
from streamae.history.recordings import message_line
from streamae.history.series import open_text
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Subscription, transient

__all__ = ["Existing", "record"]

_END_S = 0.5  # for the connection to end; it has nothing left to say
Existing = Literal["refuse", "append", "overwrite"]  # what to do with a file that holds something already


def record(
    connection: ConnectionOptions,
    filters: Sequence[str],
    path: Path,
    *,
    now: Callable[[], float],
    monotonic: Callable[[], float],
    jitter: Callable[[], float],
    duration_s: float | None = None,
    messages_max: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] | None = None,
    retained: bool = False,
    existing: Existing = "overwrite",
) -> int:
    """Record until `duration_s` or `messages_max` is reached or `stopped()`; return the number of messages.

    Recording goes on through reconnects. The file is gzipped where its name ends in .gz. Messages are acknowledged
    once they are in the file's buffer. `progress(count)` is called several times a second, also while nothing comes.

    :raises SeriesError: the file cannot be written, or exists and `existing` says to refuse that.
    :raises UnavailableError: another client took the session over.
    """
    written = path.exists() and path.stat().st_size > 0
    if written and existing == "refuse":
        raise SeriesError(f"{path}: exists already; give another name, or --append to go on with it, or --overwrite")
    subscriptions = [Subscription(one, retained=retained) for one in filters]
    source = MqttSource(
        transient(connection, "record"), subscriptions, ReceiveLimits(), now=now, monotonic=monotonic, jitter=jitter
    )
    count, end_s = 0, None if duration_s is None else monotonic() + duration_s
    source.start()
    try:
        with open_text(path, "a" if written and existing == "append" else "w") as file:
            while not stopped() and (end_s is None or monotonic() < end_s):
                room = 4096 if messages_max is None else min(4096, messages_max - count)
                if room <= 0:
                    break
                accepted = source.take(room, 0.2)
                batch = accepted.batch
                lines = zip(batch.arrival_s.tolist(), batch.topics, batch.payloads, strict=True)
                file.writelines(message_line(*line) for line in lines)
                source.ack(accepted)
                count += len(batch)
                if progress is not None:
                    progress(count)
    finally:
        source.close(_END_S)
    return count
