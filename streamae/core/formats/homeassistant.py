"""Home Assistant's statestream: <base>/<domain>/<entity>/state carries one value as plain text.

`unknown` and `unavailable` say that there is no value; `on` and `off` are 1 and 0, other text measures nothing.
"""

from collections.abc import Sequence

from streamae.core.formats.parsed import text_of
from streamae.core.formats.sighting import document, numbers_of, records_in
from streamae.core.formats.spec import Format, Loads, PayloadSpec, Record, Records, Sighting

__all__ = ["FORMAT"]

_DOMAINS = {"sensor", "binary_sensor", "number", "input_number", "input_boolean", "switch", "light", "climate"}


def _records(topic: bytes, payload: bytes, spec: PayloadSpec, loads: Loads, arrival_s: float) -> Records:
    del topic, spec, loads, arrival_s
    return [Record(None, {"value": text_of(payload)}, {})]


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sighting | str | None:
    levels = topic.split("/")
    stated = len(levels) >= 4 and levels[-1] == "state" and levels[-3] in _DOMAINS
    if not stated or all(isinstance(document(payload), dict) for payload in payloads):
        return None
    records = records_in(_records, FORMAT.name, topic, payloads)
    return (
        Sighting(("value",), family=f"{levels[-3]}s")
        if any(numbers_of(x, words=True) for x in records)
        else "states that are no numbers"
    )


FORMAT = Format(
    name="homeassistant",
    about="Home Assistant's MQTT statestream: one plain state a topic",
    link="https://www.home-assistant.io/integrations/mqtt_statestream",
    example='{topic: "homeassistant/sensor/{room}_{channel}/state", payload: homeassistant}',
    records=_records,
    recognise=_recognise,
    keys=("values",),
    plain=True,
    channel=True,
    words=True,
)
