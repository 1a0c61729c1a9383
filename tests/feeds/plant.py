"""Feeds of plants: Kepware's IoT Gateway, Sparkplug B, Telegraf, Victron's Venus OS, plain numbers."""

import json

import numpy as np

from streamae.core.types import F64
from tests import sparkplug as sp
from tests.feeds.home import load_w
from tests.feeds.signals import World

__all__ = ["kepware", "plain_numbers", "sparkplug", "telegraf", "victron"]


def pump(world: World, time_s: F64, number: int, *, leak: F64) -> dict[str, F64]:
    """A pump whose flow and power follow its speed; a leak takes the pressure and raises the flow."""
    speed = world.daily(time_s, 1450.0, 60.0) + 120.0 * world.cycle(time_s, 5400.0, 5400.0)
    speed += world.wander(time_s, 600.0, 8.0) + 10.0 * number
    share = speed / 1450.0
    return {
        "flow": 40.0 * share * (1 + 0.25 * leak) + world.noise(time_s, 0.3),
        "pressure": 5.2 * share**2 * (1 - 0.3 * leak) + world.noise(time_s, 0.03),
        "power": 11.0 * share**3 + world.noise(time_s, 0.08),
        "speed": speed + world.noise(time_s, 1.0),
    }


def kepware(world: World) -> None:
    """Tags of three pumps in the messages of one IoT Gateway; in the fault one of them leaks."""
    t = world.times(60.0)
    pumps = [pump(world, t, i, leak=world.faulty(t) * (i == 1)) for i in range(3)]
    hours = [world.counted(t, np.full(len(t), 1 / 3600), 1200.0 + i) for i in range(3)]
    for row, at in enumerate(t.tolist()):
        stamp = round(at * 1000)
        tags = [
            {"id": f"Line1.Pump{i + 1}.{name.capitalize()}", "v": round(float(values[row]), 2), "q": True, "t": stamp}
            for i, one in enumerate(pumps)
            for name, values in one.items()
        ]
        tags += [
            {"id": f"Line1.Pump{i + 1}.Hours", "v": round(float(one[row]), 1), "q": True, "t": stamp}
            for i, one in enumerate(hours)
        ]
        tags.append({"id": "Line1.Pump1.Serial", "v": "P-1871", "q": True, "t": stamp})
        if row % 400 == 399:  # the controller does not answer for this one
            tags[0] = {**tags[0], "v": 0, "q": False}
        world.say(at, "iotgateway", json.dumps({"timestamp": stamp, "values": tags}))


def plain_numbers(world: World) -> None:
    """Pumps with a topic for each value; in the fault one of them leaks."""
    for i in range(4):
        t = world.times(60.0)
        one = pump(world, t, i, leak=world.faulty(t) * (i == 3))
        for name, values in one.items():
            for at, value in zip(t.tolist(), values.tolist(), strict=True):
                world.say(at + 0.01, f"plant/line{i % 2 + 1}/pump{i + 1:02d}/{name}", f"{value:.2f}")


def telegraf(world: World) -> None:
    """Processors and memory of three hosts; in the fault one of them waits for a failing disk."""
    for i, host in enumerate(("alder", "birch", "cedar")):
        t = world.times(60.0, first_s=float(i))
        ill = world.faulty(t) * (host == "cedar")
        for core in range(2):
            user = 8.0 + 20.0 * world.cycle(t, 1800.0, 2400.0) + world.wander(t, 600.0, 2.0) + world.noise(t, 0.5)
            user = np.clip(user, 0.1, 60.0)
            system = np.clip(0.3 * user + world.noise(t, 0.3), 0.1, None)
            wait = np.abs(0.5 + world.noise(t, 0.1)) + 30.0 * ill
            for row, at in enumerate(t.tolist()):
                busy = (float(user[row]), float(system[row]), float(wait[row]))
                fields = {"usage_guest": 0, "usage_idle": 100 - sum(busy), "usage_iowait": busy[2], "usage_steal": 0,
                          "usage_system": busy[1], "usage_user": busy[0]}  # fmt: skip
                _point(world, at, host, "cpu", fields, {"cpu": f"cpu{core}", "host": host})
        used = 3.1e9 * (1 + 0.15 * world.cycle(t, 3600.0, 3600.0)) + world.wander(t, 3600.0, 4e7)
        cached = 9e8 + world.wander(t, 7200.0, 3e7)
        for at, taken, held in zip(t.tolist(), used.tolist(), cached.tolist(), strict=True):
            fields = {"available": round(8e9 - taken), "cached": round(held), "total": 8_000_000_000,
                      "used": round(taken), "used_percent": taken / 8e7}  # fmt: skip
            _point(world, at, host, "mem", fields, {"host": host})
            world_up = {"load1": 0.4, "n_cpus": 2, "uptime": round(at - world.start_s + 9000)}
            _point(world, at, host, "system", world_up, {"host": host})


