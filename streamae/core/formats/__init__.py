"""Payload formats of others: decoders as pure functions, one file for each specification, and their registry.

spec.py      what a format is, how a topic asks for it      reader.py      records -> readings
values.py    paths, numbers, times                          names.py       names -> channels and streams
influx.py    line protocol, Telegraf JSON                   senml.py       SenML
states.py    Zigbee2MQTT, Tasmota, Home Assistant
sparkplug.py Sparkplug B payloads, by protobuf.py           edge_nodes.py  what they lean on, and their readings
"""

from streamae.core.formats.influx import INFLUX, TELEGRAF
from streamae.core.formats.senml import SENML
from streamae.core.formats.spec import Format
from streamae.core.formats.states import HOME_ASSISTANT, TASMOTA, ZIGBEE2MQTT

__all__ = ["FORMATS", "SPARKPLUG"]

SPARKPLUG = "sparkplug"  # the one that is not read message by message: see edge_nodes.py
FORMATS: dict[str, Format] = {
    "influx": INFLUX,
    "telegraf": TELEGRAF,
    "senml": SENML,
    "zigbee2mqtt": ZIGBEE2MQTT,
    "tasmota": TASMOTA,
    "homeassistant": HOME_ASSISTANT,
}
