"""What the API answers about alerts, and about what people, sinks and the daemon have left behind."""

from typing import Annotated, Literal

from typing_extensions import TypedDict

from streamae.web.answers import HistoryAnswer, SpanRead, StreamAnswer, meaning

__all__ = [
    "AlertList", "AlertStates", "DeadLetterList", "FeedbackList", "PastAnswer", "PoisonList", "SilenceAnswer",
    "SilenceList", "SilenceStates", "StreamDetailAnswer",
]  # fmt: skip

AlertStates = Literal["firing", "resolved"]
SilenceStates = Literal["pending", "active", "expired"]
_PATTERN = "* any text, ? one character, [ab] one of these"


class SilenceAnswer(TypedDict):
    """A silence: alerts that it names are stored and shown, and no sink is notified while it lasts."""

    id: Annotated[int, meaning("Its number")]
    state: Annotated[SilenceStates, meaning("Whether it is still to come, lasts, or is over")]
    group: Annotated[str, meaning(f"Groups that it names: {_PATTERN}")]
    stream: Annotated[str, meaning(f"Streams that it names: {_PATTERN}")]
    rule: Annotated[str, meaning(f"Rules that it names: {_PATTERN}")]
    labels: Annotated[dict[str, str], meaning("Labels that a stream must have")]
    starts_s: Annotated[float, meaning("When it begins")]
    ends_s: Annotated[float, meaning("When it ends")]
    created_s: Annotated[float, meaning("When it was made")]
    created_by: Annotated[str, meaning("Who asked for it")]
    comment: Annotated[str, meaning("Why")]
    maintenance: Annotated[str, meaning("The window of `maintenance:` that it stands for; empty where people asked")]
    plan: Annotated[str, meaning("Which time of that window; empty where no plan wants it any more")]


class SilenceNumber(TypedDict):
    """A silence that is no longer kept."""

    id: Annotated[int, meaning("Its number")]


class AlertAnswer(TypedDict):
    """One alert as it stands."""

    id: Annotated[str, meaning("Its id, the same after a replay and on another machine")]
    sequence: Annotated[int, meaning("Number of its last transition")]
    instance: Annotated[str, meaning("The instance of the configuration")]
    group: Annotated[str, meaning("Group of the stream")]
    stream: Annotated[str, meaning("The stream")]
    labels: Annotated[dict[str, str], meaning("Labels of the stream, read from its name")]
    rule: Annotated[str, meaning("`anomaly`, or the verdict on a sensor, such as `stale` or `stuck`")]
    state: Annotated[AlertStates, meaning("Whether it lasts")]
    severity: Annotated[str, meaning("`warning` or `critical`")]
    onset_s: Annotated[float, meaning("When the anomaly began, event time")]
    opened_s: Annotated[float, meaning("When the alert began to fire, event time")]
    closed_s: Annotated[float | None, meaning("When it was resolved, event time; null while it fires")]
    time_s: Annotated[float, meaning("Event time of its last transition")]
    window_start_s: Annotated[float, meaning("Event time of the first row of the window of that transition")]
    score: Annotated[float | None, meaning("Score at its last transition; of a verdict on a sensor, what it measured")]
    threshold: Annotated[float | None, meaning("Threshold at its last transition; of a sensor, its limit")]
    limit: Annotated[
        str, meaning("Which limit it was beyond at its last transition, if not the threshold of the score; else empty")
    ]
    peak_score: Annotated[float | None, meaning("Highest score since it began")]
    shares: Annotated[
        dict[str, float], meaning("Each channel's share of the error; of a resolved alert, when it began")
    ]
    worst_channel: Annotated[str, meaning("Channel with the largest share; empty where there is none")]
    model_digest: Annotated[str, meaning("Digest of the model that scored it")]
    repeat: Annotated[int, meaning("How often sinks that want to be reminded have been; 0 is the first notice")]
    acknowledged_s: Annotated[float | None, meaning("When somebody acknowledged it")]
    acknowledged_by: Annotated[str | None, meaning("From where: `page`")]
    note: Annotated[str | None, meaning("What was written with the acknowledgement or the feedback")]
    feedback: Annotated[str | None, meaning("What it turned out to be, `false-alarm` or `real`")]
    silence: Annotated[
        SilenceAnswer | SilenceNumber | None,
        meaning("The silence that it is under, or because of which no sink was notified; of an old one, its number"),
    ]


class AlertList(TypedDict):
    """The alerts asked for."""

    alerts: Annotated[list[AlertAnswer], meaning("The most recently changed first")]


class StreamDetailAnswer(StreamAnswer):
    """One stream in detail."""

    labels: Annotated[dict[str, str], meaning("Its labels, read from its name")]
    history: Annotated[HistoryAnswer, meaning("Its last rows and scores")]
    alerts: Annotated[list[AlertAnswer], meaning("Its last alerts, 100 at most")]
    silence: Annotated[SilenceAnswer | None, meaning("The active silence of it that lasts longest")]


class PastAnswer(TypedDict):
    """One stream in a span of its past."""

    group: Annotated[str, meaning("Its group")]
    stream: Annotated[str, meaning("Its name")]
    history: Annotated[HistoryAnswer, meaning("Its rows and scores then")]
    read: Annotated[SpanRead, meaning("How much of the span was read")]
    alerts: Annotated[list[AlertAnswer], meaning("Its alerts that were open within the span")]


class FeedbackAnswer(TypedDict):
    """What somebody said that an alert turned out to be."""

    alert: Annotated[str, meaning("Id of the alert")]
    group: Annotated[str, meaning("Group of its stream")]
    stream: Annotated[str, meaning("Its stream")]
    rule: Annotated[str, meaning("Its rule")]
    verdict: Annotated[str, meaning("What it turned out to be, `false-alarm` or `real`")]
    from_s: Annotated[float, meaning("First row of the window that fired, event time")]
    to_s: Annotated[float | None, meaning("End of the alert, event time; null while it fires")]
    note: Annotated[str | None, meaning("What was written with it")]
    said_s: Annotated[float, meaning("When it was given")]


class FeedbackList(TypedDict):
    """The feedback asked for."""

    feedback: Annotated[list[FeedbackAnswer], meaning("The newest first")]


class DeadLetterAnswer(TypedDict):
    """A notice that a sink refused for good."""

    sink: Annotated[str, meaning("Name of the sink")]
    alert: Annotated[str, meaning("Id of the alert")]
    key: Annotated[str, meaning("Idempotency key of the notice")]
    error: Annotated[str, meaning("Why it was refused")]


class DeadLetterList(TypedDict):
    """The dead letters asked for."""

    dead_letters: Annotated[list[DeadLetterAnswer], meaning("Sink by sink, the newest first")]


class PoisonAnswer(TypedDict):
    """A message that ended the process again and again, and was left out."""

    topic: Annotated[str, meaning("Its topic; bytes that are not UTF-8 as \\xNN")]
    payload: Annotated[str, meaning("The beginning of its payload; bytes that are not UTF-8 as \\xNN")]
    bytes: Annotated[int, meaning("Length of the whole payload")]
    found_s: Annotated[float, meaning("When it was found")]
    times: Annotated[int, meaning("How often it was left out")]
    origin: Annotated[Literal["broker", "journal"], meaning("Where it came from")]


class PoisonList(TypedDict):
    """The messages asked for."""

    poison: Annotated[list[PoisonAnswer], meaning("The newest first")]


class SilenceList(TypedDict):
    """The silences asked for."""

    silences: Annotated[list[SilenceAnswer], meaning("Those that end last first")]
