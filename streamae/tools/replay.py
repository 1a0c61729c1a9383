"""Publish recordings on a broker, with their own timestamps, as if the machines were running now.

Several series run side by side, each from its own beginning. Every message is published at QoS 1 within a bounded
window, and the end is reached only when the broker has acknowledged all of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from operator import itemgetter

from streamae.core.decode import PayloadSpec
from streamae.core.topics import Template
from streamae.history.encode import encoder_for
from streamae.history.recordings import Message, Series, series_messages
from streamae.mqtt import ConnectionOptions, Publisher, transient

__all__ = ["ReplayPace", "Replayed", "replay_messages", "replay_series"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReplayPace:
    """How fast: `speed` times the recording's own pace, None as fast as the broker takes it; and whose clock."""

    speed: float | None
    monotonic: Callable[[], float]
    sleep: Callable[[float], object]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was published and acknowledged, and how long it took."""

    messages: int
    seconds: float


def replay_series(
    connection: ConnectionOptions,
    series: Sequence[Series],
    topics: Sequence[tuple[Template, PayloadSpec]],
    *,
    pace: ReplayPace,
    labels: Mapping[str, str] | None = None,
    shift_to_s: float | None = None,
    progress: Progress | None = None,
) -> Replayed:
    """Publish series on the topics of a group; a series' name becomes its stream's last label.

    `shift_to_s` moves each series so that it begins at that time; without it the timestamps are the recording's.
    `progress(done, total)` counts rows' messages as they are published; total is 0 where it is unknown.

    :raises SeriesError: the topics cannot carry a series.
    :raises UnavailableError: the broker does not take it.
    """
    encoders = [encoder_for(topics, one.channels, labels or {}, one.name) for one in series]
    shifted = [one if shift_to_s is None else _shift(one, shift_to_s) for one in series]
    flows = [_from_zero(series_messages(one, encoder)) for one, encoder in zip(shifted, encoders, strict=True)]
    together = merge(*flows, key=itemgetter(0))
    total = sum(map(len, series))
    return _publish(connection, together, pace, total, progress)


def _shift(series: Series, start_s: float) -> Series:
    moved = series.time_s - series.time_s[0] + start_s
    return Series(series.name, series.channels, moved, series.time_text, series.values)


def replay_messages(
    connection: ConnectionOptions, messages: Iterable[Message], *, pace: ReplayPace, progress: Progress | None = None
) -> Replayed:
    """Publish recorded messages as they are.

    :raises UnavailableError: the broker does not take them.
    """
    return _publish(connection, _from_zero(messages), pace, 0, progress)


def _from_zero(messages: Iterable[Message]) -> Iterator[Message]:
    start_s: float | None = None
    for time_s, topic, payload in messages:
        start_s = time_s if start_s is None else start_s
        yield time_s - start_s, topic, payload


def _publish(
    connection: ConnectionOptions, messages: Iterable[Message], pace: ReplayPace, total: int, progress: Progress | None
) -> Replayed:
    begin_s = pace.monotonic()
    count = 0
    with Publisher(transient(connection, "replay")) as publisher:
        for count, (offset_s, topic, payload) in enumerate(messages, 1):
            if pace.speed is not None:
                wait_s = offset_s / pace.speed - (pace.monotonic() - begin_s)
                if wait_s > 0:
                    pace.sleep(wait_s)
            publisher.publish(topic.decode(errors="replace"), payload)
            if progress is not None and count % 64 == 0:
                progress(count, total)
        publisher.flush()
    if progress is not None:
        progress(count, total or count)
    return Replayed(count, pace.monotonic() - begin_s)