def _point(world: World, at: float, host: str, name: str, fields: dict[str, float], tags: dict[str, str]) -> None:
    point = {"fields": fields, "name": name, "tags": tags, "timestamp": int(at)}
    world.say(at + 0.02, f"telegraf/{host}/{name}", json.dumps(point))


def victron(world: World) -> None:
    """A battery and two solar chargers of a boat; in the fault the battery has lost a cell."""
    t = world.times(60.0)
    sun = np.clip(world.daily(t, -0.1, 1.0, 13.0), 0, None) * np.clip(0.8 + world.wander(t, 3600.0, 0.15), 0.1, 1.1)
    drawn = load_w(world, t, 1200.0, 2400.0, 60.0) / 12.8 + 2.0
    charge = [sun * 11.0 * (1 - 0.1 * i) for i in range(2)]
    amps = charge[0] + charge[1] - drawn
    soc = np.clip(world.daily(t, 75.0, 14.0, 18.0) + world.wander(t, 9000.0, 1.0), 5, 100)
    volts = 12.2 + 0.012 * soc + 0.02 * amps + world.noise(t, 0.01) - 1.6 * world.faulty(t)
    battery = {
        "Dc/0/Voltage": np.round(volts, 2), "Dc/0/Current": np.round(amps, 1), "Dc/0/Power": np.round(volts * amps),
        "Dc/0/Temperature": np.round(world.daily(t, 18.0, 3.0)), "Soc": np.round(soc, 1),
        "ConsumedAmphours": np.round((soc - 100) * 2.0, 1),
    }  # fmt: skip
    base = "N/c0619ab4a585"
    for path, values in battery.items():
        _changed(world, t, f"{base}/battery/512/{path}", values)
    _say(world, f"{base}/battery/512", {"TimeToGo": None, "Alarms/LowVoltage": 0, "CustomName": "house",
                                        "ProductId": 515, "FirmwareVersion": 1032, "Connected": 1,
                                        "DeviceInstance": 512})  # fmt: skip
    for i, current in enumerate(charge):
        panel = np.where(current > 0.05, 30.0 + 3.0 * sun + world.noise(t, 0.2), 0.5)
        number = 279 + i
        power = np.round(current * volts, 1)
        solar = {
            "Pv/V": np.round(panel, 1), "Yield/Power": power, "Dc/0/Current": np.round(current, 1),
            "Dc/0/Voltage": np.round(volts + 0.1, 2),
            "Yield/System": np.round(world.counted(t, power / 3.6e6, 900.0), 2),
        }  # fmt: skip
        for path, values in solar.items():
            _changed(world, t, f"{base}/solarcharger/{number}/{path}", values)
        _say(world, f"{base}/solarcharger/{number}", {"ErrorCode": 0, "ProductId": 41_034, "FirmwareVersion": 359})
    _say(world, f"{base}/system/0", {"Serial": "c0619ab4a585", "Timers/TimeOff": 0})
    for at in world.times(60.0).tolist():
        world.say(at, f"{base}/heartbeat", json.dumps({"value": int(at)}))


def _changed(world: World, time_s: F64, topic: str, values: F64) -> None:
    for at, value in world.changes(time_s, values.tolist(), every=30):
        world.say(at + float(world.rng.uniform(0, 0.5)), topic, json.dumps({"value": value}))


def _say(world: World, base: str, said: dict[str, object]) -> None:
    for path, value in said.items():
        world.say(world.start_s + 0.5, f"{base}/{path}", json.dumps({"value": value}))


