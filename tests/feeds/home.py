"""Feeds of homes: Zigbee2MQTT, Tasmota, Shelly, Home Assistant's statestream."""

import json
from datetime import UTC, datetime

import numpy as np

from streamae.core.types import F64
from tests.feeds.signals import DAY_S, World

__all__ = ["homeassistant", "shelly", "tasmota", "zigbee2mqtt"]

ROOMS = ("kitchen", "hall", "bath", "attic", "cellar", "study")
MAINS_V = 231.0


def climate(world: World, time_s: F64, room: int) -> tuple[F64, F64]:
    """Temperature and relative humidity of a room, of which one falls as the other rises."""
    warm = world.daily(time_s, 19.0 + room % 3, 1.2, 17.0) + world.wander(time_s, 7200.0, 0.4)
    damp = 48.0 - 2.5 * (warm - 19.0 - room % 3) + world.wander(time_s, 7200.0, 1.0)
    return warm, damp


def load_w(world: World, time_s: F64, on_s: float, off_s: float, power_w: float) -> F64:
    """Power of a machine that goes on and off by itself."""
    return world.cycle(time_s, on_s, off_s) * power_w * (1 + 0.02 * world.noise(time_s, 1.0)) + 1.2


def mains(world: World, time_s: F64) -> F64:
    """Voltage of the mains."""
    return world.daily(time_s, MAINS_V, 1.5, 4.0) + world.wander(time_s, 1800.0, 0.7) + world.noise(time_s, 0.2)


def zigbee2mqtt(world: World) -> None:
    """Six climate sensors, two plugs, two contacts and a lamp; in the fault the cellar's window stands open."""
    devices = []
    for i, room in enumerate(ROOMS):
        t = world.times(300.0, jitter_s=60.0)
        warm, damp = climate(world, t, i)
        open_window = world.faulty(t) * (room == "cellar")
        warm, damp = warm - 6.0 * open_window, damp + 15.0 * open_window
        for at, degrees, percent in zip(t.tolist(), warm.tolist(), damp.tolist(), strict=True):
            state = {"battery": 91 - i, "humidity": round(percent, 1), "linkquality": int(world.rng.integers(60, 160)),
                     "power_outage_count": 12, "temperature": round(degrees, 1), "voltage": 2985 - i}  # fmt: skip
            world.say(at, f"zigbee2mqtt/{room}", json.dumps(state))
        devices.append((room, "WSDCGQ11LM", [("temperature", "°C"), ("humidity", "%"), ("battery", "%")]))
    for i, plug in enumerate(("fridge", "freezer")):
        t = world.times(60.0)
        power = load_w(world, t, 900.0, 1800.0 + 300 * i, 90.0 + 20 * i)
        volts = mains(world, t)
        energy = world.counted(t, power / 3.6e6, 120.0 + i)
        for at, w, v, kwh in zip(t.tolist(), power.tolist(), volts.tolist(), energy.tolist(), strict=True):
            state = {
                "child_lock": "UNLOCK",
                "current": round(w / v, 2),
                "energy": round(kwh, 2),
                "linkquality": 180,
                "power": round(w),
                "power_outage_memory": "restore",
                "state": "ON",
                "update": {"installed_version": 192, "latest_version": 192, "state": "idle"},
                "voltage": round(v),
            }
            world.say(at, f"zigbee2mqtt/{plug}", json.dumps(state))  # fmt: skip
        devices.append((plug, "TS011F_plug_1", [("power", "W"), ("current", "A"), ("voltage", "V"), ("energy", "kWh")]))
    for name in ("front door", "garden gate"):
        for at in world.times(3000.0, jitter_s=300.0).tolist():
            state = {"battery": 100, "contact": True, "device_temperature": 24, "linkquality": 105,
                     "power_outage_count": 7, "trigger_count": 0, "voltage": 3015}  # fmt: skip
            world.say(at, f"zigbee2mqtt/{name}", json.dumps(state))
            if world.rng.random() < 0.5:  # somebody comes in
                world.say(at + 700.0, f"zigbee2mqtt/{name}", json.dumps({**state, "contact": False}))
                world.say(at + 706.0, f"zigbee2mqtt/{name}", json.dumps(state))
        devices.append((name, "MCCGQ11LM", [("contact", ""), ("battery", "%"), ("voltage", "mV")]))
    _lamp(world)
    devices.append(("lamp", "LED1545G12", [("brightness", ""), ("color_temp", "mired")]))
    world.say(world.start_s, "zigbee2mqtt/bridge/state", '{"state":"online"}')
    world.say(
        world.start_s, "zigbee2mqtt/bridge/devices", json.dumps([_device(i, *one) for i, one in enumerate(devices)])
    )


