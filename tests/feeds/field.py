"""Feeds of radio receivers and networks: rtl_433, OpenMQTTGateway, ChirpStack 3 and 4."""

import base64
import json
import uuid
from datetime import UTC, datetime

from tests.feeds.signals import World

__all__ = ["chirpstack", "openmqttgateway", "rtl_433"]


def rtl_433(world: World) -> None:
    """Thermometers of two makers and soil probes, all on one topic; in the fault one thermometer stands in the sun."""
    topic = "rtl_433/pi/events"
    for i, number in enumerate((1234, 8121, 4410)):
        t = world.times(60.0, jitter_s=4.0)
        warm = world.daily(t, 9.0 + i, 4.0) + world.wander(t, 7200.0, 0.5) + 9.0 * world.faulty(t) * (i == 1)
        damp = 70.0 - 3.0 * (warm - 9.0 - i) + world.wander(t, 7200.0, 1.5)
        for at, degrees, percent in zip(t.tolist(), warm.tolist(), damp.tolist(), strict=True):
            seen = {"time": _local(at), "model": "Acurite-Tower", "id": number, "channel": "ABC"[i], "battery_ok": 1,
                    "temperature_C": round(degrees, 1), "humidity": round(percent), "mic": "CHECKSUM"}  # fmt: skip
            world.say(at, topic, json.dumps(seen))
    for i, name in enumerate(("77", "5e")):
        t = world.times(60.0, jitter_s=4.0)
        warm = world.daily(t, 4.0, 1.0) + world.wander(t, 7200.0, 0.3)
        damp = world.daily(t, 30.0 + 5 * i, 3.0) + world.wander(t, 20_000.0, 1.5)
        for at, degrees, percent in zip(t.tolist(), warm.tolist(), damp.tolist(), strict=True):
            seen = {"time": _local(at), "model": "Springfield-Soil", "id": int(name, 16), "channel": 1, "battery_ok": 1,
                    "button": 0, "transmit": "AUTO", "temperature_C": round(degrees, 1), "moisture": round(percent),
                    "mic": "PARITY"}  # fmt: skip
            world.say(at, topic, json.dumps(seen))
    world.say(world.start_s + 1.0, "rtl_433/pi/availability", "online")