class _Edge:
    """An edge node of Sparkplug B, by exception and by alias; born again every six hours."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.seq, self.session = world, name, -1, 0

    def say(self, at: float, kind: str, *metrics: object, device: str = "") -> None:
        """Publish a message with the next number."""
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        topic = f"spBv1.0/press-shop/{kind}/{self.name}" + (f"/{device}" if device else "")
        numbered = {} if kind == "NDEATH" else {"seq": self.seq, "time_s": at}
        self.world.say(at, topic, sp.payload(*metrics, **numbered))


def sparkplug(world: World) -> None:
    """Three motors of an edge node with births, deaths and rebirths; in the fault one motor draws too much."""
    edge, t = _Edge(world, "gateway-1"), world.times(30.0)
    motors = [_motor(world, t, i, world.faulty(t) * (i == 0)) for i in range(3)]
    last: dict[tuple[int, str], float] = {}
    dead = np.zeros(3, np.bool_)
    for row, at in enumerate(t.tolist()):
        if row % 720 == 0:  # six hours
            if row:
                edge.say(at, "NDEATH", sp.metric("bdSeq", datatype=sp.INT64, long_value=edge.session))
            edge.session += row > 0
            edge.say(at, "NBIRTH", sp.metric("bdSeq", datatype=sp.INT64, long_value=edge.session),
                     sp.metric("Node Control/Rebirth", datatype=sp.BOOLEAN, boolean_value=False))  # fmt: skip
            last.clear()
        for i, one in enumerate(motors):
            resting = i == 2 and 1000 <= row % 2880 < 1004  # two minutes a day for its maker's service
            if resting and not dead[i]:
                edge.say(at + 0.01, "DDEATH", device=f"motor{i + 1}")
            born = row % 720 == 0 or (dead[i] and not resting)
            dead[i] = resting
            if not resting:
                _report(
                    edge, at + 0.1 * (i + 1), f"motor{i + 1}", i, {k: float(v[row]) for k, v in one.items()}, last, born
                )


def _motor(world: World, t: F64, number: int, ill: F64) -> dict[str, F64]:
    share = 0.55 + 0.3 * world.cycle(t, 2400.0, 1800.0) + world.wander(t, 300.0, 0.02)
    return {
        "Motor/Current": np.round(18.0 * share * (1 + 0.35 * ill) + world.noise(t, 0.1), 2),
        "Motor/Speed": np.round(1480.0 - 30.0 * share + world.noise(t, 0.7)),
        "Motor/Winding": np.round(60.0 + 20.0 * share + 12.0 * ill + world.wander(t, 1800.0, 1.0) + number, 1),
    }


def _report(
    edge: _Edge,
    at: float,
    device: str,
    number: int,
    now: dict[str, float],
    last: dict[tuple[int, str], float],
    born: bool,
) -> None:
    """A birth with everything, or the metrics that have moved."""
    band = {"Motor/Current": 0.15, "Motor/Speed": 1.5, "Motor/Winding": 0.25}
    kinds = {"Motor/Current": (sp.DOUBLE, "double_value"), "Motor/Speed": (sp.INT32, "int_value"),
             "Motor/Winding": (sp.FLOAT, "float_value")}  # fmt: skip
    moved = [n for n in now if born or abs(now[n] - last.get((number, n), np.inf)) >= band[n]]
    metrics = []
    for name in moved:
        kind, field = kinds[name]
        value = int(now[name]) if kind == sp.INT32 else now[name]
        alias = 100 * number + [*now].index(name)
        metrics.append(sp.metric(name if born else "", alias=alias, datatype=kind, **{field: value}))
        last[number, name] = now[name]
    if born:
        metrics.append(
            sp.metric("Properties/Firmware", alias=100 * number + 9, datatype=sp.STRING, string_value=b"2.1")
        )
        metrics.append(
            sp.metric("Properties/Rated power", alias=100 * number + 8, datatype=sp.DOUBLE, double_value=7.5)
        )
    if metrics:
        edge.say(at, "DBIRTH" if born else "DDATA", *metrics, device=device)
