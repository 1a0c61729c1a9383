"""What the API answers: one typed dictionary a thing, with the meaning of each property beside its type.

Answers are plain dictionaries at run time and nothing checks them one by one, so a long list costs no more than its
JSON. `openapi.json` and `deploy/docs/api.md` are made from these classes; tests/web/test_openapi.py holds a running
daemon against them.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, WithJsonSchema
from typing_extensions import TypedDict

from streamae.condition import Kind
from streamae.core.types import AlertState
from streamae.core.unjudged import Reason

__all__ = [
    "STREAM_STATES",
    "ChannelHistory",
    "DoneAnswer",
    "ErrorAnswer",
    "HistoryAnswer",
    "LimitAnswer",
    "ModelList",
    "ScoreHistory",
    "SpanRead",
    "StatusAnswer",
    "StreamAnswer",
    "StreamList",
    "StreamState",
    "Thresholds",
    "UnjudgedAnswer",
    "meaning",
]  # fmt: skip


def meaning(text: str) -> Any:
    """Describe the property whose type this annotates."""
    return Field(description=text)


Column = Annotated[list[float | None], meaning("One value for each time; null where there is none")]
STREAM_STATES = {state.word: state for state in AlertState}


def _state(text: str) -> str:
    word = "ok" if text == "inactive" else text.lower()  # its name until 0.1
    if word not in STREAM_STATES:
        raise ValueError("no state")
    return word


StreamState = Annotated[str, AfterValidator(_state), WithJsonSchema({"type": "string", "enum": list(STREAM_STATES)})]


class ErrorAnswer(TypedDict):
    """Why a request was refused."""

    error: Annotated[str, meaning("What is wrong, and what would be right")]


class DoneAnswer(TypedDict):
    """A change that was made."""

    done: Annotated[str, meaning("What was done: the action, `retry` or `end`")]


class ConditionAnswer(TypedDict):
    """Something that fails, until a person repairs it."""

    kind: Annotated[Kind, meaning("What fails")]
    name: Annotated[str, meaning("Of the sink, the group, the broker")]
    what: Annotated[str, meaning("The sentence for people")]
    since_s: Annotated[float, meaning("When it began")]
    reason: Annotated[str, meaning("What was said, without secrets")]
    failures: Annotated[int, meaning("How often it failed, or how many there are")]


class SinkAnswer(TypedDict):
    """How one sink is doing, by its last attempt."""

    name: Annotated[str, meaning("Its name in the configuration")]
    state: Annotated[Literal["ok", "failing"], meaning("How its last attempt went")]
    since_s: Annotated[float | None, meaning("Since when it fails; null while it does not")]
    reason: Annotated[str | None, meaning("Why, without secrets; null while it does not fail")]
    attempts: Annotated[int, meaning("Failures since then")]
    waiting: Annotated[int, meaning("Transitions not yet delivered")]
    oldest_s: Annotated[float | None, meaning("When the oldest of them was stored; null where none waits")]
    dead: Annotated[int, meaning("Transitions that it refused for good")]


class LoopStatus(TypedDict, total=False):
    """What the daemon's loop says of itself; absent until it has run for the first time."""

    connected: Annotated[bool, meaning("Whether the broker is connected, or the recording is being read")]
    subscribed: Annotated[bool, meaning("Whether the broker has granted every subscription")]
    protocol: Annotated[str, meaning("What the source speaks, such as MQTT 5; empty before it is connected")]
    error: Annotated[str, meaning("Why nothing may be coming; empty while all is well")]
    last_message_age_s: Annotated[float | None, meaning("Seconds since the last message; null before the first")]
    waiting: Annotated[int, meaning("Messages that wait to be taken")]
    writable: Annotated[bool, meaning("Whether the state directory can be written; if not, intake is paused")]
    streams: Annotated[int, meaning("How many streams are known")]
    learning: Annotated[int, meaning("How many of them still learn their scale")]
    filling: Annotated[int, meaning("How many of them fill their first window")]
    firing: Annotated[int, meaning("How much needs a person now: what follows, each counted once")]
    anomalies: Annotated[int, meaning("Streams whose score makes an alert fire")]
    sensor_faults: Annotated[int, meaning("Verdicts on sensors that stand, such as stuck, and alerts that flap")]
    quarantined: Annotated[int, meaning("Streams that the model fails on, and that are not judged")]
    unjudged: Annotated[int, meaning("Streams that are heard and yet not judged, for a reason that stays")]
    broken_models: Annotated[int, meaning("Groups whose model can judge nothing at all")]
    poison: Annotated[int, meaning("Messages that ended the process again and again, and were left out of late")]
    messages_per_s: Annotated[float, meaning("Messages taken per second, over the last second")]
    rows_per_s: Annotated[float, meaning("Rows made of them per second")]
    windows_per_s: Annotated[float, meaning("Windows scored per second")]
    dropped_per_s: Annotated[float, meaning("Messages dropped per second, for whatever reason")]
    dropped: Annotated[int, meaning("Messages dropped since the start")]
    interrupted: Annotated[int, meaning("How often a stream had to begin its window again because messages were lost")]
    thinning: Annotated[int, meaning("One window in so many is scored: 1, or more while a backlog is worked off")]
    lag_s: Annotated[
        float | None,
        meaning("Seconds from the arrival of the last batch's first message to its commit; null before one"),
    ]
    sinks: Annotated[list[SinkAnswer], meaning("How each sink is doing")]
    history_bytes: Annotated[int, meaning("Memory that the rows and scores shown here take")]
    uptime_s: Annotated[float, meaning("Seconds since the start")]


