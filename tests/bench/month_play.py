"""One month of one machine, played through the core of whatever checkout stands on the path: see `tests.bench.month`.

    python -P tests/bench/month_play.py CASE SEED > run.json

It names nothing but what the checkouts of both columns have, so that an older commit plays the same month.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.decode import PayloadSpec
from streamae.core.pipeline import Group, Pipeline
from streamae.core.takeover import states
from streamae.core.topics import Template
from streamae.core.types import AlertState, Batch
from streamae.model.artifact import profile_of
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec
from streamae.training.dataset import Stream
from streamae.training.train import TrainConfig, train_streams

DAY_S, ROW_S = 86_400.0, 60.0
ROWS = 1440  # of a day
DAYS, TRAIN_DAYS, MACHINES = 30, 4, 3
START_S = 1_700_006_400.0  # a midnight
FAULT_DAYS = (18, 20, 22, 24, 26)  # each begins at ten o'clock and lasts four hours
FAULT_ROWS, FAULT_AT = 240, 600
GRACE_ROWS = 60  # after a fault, in which its alert may go on
Values = np.ndarray  # [rows, channels]


@dataclass
class Case:
    """A machine's month: how it is made of normal rows, what is done to its messages, and the fault of the end."""

    kind: str
    channels: tuple[str, ...]
    make: Callable[[np.random.Generator, int, int], Values]  # of a machine: rows of so many days
    fault: Callable[[Values], Values]
    known: bool = True
    change: Callable[[Values, int], Values] = lambda values, row: values  # from day 5 on, for good
    event_s: Callable[[np.ndarray], np.ndarray] = lambda time_s: time_s  # what the clock of the machine says
    forged_every: int = 0  # rows between two forged messages, a minute ahead
    lost_every: int = 0
    away: bool = False  # the daemon is away for half an hour of each day; channels come apart, on a grid
    true_alarm: bool = False  # a fault of two days from day 5 on
    confirmed: bool = False  # which people call real when it is over
    since: int = 0  # day from which on alarms count as false


