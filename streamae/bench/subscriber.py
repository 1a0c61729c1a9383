"""One subscriber in a process of its own, whose CPU time is then its own: `python -m streamae.bench.subscriber JSON`.

It prints "ready" when it is subscribed and warm, runs until `messages` have come, and prints what it used from the
first of them to the last; for the product, which reads ahead of the loop, from before the first. Modes: `noop` is paho
with a callback that counts; `eager` is paho with one eager call for each window; `ours` is the product's source and
pipeline, with `journal` the store, with `stride` every so many rows.
"""

import json
import os
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamae.core.types import Rows

__all__ = ["main"]

_IDLE_S = 30.0


class _Meter:
    """CPU and wall seconds of all messages, from the first to the last, and how old each was when it was done with."""

    def __init__(self, messages: int) -> None:
        self.messages, self.count, self.windows = messages, 0, 0
        self.cpu_s = self.wall_s = self.last_s = 0.0
        self.ages_s: list[float] = []

    def begin(self) -> None:
        if not self.count:
            self.cpu_s, self.wall_s = self.cpu_s or time.process_time(), time.monotonic()

    def ready(self) -> None:
        """Count CPU time from now on, before the first message: what reads ahead of its user must not gain by it."""
        self.cpu_s = time.process_time()

    def done(self, count: int) -> None:
        self.count += count
        self.last_s = time.monotonic()

    def result(self) -> dict[str, Any]:
        used = {"cpu_s": time.process_time() - self.cpu_s, "wall_s": time.monotonic() - self.wall_s}
        ages = np.percentile(self.ages_s, [50, 99]).tolist() if self.ages_s else [0.0, 0.0]
        return {**used, "messages": self.count, "windows": self.windows, "p50_s": ages[0], "p99_s": ages[1]}


def _paho(plan: dict[str, Any], meter: _Meter) -> None:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    act = _eager(plan) if plan["mode"] == "eager" else None

    def on_message(client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        meter.begin()
        if act is not None:
            act(message.topic, message.payload)
        if plan["latency"]:
            meter.ages_s.append(time.time() - json.loads(message.payload)["t"])
        meter.done(1)
        if meter.count >= plan["messages"]:
            client.disconnect()

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)

    def on_connect(client: paho.Client, *_: Any) -> None:
        client.subscribe("b/#", plan["qos"])

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: print("ready", flush=True)  # noqa: T201  this is how the parent hears
    client.on_message = on_message
    client.connect("127.0.0.1", plan["port"])
    client.loop_forever()


def _eager(plan: dict[str, Any]) -> Any:
    """The tutorial's way: a deque for each topic, and the network called for each full window."""
    import torch

    from streamae.bench.models import spec_named
    from streamae.model.detector import DetectorNetwork

    torch.set_num_threads(1)
    spec = spec_named(plan["model"])
    network = DetectorNetwork(spec).eval()
    rows = {f"b/s{i:06d}": deque(np.zeros(spec.window), maxlen=spec.window) for i in range(plan["streams"])}

    def act(topic: str, payload: bytes) -> None:
        window = rows[topic]
        window.append(json.loads(payload)["value"])
        with torch.no_grad():
            float(network.errors(torch.tensor(window, dtype=torch.float32).view(1, -1, 1)).mean())

    return act


def _ours(plan: dict[str, Any], meter: _Meter) -> None:
    from streamae.core.report import Report
    from streamae.daemon.json_parser import json_loads
    from streamae.ingest.mqtt import MqttSource, ReceiveLimits
    from streamae.mqtt import ConnectionOptions, Subscription

    groups = _pipeline(plan, json_loads())
    source = MqttSource(
        ConnectionOptions(host="127.0.0.1", port=plan["port"], protocol="5", client_id=f"bench-{os.getpid()}"),
        [Subscription("b/#", plan["qos"], False)],
        ReceiveLimits(max_messages=10**6, batch_wait_s=plan["batch_wait_s"]),
        now=time.time,
        monotonic=time.monotonic,
        jitter=lambda: 0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder), groups) if plan["journal"] else None
        source.start()
        while not source.status().subscribed:
            source.take(1, 0.05)
        print("ready", flush=True)  # noqa: T201
        meter.ready()
        deadline_s = time.monotonic() + _IDLE_S
        while meter.count < plan["messages"] and time.monotonic() < deadline_s:
            accepted = source.take(4096, 0.25)
            if not len(accepted):
                continue
            meter.begin()
            batch = accepted.batch
            if batch.broken:  # a session that starts over is a gap to the product; here nothing came before it
                batch = replace(batch, holes=())
            report: Report = groups.step(batch, time.time())
            meter.windows += report.windows
            if store is not None:
                store.commit(batch, report, time.time())
            source.ack(accepted)
            if plan["latency"]:
                meter.ages_s += (time.time() - report.groups["bench"].verdicts.time_s).tolist()
            meter.done(len(batch))
            deadline_s = time.monotonic() + _IDLE_S
        result = meter.result()
        source.close()
        if store is not None:
            store.close()
    print(json.dumps(result), flush=True)  # noqa: T201


def _pipeline(plan: dict[str, Any], loads: Any) -> Any:
    """All streams known, and each one row short of a full window."""
    from streamae.bench.models import WARM_ROWS, bench_group, scripted, spec_named
    from streamae.core.groups import Groups
    from streamae.model.executor_options import ExecutorOptions
    from streamae.model.runtime import TorchReconstructor

    spec = spec_named(plan["model"])
    runner = TorchReconstructor(scripted(spec), spec, means=ExecutorOptions(plan["executor"], 1, time.perf_counter))
    group = bench_group(spec, runner, plan["streams"], plan["stride"])
    groups = Groups("bench", [group], loads)
    names = [f"s{i:06d}" for i in range(plan["streams"])]
    ids, rng = np.arange(len(names), dtype=np.int32), np.random.default_rng(0)
    begin_s = time.time() - 1000.0
    for t in range(spec.window + WARM_ROWS):
        values = rng.normal(size=(len(names), 1))
        groups.pipelines["bench"].step_rows(names, Rows(ids, np.full(len(names), begin_s + t), values))
    return groups


def _store(folder: Path, groups: Any) -> Any:
    from streamae.store.store import Store

    store = Store.open(folder, "process", time.time)
    store.recover(0)
    return store


def main() -> None:
    """Do what the plan in the first argument says."""
    plan = json.loads(sys.argv[1])
    meter = _Meter(plan["messages"])
    if plan["mode"] == "ours":
        _ours(plan, meter)
    else:
        _paho(plan, meter)
        print(json.dumps(meter.result()), flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except OSError as error:  # the broker ended first: the round was broken off
        sys.exit(f"no broker: {error}")