class StatusAnswer(LoopStatus):
    """The state of the daemon."""

    time_s: Annotated[float, meaning("When this state was published")]
    healthy: Annotated[bool, meaning("What /healthz says: the loop makes progress and every thread lives")]
    ready: Annotated[bool, meaning("What /readyz says: healthy, connected, and messages arrive and are stored")]
    reasons: Annotated[list[str], meaning("One sentence for each reason not to be healthy or ready")]
    conditions: Annotated[
        list[ConditionAnswer], meaning("What fails and needs a person: sinks, store, broker, models and the like")
    ]
    read_only: Annotated[bool, meaning("Whether changes are refused, since no `web.token` is set")]
    groups: Annotated[list[str], meaning("The groups of the configuration")]
    sequence: Annotated[int, meaning("Counts the states that were published")]
    alerts_version: Annotated[int, meaning("Changes when an alert or a silence does: ask for them again then")]


class UnjudgedAnswer(TypedDict):
    """Why a stream that is heard is not judged."""

    since_s: Annotated[float | None, meaning("Event time of the last window judged; null where none ever was")]
    reason: Annotated[Reason, meaning("Why")]
    words: Annotated[str, meaning("The reason in words")]


class LimitAnswer(TypedDict):
    """Which limit a stream is beyond, and so what holds its alert."""

    windows: Annotated[int, meaning("0: the score is above its threshold. Else the half-life of the average that is")]
    over: Annotated[float, meaning("How far: 1.5 is half as much again")]
    since_s: Annotated[float | None, meaning("Event time since when; null where nobody knows")]
    ends_s: Annotated[
        float, meaning("Seconds until the alert ends, if the scores are as usual from now on and rows come in time")
    ]


class StreamAnswer(TypedDict):
    """One stream as it stands now."""

    group: Annotated[str, meaning("Its group in the configuration")]
    stream: Annotated[str, meaning("Its name within the group")]
    score: Annotated[float | None, meaning("Score of the last window; null before the first")]
    threshold: Annotated[float | None, meaning("Above it a score is anomalous; null before the first window")]
    limit: NotRequired[
        Annotated[LimitAnswer, meaning("What the stream is beyond; only while its score or an average of it is")]
    ]
    unjudged: NotRequired[Annotated[UnjudgedAnswer, meaning("Why it is not judged; only while its state says so")]]
    state: Annotated[
        StreamState,
        meaning(
            "learning: what is normal is not known yet; filling: its window is not full; unjudged: it is heard and not "
            "judged, see there; else what was judged"
        ),
    ]
    worst_channel: Annotated[str | None, meaning("Channel with the largest share of the error")]
    time_s: Annotated[float | None, meaning("Event time of the last window's end")]
    learned_rows: NotRequired[Annotated[int, meaning("Rows that it has learned from; only while learning")]]
    warmup_rows: NotRequired[Annotated[int, meaning("Rows that it needs to learn from; only while learning")]]
    rows: NotRequired[Annotated[int, meaning("The rows that are there; only while learning or filling")]]
    rows_needed: NotRequired[Annotated[int, meaning("Of how many rows, until the stream is judged")]]
    eta_s: NotRequired[
        Annotated[float | None, meaning("Seconds until then, as its rows come; null where nobody knows")]
    ]
    marks: NotRequired[
        Annotated[
            list[str],
            meaning("What else is special, such as quarantined, blind or `rests: power`; only where something is"),
        ]
    ]
    spark: NotRequired[
        Annotated[
            list[int | None],
            meaning("Highest score of each of the last slots, in hundredths of the threshold, the newest last"),
        ]
    ]
    slot_s: NotRequired[Annotated[float, meaning("Length of a slot of `spark`")]]