def _lamp(world: World) -> None:
    for day in range(int(world.seconds // DAY_S) + 1):
        for hour in (7.0, 18.0, 22.5):
            at = world.start_s + day * DAY_S + (hour + world.rng.uniform(-0.4, 0.4)) * 3600
            state = {"brightness": int(world.rng.integers(80, 254)), "color_mode": "color_temp", "color_temp": 370,
                     "linkquality": 87, "state": "OFF" if hour > 22 else "ON"}  # fmt: skip
            if at < world.start_s + world.seconds:
                world.say(at, "zigbee2mqtt/lamp", json.dumps(state))
    state = {"brightness": 254, "color_mode": "color_temp", "color_temp": 370, "linkquality": 87, "state": "ON"}
    world.say(world.start_s + 20.0, "zigbee2mqtt/lamp", json.dumps(state))


def _device(number: int, name: str, model: str, exposes: list[tuple[str, str]]) -> dict[str, object]:
    """An entry of bridge/devices, as much of it as matters."""
    kinds = {"contact": "binary", "state": "binary"}
    own = [
        {"access": 1, "label": p.capitalize(), "name": p, "property": p, "type": kinds.get(p, "numeric")}
        | ({"unit": unit} if unit else {}) | ({"category": "diagnostic"} if p == "battery" else {})
        for p, unit in exposes
    ]  # fmt: skip
    link = {"access": 1, "category": "diagnostic", "label": "Linkquality", "name": "linkquality",
            "property": "linkquality", "type": "numeric", "unit": "lqi"}  # fmt: skip
    features = [{"type": "light", "features": own}] if model.startswith("LED") else own
    return {
        "ieee_address": f"0x00158d0001dc{number:04x}", "type": "EndDevice", "friendly_name": name, "supported": True,
        "definition": {"model": model, "vendor": "A", "description": "", "exposes": [*features, link]},
    }  # fmt: skip


def tasmota(world: World) -> None:
    """Three meters of three phases and their states; in the fault the neutral of one is loose."""
    for i, name in enumerate(("tasmota_house", "tasmota_shop", "tasmota_barn")):
        t = world.times(60.0)
        loose = world.faulty(t) * (i == 1)
        volts = np.stack([mains(world, t) for _ in range(3)], axis=1) + np.outer(loose, (-22.0, 14.0, 9.0))
        amps = np.stack(
            [world.cycle(t, 1500.0, 2400.0 + 300 * p) * (4 + p + i) + 0.6 + 0.05 * np.abs(world.noise(t, 1.0))
             for p in range(3)], axis=1,
        )  # fmt: skip
        power = volts * amps * 0.96
        total = world.counted(t, power.sum(axis=1) / 3.6e6, 1234.5 + i)
        midnight = np.floor(t / DAY_S)
        for row, at in enumerate(t.tolist()):
            today = total[row] - total[np.searchsorted(midnight, midnight[row])]
            energy = {
                "TotalStartTime": "2022-03-01T08:00:00", "Total": round(float(total[row]), 3),
                "Yesterday": round(9.0 + float(midnight[row] * 7 % 5) / 3, 3), "Today": round(float(today), 3),
                "Power": [round(x) for x in power[row].tolist()],
                "ApparentPower": [round(x / 0.96) for x in power[row].tolist()],
                "Factor": [0.96] * 3, "Frequency": 50,
                "Voltage": [round(x) for x in volts[row].tolist()], "Current": np.round(amps[row], 3).tolist(),
            }  # fmt: skip
            stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
            world.say(at, f"tele/{name}/SENSOR", json.dumps({"Time": stamp, "ENERGY": energy}))
            if row % 5 == 0:
                about = {"Time": stamp, "Uptime": "3T01:15:10", "UptimeSec": 263710 + row * 60, "Heap": 27 + row % 2,
                         "LoadAvg": 19, "Wifi": {"AP": 1, "SSId": "home", "RSSI": 76, "Signal": -62}}  # fmt: skip
                world.say(at + 0.1, f"tele/{name}/STATE", json.dumps(about))
        world.say(world.start_s, f"tele/{name}/LWT", "Online")


def shelly(world: World) -> None:
    """Two meters of the first generation and three plugs of the second; in the fault a cooler's thermostat sticks."""
    for i, name in enumerate(("shellyem-B9E9A0", "shellyem-C0FFEE")):
        t = world.times(60.0)
        power = 300 + 100 * i + load_w(world, t, 1800.0, 3000.0, 400.0) + world.noise(t, 6.0)
        volts = mains(world, t)
        total = world.counted(t, power / 3600, 82_000.0)
        for at, w, v, wh in zip(t.tolist(), power.tolist(), volts.tolist(), total.tolist(), strict=True):
            base = f"shellies/{name}/emeter/0"
            for path, text in (("power", f"{w:.2f}"), ("voltage", f"{v:.2f}"), ("total", f"{wh:.1f}")):
                world.say(at, f"{base}/{path}", text)
        world.say(world.start_s, f"shellies/{name}/online", "true")
        for at in world.times(600.0).tolist():
            about = {"wifi_sta": {"connected": True, "rssi": -61}, "uptime": int(at - world.start_s)}
            world.say(at, f"shellies/{name}/info", json.dumps(about))
    for i, name in enumerate(("shellyplusplugs-a0", "shellyplusplugs-b1", "shellyplusplugs-c2")):
        t = world.times(60.0)
        on = world.cycle(t, 900.0, 1500.0 + 120 * i)
        on = np.maximum(on, world.faulty(t) * (i == 2))
        power = on * (85.0 + 5 * i) * (1 + 0.02 * world.noise(t, 1.0))
        warm = 34.0 + world.wander(t, 3600.0, 0.8)
        volts, total = mains(world, t), world.counted(t, power / 3600, 5_000.0)
        last_w = -1.0
        for row, (at, w, v) in enumerate(zip(t.tolist(), power.tolist(), volts.tolist(), strict=True)):
            change: dict[str, object] = {"id": 0, "aenergy": {
                "by_minute": [round(w * 16.7, 3), round(w * 16.6, 3), round(w * 16.7, 3)],
                "minute_ts": int(at // 60 * 60),
                "total": round(float(total[row]), 3)}}  # fmt: skip
            if abs(w - last_w) > 0.5 or row % 5 == 0:
                change |= {"apower": round(w, 1), "current": round(w / v, 3), "voltage": round(v, 1), "output": True}
                last_w = w
            if row % 5 == 0:
                degrees = round(float(warm[row]), 1)
                change["temperature"] = {"tC": degrees, "tF": round(degrees * 1.8 + 32, 1)}
            frame = {"src": name, "dst": f"{name}/events", "method": "NotifyStatus",
                     "params": {"ts": round(at, 2), "switch:0": change}}  # fmt: skip
            world.say(at + 0.05, f"{name}/events/rpc", json.dumps(frame))
        world.say(world.start_s, f"{name}/online", "true")


def homeassistant(world: World) -> None:
    """Entities of Home Assistant's statestream with attributes; in the fault a room's heating fails."""
    for i, room in enumerate(("kitchen", "hall", "bath", "living_room")):
        t = world.times(300.0, jitter_s=20.0)
        warm, damp = climate(world, t, i)
        warm, damp = warm - 5.0 * world.faulty(t) * (room == "bath"), damp + 12.0 * world.faulty(t) * (room == "bath")
        for kind, unit, values in (("temperature", "°C", warm), ("humidity", "%", damp)):
            base = f"homeassistant/sensor/{room}_{kind}"
            for at, value in world.changes(t, np.round(values, 1).tolist()):
                world.say(at, f"{base}/state", f"{value}")
            world.say(world.start_s, f"{base}/unit_of_measurement", json.dumps(unit))
            world.say(world.start_s, f"{base}/friendly_name", json.dumps(f"{room} {kind}".title()))
        t = world.times(43_200.0)
        for at in t.tolist():
            world.say(at, f"homeassistant/sensor/{room}_battery/state", "87")
    for at in world.times(3600.0, jitter_s=1800.0).tolist():
        world.say(at, "homeassistant/binary_sensor/front_door/state", "on")
        world.say(at + 9.0, "homeassistant/binary_sensor/front_door/state", "off")
    world.say(world.start_s, "homeassistant/sun/sun/state", "below_horizon")
