"""Through a real broker: a publisher's process, mosquitto, and one subscriber's process a run, by turns.

What is compared is the CPU time of the subscriber's process from its first message to its last; broker and publisher
are the same for all. Messages come at a steady rate, JSON with time and value, from 1,000 streams.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from streamae.bench.models import noise, scripted, spec_named
from streamae.bench.rounds import BenchTable, Line, Timing, timed
from streamae.errors import UnavailableError
from streamae.ingest.mqtt import auto_batch_wait_s
from streamae.model.runtime import TorchReconstructor
from streamae.stopping import child
from streamae.tools.broker import Broker, find_mosquitto

__all__ = ["end_to_end", "ingest", "latency"]

Work = tuple[float, Callable[[], object]]  # units that it does, and itself
_STREAMS = 1000
_PLAN = {
    "mode": "ours", "qos": 0, "journal": False, "stride": 1_000_000_000, "model": "lstm64", "executor": "auto",
    "streams": _STREAMS, "latency": False, "batch_wait_s": auto_batch_wait_s(1),
}  # fmt: skip


class _Child:
    """A process of this package that says "ready", and at its end one line of JSON."""

    def __init__(self, module: str, plan: dict[str, Any]) -> None:
        command = [sys.executable, "-m", f"streamae.bench.{module}", json.dumps(plan)]
        self.process = child(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))  # noqa: S603
        self._expect("ready")

    def _expect(self, word: str) -> None:
        line = self._line()
        if line != word:
            self.process.kill()
            raise UnavailableError(f"a benchmark's process ended before it was ready: {line!r}; its words stand above")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def result(self) -> dict[str, Any]:
        """Wait for its end."""
        line = self._line()
        self.process.wait(60)
        if not line.startswith("{"):
            raise UnavailableError("a benchmark's process ended without a result; its words stand above")
        found: dict[str, Any] = json.loads(line)
        return found


def _publish(port: int, qos: int, messages: int, per_s: float) -> None:
    plan = {"port": port, "qos": qos, "messages": messages, "per_s": per_s, "streams": _STREAMS}
    command = [sys.executable, "-m", "streamae.bench.publisher", json.dumps(plan)]
    subprocess.run(command, check=True, timeout=300)  # noqa: S603


def _run(broker: Broker, plan: dict[str, Any], per_s: float) -> dict[str, Any]:
    child = _Child("subscriber", {**_PLAN, **plan, "port": broker.port})
    try:
        _publish(broker.port, plan.get("qos", 0), plan["messages"], per_s)
        return child.result()
    finally:
        child.process.kill()


def _rounds(
    plans: dict[str, dict[str, Any]], rounds: int, per_s: float, aside: dict[str, Work] | None = None
) -> dict[str, Timing]:
    """Play every plan once a round, each through the broker; what stands `aside` runs in this process, in its turn."""
    if find_mosquitto() is None:
        raise UnavailableError("mosquitto is not installed; apt-get install mosquitto, or leave this benchmark out")
    here, names = aside or {}, [*plans, *(aside or {})]
    found: dict[str, Timing] = {}
    with Broker(monotonic=time.monotonic, sleep=time.sleep, kind="mosquitto") as broker:
        for n in range(rounds):
            for name in names if n % 2 == 0 else names[::-1]:
                if name in here:
                    units, work = here[name]
                    found.setdefault(name, Timing(units)).note(*timed(work))
                    continue
                result = _run(broker, plans[name], plans[name].get("per_s", per_s))
                _check_work(name, plans[name], result)
                found.setdefault(name, Timing(result["messages"])).note(result["cpu_s"], result["wall_s"])
    return {name: found[name] for name in names}


def _check_work(name: str, plan: dict[str, Any], result: dict[str, Any]) -> None:
    """Raise UnavailableError where less came or was scored than the plan says: the figure would be of other work."""
    if result["messages"] < plan["messages"]:
        raise UnavailableError(f"{name}: {result['messages']} messages came of {plan['messages']}; nothing is compared")
    wanted = result["messages"] // plan["stride"] if plan.get("stride") else 0
    if result["windows"] < 0.99 * wanted:
        raise UnavailableError(f"{name}: {result['windows']} windows were scored of {wanted}; nothing is compared")


def _line(name: str, timing: Timing, base: Timing, goal: str = "", limit: float | None = None) -> Line:
    ratio = base.faster_than(timing)
    figures: dict[str, float | str] = {"CPU, x of no-op paho": ratio, "CPU, us a message": timing.cpu_us}
    figures |= {"wall, us a message": timing.wall_us, "spread": timing.spread}
    return Line(name, figures, goal, None if limit is None else ratio <= limit)


def ingest(rounds: int, quick: bool) -> BenchTable:
    """Receive, parse and keep rows, nothing scored, against a paho callback that does nothing."""
    messages = 10_000 if quick else 40_000
    section = BenchTable("ingest", f"{messages} messages at 10,000/s, {_STREAMS} streams; every row into its ring.")
    for qos, limit in ((0, 0.2), (1, 0.3)):
        took = _rounds(
            {
                "no-op paho": {"mode": "noop", "qos": qos, "messages": messages},
                "streamae": {"qos": qos, "messages": messages},
                "streamae, journal on": {"qos": qos, "messages": messages, "journal": True},
            },
            rounds,
            10_000,
        )
        base = took["no-op paho"]
        section.lines.append(_line(f"QoS {qos}: no-op paho", base, base))
        section.lines.append(_line(f"QoS {qos}: streamae", took["streamae"], base, f"<= {limit}x", limit))
        journalled = _line(f"QoS {qos}: streamae, journal on", took["streamae, journal on"], base)
        own_us = took["streamae, journal on"].cpu_us - took["streamae"].cpu_us
        journalled.figures["of it the journal, us"] = own_us
        section.lines.append(journalled)
    return section


def end_to_end(rounds: int, quick: bool) -> BenchTable:
    """Every row, and every 8th, scored through the broker, against the executor, no-op paho, and the tutorial's way.

    At half the rate a batch holds half the rows, and what a batch costs by itself weighs more: that line is beside it.
    """
    messages, few = (10_000, 1_000) if quick else (40_000, 2_000)
    section = BenchTable(
        "end to end",
        "lstm64, QoS 0, 10,000 rows/s, 1,000 streams; batches fill as long as they do by default (50 ms, and for every "
        "8th row 200 ms); the eager way at its own pace.",
    )
    pure, patient = {"executor": "batch"}, {"batch_wait_s": auto_batch_wait_s(8)}
    plans: dict[str, dict[str, Any]] = {
        "no-op paho": {"mode": "noop", "messages": messages},
        "every row": {"stride": 1, "messages": messages},
        "every row, 5,000 rows/s": {"stride": 1, "messages": messages, "per_s": 5_000},
        "every 8th row": {"stride": 8, "messages": messages} | patient,
        "every row, pure TorchScript": {"stride": 1, "messages": messages} | pure,
        "every 8th row, pure TorchScript": {"stride": 8, "messages": messages} | pure | patient,
        "one eager call a window": {"mode": "eager", "messages": few},
    }
    spec = spec_named("lstm64")
    runner, x = TorchReconstructor(scripted(spec), spec), noise(spec, 1024)
    runner.errors(x)  # not counted: caches
    took = _rounds(plans, rounds, 10_000, {"executor alone": (len(x), lambda: runner.errors(x))})
    base, eager, alone = (took.pop(name) for name in ("no-op paho", "one eager call a window", "executor alone"))
    section.lines += [_line("no-op paho", base, base), _line("one eager call a window", eager, base)]
    for name, timing in took.items():
        line, against_eager = _line(name, timing, base), timing.faster_than(eager)
        line.figures["eager over it, x"] = against_eager
        _judge(line, name, against_eager, runner.executor)
        section.lines.append(line)
    share = took["every row"].faster_than(alone)
    about: dict[str, float | str] = {"CPU, us a message": alone.cpu_us, "spread": alone.spread, "of every row": share}
    section.lines.append(Line(f"executor alone, {runner.executor}, 1,024 at once", about, ">= .85", share >= 0.85))
    return section


def _judge(line: Line, name: str, against_eager: float, executor: str) -> None:
    """Hold a line against the goals that the issue sets it."""
    pure = "pure" in name or executor != "native"
    ratio = float(line.figures["CPU, x of no-op paho"])
    if "8th" in name:
        limit = 0.6 if pure else 0.5
        line.goal, line.met = f"<= {limit}x paho, eager >= 40x", ratio <= limit and against_eager >= 40
    else:
        wanted = 7 if pure else 12
        line.goal, line.met = f"eager >= {wanted}x", against_eager >= wanted


def latency(quick: bool) -> BenchTable:
    """From publishing to the score, beside a subscriber that does nothing, in one run."""
    section = BenchTable(
        "latency",
        "Publish to score, default model of one channel, every row scored, beside a no-op subscriber (publish to "
        "callback) that runs at the same time; the batch deadline (inbox.batch_wait) is in it.",
    )
    for per_s in (1_000, 5_000):
        for wait_s in (0.05, 0.005):
            messages = per_s * (5 if quick else 15)
            plan = {"model": "default", "stride": 1, "latency": True, "messages": messages, "batch_wait_s": wait_s}
            with Broker(monotonic=time.monotonic, sleep=time.sleep, kind="mosquitto") as broker:
                children = [
                    _Child("subscriber", {**_PLAN, **plan, "port": broker.port, "mode": mode})
                    for mode in ("noop", "ours")
                ]
                _publish(broker.port, 0, messages, per_s)
                noop, ours = (child.result() for child in children)
            figures: dict[str, float | str] = {
                "p50, ms": 1e3 * ours["p50_s"], "p99, ms": 1e3 * ours["p99_s"],
                "no-op p50, ms": 1e3 * noop["p50_s"], "no-op p99, ms": 1e3 * noop["p99_s"],
            }  # fmt: skip
            met = bool(ours["p99_s"] < 3 * noop["p99_s"] + wait_s) if per_s == 1_000 else None
            goal = "p99 < 3x no-op + deadline" if per_s == 1_000 else ""
            section.lines.append(Line(f"{per_s:,} rows/s, deadline {1e3 * wait_s:g} ms", figures, goal, met))
    return section