def _local(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def openmqttgateway(world: World) -> None:
    """Thermometers and telephones that a gateway hears by Bluetooth; in the fault a refrigerator's door is open."""
    base = "home/OMG_ESP32_BLE"
    for i in range(4):
        mac = f"A4C138{0x11A000 + i * 257:06X}"
        t = world.times(60.0, jitter_s=20.0)
        warm = 5.0 * (i + 1) - 1 + world.cycle(t, 1200.0, 1800.0) * 0.8 + world.wander(t, 7200.0, 0.25)
        warm += 8.0 * world.faulty(t) * (i == 0)
        damp = 55.0 + world.wander(t, 7200.0, 2.0) + 20.0 * world.faulty(t) * (i == 0)
        for at, degrees, percent in zip(t.tolist(), warm.tolist(), damp.tolist(), strict=True):
            seen = {"id": ":".join(mac[k : k + 2] for k in range(0, 12, 2)), "mac_type": 0, "adv_type": 0,
                    "name": f"ATC_{mac[6:]}", "rssi": int(world.rng.integers(-90, -60)), "brand": "Xiaomi",
                    "model": "TH Sensor", "model_id": "LYWSD03MMC_ATC", "type": "THB",
                    "tempc": round(degrees, 1), "tempf": round(degrees * 1.8 + 32, 1), "hum": round(percent),
                    "batt": 87 - i, "volt": 2.95, "mac": mac}  # fmt: skip
            world.say(at, f"{base}/BTtoMQTT/{mac}", json.dumps(seen))
    for phone in ("5F0A3C91D2E4", "6B77AA01B3C2"):
        for at in world.times(400.0, jitter_s=100.0).tolist():
            seen = {"id": ":".join(phone[k : k + 2] for k in range(0, 12, 2)), "mac_type": 1, "adv_type": 0,
                    "rssi": int(world.rng.integers(-99, -50)), "txpower": 12}  # fmt: skip
            world.say(at, f"{base}/BTtoMQTT/{phone}", json.dumps(seen))
    for row, at in enumerate(world.times(120.0).tolist()):
        about = {"uptime": 500 + row * 120, "version": "v1.7.0", "rssi": -52, "SSID": "home",
                 "freemem": 108_000 + row % 9,
                 "mqttport": "1883", "modules": ["BT"], "ethernet": False, "eth": ""}  # fmt: skip
        world.say(at, f"{base}/SYStoMQTT", json.dumps(about))
    world.say(world.start_s, f"{base}/LWT", "online")


def chirpstack(world: World) -> None:
    """Probes behind a ChirpStack 3 and behind a ChirpStack 4; in the fault a cold store warms up."""
    for i in range(3):
        eui, t = bytes((1, 2, 3, 4, 5, 6, 7, i)), world.times(600.0, jitter_s=15.0)
        warm = 4.0 + i + 0.8 * world.cycle(t, 3600.0, 5400.0) + world.wander(t, 7200.0, 0.25)
        warm += 6.0 * world.faulty(t) * (i == 2)
        damp = 75.0 + world.wander(t, 9000.0, 2.0) + 12.0 * world.faulty(t) * (i == 2)
        for row, (at, degrees, percent) in enumerate(zip(t.tolist(), warm.tolist(), damp.tolist(), strict=True)):
            measured = {"battery": 3.6, "humidity": round(percent, 1), "temperature": round(degrees, 2)}
            _version_3(world, at, (row, i), eui, measured)
    for i in range(3):
        eui, t = bytes((9, 2, 3, 4, 5, 6, 7, i)), world.times(600.0, jitter_s=15.0)
        level = world.daily(t, 2.0 + 0.3 * i, 0.4, 8.0) + world.wander(t, 9000.0, 0.05)
        flow = 12.0 * level + world.wander(t, 3600.0, 0.5)
        for row, (at, metres, litres) in enumerate(zip(t.tolist(), level.tolist(), flow.tolist(), strict=True)):
            _version_4(world, at, (row, i), eui, {"flow": round(litres, 2), "level": round(metres, 3)})
    world.say(world.start_s, "us915_0/gateway/0016c001f153a14c/state/conn", b"\x0a\x10")


def _stamp(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z")


def _version_3(world: World, at: float, numbers: tuple[int, int], eui: bytes, measured: dict[str, float]) -> None:
    row, i = numbers
    event = {
        "applicationID": "1", "applicationName": "cold-stores", "deviceName": f"store-{i}",
        "devEUI": base64.b64encode(eui).decode(), "deviceProfileName": "probe",
        "rxInfo": [{"gatewayID": "cnaJ//7b2RE=", "time": None, "timeSinceGPSEpoch": None,
                    "rssi": int(world.rng.integers(-110, -60)), "loRaSNR": 9.5, "channel": 5, "rfChain": 0, "board": 0,
                    "antenna": 0, "location": {"latitude": 52.37, "longitude": 4.88, "altitude": 10.5}}],
        "txInfo": {"frequency": 868_100_000 + 200_000 * int(world.rng.integers(0, 3)), "modulation": "LORA",
                   "loRaModulationInfo": {"bandwidth": 125, "spreadingFactor": 7, "codeRate": "4/5"}},
        "adr": True, "dr": 5, "fCnt": row, "fPort": 2, "data": "AQID", "objectJSON": json.dumps(measured),
        "tags": {}, "confirmedUplink": False, "devAddr": f"AY8dY{i}==", "publishedAt": _stamp(at + 0.02),
    }  # fmt: skip
    world.say(at, f"application/1/device/{eui.hex()}/event/up", json.dumps(event))


def _version_4(world: World, at: float, numbers: tuple[int, int], eui: bytes, measured: dict[str, float]) -> None:
    row, i = numbers
    event = {
        "deduplicationId": str(uuid.UUID(bytes=world.rng.bytes(16))), "time": _stamp(at),
        "deviceInfo": {"tenantId": "52f14cd4-c6f1-4fbd-8f87-4025e1d49242", "tenantName": "ChirpStack",
                       "applicationId": "ca739e26-7b67-4f14-b69e-d568c22a5a75", "applicationName": "wells",
                       "deviceProfileId": "605d08d4-65f5-4d2c-8a5a-3d2457662f79", "deviceProfileName": "level",
                       "deviceName": f"well-{i}", "devEui": eui.hex(), "tags": {}},
        "devAddr": f"0018944{i}", "adr": True, "dr": 1, "fCnt": row, "fPort": 1, "confirmed": False, "data": "qg==",
        "object": measured,
        "rxInfo": [{"gatewayId": "0016c001f153a14c", "uplinkId": int(world.rng.integers(0, 2**32)),
                    "rssi": int(world.rng.integers(-110, -60)), "snr": 9.0, "location": {}, "context": "EFwMtA=="}],
        "txInfo": {"frequency": 868_100_000, "modulation": {"lora": {
            "bandwidth": 125_000, "spreadingFactor": 11, "codeRate": "CR_4_5"}}},
    }  # fmt: skip
    base = f"application/ca739e26-7b67-4f14-b69e-d568c22a5a75/device/{eui.hex()}/event"
    world.say(at, f"{base}/up", json.dumps(event))
    if row % 40 == 7:
        about = {k: event[k] for k in ("deduplicationId", "time", "deviceInfo")}
        status = {"margin": 7, "externalPowerSource": False, "batteryLevelUnavailable": False, "batteryLevel": 75.4}
        world.say(at + 0.2, f"{base}/status", json.dumps(about | status))