class StreamList(TypedDict):
    """The streams asked for."""

    total: Annotated[int, meaning("How many streams match, on this page and beyond")]
    streams: Annotated[list[StreamAnswer], meaning("Those from `offset` on, at most `limit`")]


class ChannelHistory(TypedDict):
    """One channel of a stream over time, in its own units."""

    name: Annotated[str, meaning("Name of the channel")]
    target: Annotated[bool, meaning("Whether the model rebuilds it; the others are context")]
    share: Annotated[float, meaning("Its share of the error of the last window, 0 to 1")]
    values: Annotated[Column, meaning("What was measured")]
    reconstruction: Annotated[Column | None, meaning("What the model takes for normal; null for context")]
    forecast: Annotated[
        Column | None, meaning("What the model expected of the newest rows from those before them; null for context")
    ]


class ScoreHistory(TypedDict):
    """The scores of a stream over time, three columns of equal length."""

    time_s: Annotated[Column, meaning("Event time of each window's end")]
    score: Annotated[Column, meaning("Score of each window")]
    threshold: Annotated[Column, meaning("Threshold that it was held against")]


class HistoryAnswer(TypedDict):
    """Rows and scores of a stream over a time."""

    time_s: Annotated[list[float], meaning("Event time of each row; a row of nulls stands in each gap")]
    channels: Annotated[list[ChannelHistory], meaning("Each channel's columns, as long as `time_s`")]
    verdicts: Annotated[ScoreHistory, meaning("The scores, with times of their own")]
    window_rows: Annotated[int, meaning("Rows in a window of the model")]
    point_s: Annotated[
        float | None,
        meaning("Length of the parts that are each drawn as lowest and highest values; null where every row is drawn"),
    ]


class SpanRead(TypedDict):
    """How much of a span was read from the journal."""

    journal_from_s: Annotated[
        float | None, meaning("From when on the journal has the stream, event time; null where it has nothing of it")
    ]
    from_s: Annotated[float, meaning("Where the answer begins: `from_s`, or where the journal begins if that is later")]
    whole: Annotated[bool, meaning("Whether everything from there on was read; else `pieces` of it, evenly spread")]
    pieces: Annotated[int, meaning("How many pieces were read")]
    scored_every: Annotated[int, meaning("One window in so many was scored")]


class Thresholds(TypedDict):
    """Where the thresholds of a group's streams stand now."""

    lowest: Annotated[float, meaning("The lowest; 1 is as trained")]
    median: Annotated[float, meaning("The median")]
    highest: Annotated[float, meaning("The highest")]


class ModelAnswer(TypedDict):
    """A group's model: its manifest without the bulk, and what the operator decided about it."""

    group: Annotated[str, meaning("The group that it scores")]
    file: Annotated[str, meaning("Name of the model file")]
    sha256: Annotated[str, meaning("Digest of the model file")]
    format: Annotated[dict[str, Any], meaning("Kind and version of the file's format")]
    channels: Annotated[list[str], meaning("The channels that it reads, in order")]
    targets: NotRequired[Annotated[list[str], meaning("Those of them that it rebuilds and scores")]]
    context: NotRequired[Annotated[list[str], meaning("Those of them that it only reads")]]
    calendar: NotRequired[Annotated[dict[str, Any], meaning("What of clock and calendar it reads beside the channels")]]
    network: Annotated[dict[str, Any], meaning("The network's parts and sizes, as trained")]
    features: NotRequired[Annotated[list[str], meaning("The errors that the score is made of, as `kind:channel`")]]
    period_s: Annotated[float, meaning("Seconds from row to row")]
    gap_max_s: Annotated[float, meaning("A longer gap ends a window")]
    warmup_rows: Annotated[int, meaning("Rows that a new stream learns its scale from")]
    streams: Annotated[list[str], meaning("The streams that it was trained on")]
    calibration: Annotated[dict[str, str | float], meaning("The calibration's single values, by name")]
    training: NotRequired[
        Annotated[dict[str, Any], meaning("How the training went: seed, rows, windows, losses, recipe and duration")]
    ]
    versions: NotRequired[Annotated[dict[str, str], meaning("Versions of the software that trained it")]]
    false_alarms_per_s: Annotated[float | None, meaning("False alarms allowed per second and stream")]
    thresholds: Annotated[Thresholds | None, meaning("Of the streams that are judged now; null where none is")]


class ModelList(TypedDict):
    """The models in use."""

    models: Annotated[list[ModelAnswer], meaning("One for each group")]