def machine(rng: np.random.Generator, number: int, days: int) -> Values:
    """Power and temperature with a rhythm of days and a load that changes every few hours."""
    t = np.arange(days * ROWS)
    load = np.repeat(rng.uniform(0.6, 1.0, len(t) // 180 + 1), 180)[: len(t)]
    day = np.sin(2 * np.pi * t / ROWS)
    noise = rng.normal(size=(2, len(t)))
    power = (20 + 4 * number) * load * (1 + 0.1 * day) + 0.4 * noise[0]
    temp = 30 + number + 8 * _lagged(load, 30) + 2 * day + 0.25 * noise[1]
    return np.column_stack([power, temp])


def with_mode(rng: np.random.Generator, number: int, days: int) -> Values:
    """The same beside a mode in {0, 1, 2} that rests for hours."""
    rows = machine(rng, number, days)
    return np.column_stack([rows, np.repeat(rng.integers(0, 3, len(rows) // 300 + 1), 300)[: len(rows)]])


def with_setpoint(rng: np.random.Generator, number: int, days: int) -> Values:
    """The same beside a setpoint that never moves."""
    rows = machine(rng, number, days)
    return np.column_stack([rows, np.full(len(rows), 19.5)])


def tap(rng: np.random.Generator, number: int, days: int) -> Values:
    """A flow of 0, and 8 l/min now and then for some minutes."""
    flow = np.zeros(days * ROWS)
    for start in rng.integers(0, len(flow), 12 * days):
        flow[start : start + rng.integers(2, 9)] = 8 + rng.normal(0, 0.4)
    return (flow + np.abs(rng.normal(0, 0.02, len(flow))))[:, None]


def _lagged(x: np.ndarray, rows: int) -> np.ndarray:
    kernel = 0.5 ** (np.arange(8 * rows) / rows)
    return np.convolve(np.r_[np.full(8 * rows, x[0]), x], kernel / kernel.sum(), "valid")[: len(x)]


def _hotter(values: Values) -> Values:
    return values + np.array([0.0, 6.0, 0.0])[: values.shape[1]]


def _doubled(values: Values) -> Values:
    return values * np.array([2.0, 1.0, 1.0])[: values.shape[1]]


def _at_rest(values: Values, first: int) -> Values:
    return np.vstack([np.repeat(values[:1] * 0 + np.array([0.0, 21.0]), 1000, axis=0), values[1000:]])


def _fahrenheit(values: Values, first: int) -> Values:
    return np.column_stack([values[:, 0], values[:, 1] * 1.8 + 32])


def _moved(values: Values, first: int) -> Values:
    return values + np.array([0.0, -5.0])


def _set_to_21(values: Values, first: int) -> Values:
    return np.column_stack([values[:, :2], np.full(len(values), 21.0)])


def _falls_back(by_s: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda time_s: np.where(time_s >= START_S + 17 * DAY_S, time_s - by_s, time_s)


PLAIN: dict[str, Any] = {"channels": ("power", "temp"), "make": machine, "fault": _hotter}
CASES = {
    "nothing": Case("control: nothing happens", **PLAIN),
    "stranger": Case("control: a new machine", **PLAIN, known=False, since=2),
    "rest": Case("warm-up while the machine rests", **PLAIN, known=False, change=_at_rest, since=2),
    "unit": Case("°C becomes °F", **PLAIN, change=_fahrenheit, since=7),
    "moved": Case("a sensor is moved", **PLAIN, change=_moved, since=7),
    "mode": Case("few values beside others", ("power", "temp", "mode"), with_mode, _doubled, known=False, since=2),
    "setpoint": Case("a setpoint that moves once", ("power", "temp", "setpoint"), with_setpoint, _hotter, since=7,
                     change=_set_to_21),
    "tap": Case("a sensor that rests", ("flow",), tap, lambda values: np.full_like(values, 8.0)),
    "clock": Case("the clock falls back by 11 days", **PLAIN, event_s=_falls_back(1e6)),
    "summer": Case("the clock falls back by an hour", **PLAIN, event_s=_falls_back(3600.0)),
    "forged": Case("a forged stamp now and then", **PLAIN, forged_every=50),
    "gaps": Case("every third row is lost", **PLAIN, lost_every=3),
    "away": Case("the daemon's own absence", **PLAIN, away=True),
    "collapse": Case("after a true alarm of two days", **PLAIN, true_alarm=True),
    "real": Case("after one that people called real", **PLAIN, true_alarm=True, confirmed=True),
}  # fmt: skip


def trained(case: Case, seed: int) -> Any:
    """Train the default model on some days of a few machines; returns its manifest and its module."""
    rng = np.random.default_rng([seed, 1])
    time_s = START_S - DAY_S * TRAIN_DAYS + ROW_S * np.arange(TRAIN_DAYS * ROWS)
    rows = [case.make(rng, number, TRAIN_DAYS) for number in range(MACHINES)]
    names = [f"machine{number}" for number in range(MACHINES)]
    streams = [Stream(name, case.channels, time_s, values) for name, values in zip(names, rows, strict=True)]
    return train_streams(streams, seed, TrainConfig())


def group_of(case: Case, model: Any) -> Group:
    """Return the group that judges the machine: a message a row, or each channel on its own on a grid."""
    spec = DetectorSpec.from_mapping(model.manifest["network"])
    paths = {name: name for name in case.channels}
    whole = PayloadSpec("json", time="t", values=paths)
    return Group(
        name="month",
        templates=[Template.parse("plant/{m}/{channel}" if case.away else "plant/{m}")],
        payloads=[PayloadSpec("json", time="t", value="v") if case.away else whole],
        stream_template="{m}",
        profile=profile_of(model.manifest, "0" * 64),
        reconstructor=TorchReconstructor(model.scripted, spec),
        align=GridAlign(ROW_S, lateness_s=5.0, gap_max_s=3600.0) if case.away else RowAlign(),
    )


def played(case: Case, seed: int) -> dict[str, Any]:
    """Play the month, and count: alarms, hours in alarm and blind in normal time, faults that were found."""
    model = trained(case, seed)
    rng = np.random.default_rng([seed, 2])
    number = 0 if case.known else 1
    name = "machine0" if case.known else "stranger"
    values = case.make(rng, number, DAYS)
    first = 5 * ROWS if case.known else 0
    values = np.vstack([values[:first], case.change(values[first:], first)])
    faulty = np.zeros(len(values), bool)
    for day in FAULT_DAYS:
        at = slice(day * ROWS + FAULT_AT, day * ROWS + FAULT_AT + FAULT_ROWS)
        values[at], faulty[at] = case.fault(values[at]), True
    true = np.zeros(len(values), bool)
    if case.true_alarm:
        true[5 * ROWS : 7 * ROWS] = True
        values[true] = _doubled(case.fault(values[true]))
    return _counted(case, *_run(case, group_of(case, model), name, values), faulty, true)


def _run(case: Case, group: Group, name: str, values: Values) -> tuple[list[Any], np.ndarray, np.ndarray, np.ndarray]:
    """Step an hour at a time: transitions with their row, and of each hour what was not judged, and its last state."""
    pipeline = Pipeline("bench", group)
    time_s = START_S + ROW_S * np.arange(len(values))
    event_s, found = case.event_s(time_s), []
    blind, threshold = np.zeros(len(values) // 60), np.zeros(len(values) // 60)
    shown = np.zeros(len(values) // 60, np.int8)
    known = {f.name for f in fields(Batch)}
    for hour in range(0, len(values), 60):
        gone = case.away and hour % ROWS == 780  # 13:00: for half an hour nobody listens
        at = np.arange(hour + (30 if gone else 0), hour + 60)
        if case.lost_every:
            at = at[at % case.lost_every != 0]
        if gone:
            state, names = pipeline.state(), list(pipeline.streams.names)
            pipeline = Pipeline("bench", group)
            pipeline.restore(names, state)
        batch = _batch(case, name, at, time_s, event_s, values)
        if gone and "resumed" in known:
            object.__setattr__(batch, "resumed", True)
        if case.confirmed and hour == 7 * ROWS and hasattr(pipeline, "confirm"):
            for t, _ in found:
                pipeline.confirm(t.stream, t.id)
        report = pipeline.step(batch, float(batch.arrival_s[-1]))
        verdicts = report.groups["month"].verdicts
        blind[hour // 60] = 1.0 - min(1.0, np.isfinite(verdicts.score).sum() / len(at))
        found += [(t, hour) for t in report.transitions if t.rule == "anomaly"]
        shown[hour // 60], threshold[hour // 60] = states(pipeline)[0], pipeline.latest.threshold[0]
    return found, blind, shown, threshold


def _batch(case: Case, name: str, at: np.ndarray, time_s: np.ndarray, event_s: np.ndarray, values: Values) -> Batch:
    topics, payloads, arrival_s = [], [], []
    for row in at.tolist():
        said = {channel: float(f"{v:.6g}") for channel, v in zip(case.channels, values[row], strict=True)}
        if case.away:
            for offset, (channel, v) in enumerate(said.items()):
                topics.append(f"plant/{name}/{channel}".encode())
                payloads.append(json.dumps({"t": event_s[row] + offset - 5, "v": v}).encode())
                arrival_s.append(time_s[row] + offset - 5)
        else:
            topics.append(f"plant/{name}".encode())
            payloads.append(json.dumps({"t": event_s[row], **said}).encode())
            arrival_s.append(time_s[row])
            if case.forged_every and row % case.forged_every == 0:
                topics.append(f"plant/{name}".encode())
                payloads.append(json.dumps({"t": event_s[row] + 59.0, **said}).encode())
                arrival_s.append(time_s[row] + 1.0)
    return Batch(topics, payloads, np.array(arrival_s))


def _counted(
    case: Case,
    found: list[Any],
    blind: np.ndarray,
    shown: np.ndarray,
    threshold: np.ndarray,
    faulty: np.ndarray,
    true: np.ndarray,
) -> dict[str, Any]:
    """Count by hours: an alarm is false where no fault is or was just before.

    What is blind counts after the warm-up, and is unmarked where the page says ok nevertheless.
    """
    real = faulty | true
    near = np.convolve(real, np.ones(GRACE_ROWS + 1), "full")[: len(real)] > 0
    hours = near.reshape(-1, 60).any(axis=1)
    counts = np.arange(len(hours)) >= 24 * case.since
    at_hour = [hour // 60 for t, hour in found if t.state == "firing" and t.sequence == 0]
    fires, warm = shown == AlertState.FIRING, np.arange(len(hours)) >= 24
    begins = [day * 24 + FAULT_AT // 60 for day in FAULT_DAYS]
    caught = sum(any(first <= hour < first + FAULT_ROWS // 60 for hour in at_hour) for first in begins)
    return {
        "false": sum(bool(counts[hour] and not hours[hour]) for hour in at_hour),
        "alarm_h": int((fires & ~hours & counts).sum()),
        "blind_h": round(float(blind[warm].sum()), 1),
        "unmarked_h": int((warm & (blind > 0.9) & (shown == AlertState.INACTIVE)).sum()),
        "lowest": float(f"{np.nanmin(threshold[warm & ~real.reshape(-1, 60).any(axis=1)]):.3g}"),
        "found": caught,
        "faults": len(FAULT_DAYS),
    }


if __name__ == "__main__":
    print(json.dumps(played(CASES[sys.argv[1]], int(sys.argv[2]))))
