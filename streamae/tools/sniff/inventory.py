"""What a bridge says of its devices: Zigbee2MQTT's `<base>/bridge/devices`, which is retained.

    [{"friendly_name": "cellar", "type": "EndDevice", "definition": {"model": "…", "exposes": [
        {"type": "numeric", "property": "temperature", "access": 1, "unit": "°C"}, …]}}, …]

Bit 1 of `access` says that the state is published; `category` marks what is about the device. A sensor on a battery
may be silent for an hour, so what has not been heard is named with what it would say.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from streamae.core.formats.sighting import measures_nothing
from streamae.tools.sniff.listen import Sniffed

__all__ = ["unheard"]

_PUBLISHED = 1
_NAMED_MAX = 5


def unheard(sniffed: Sniffed) -> list[str]:
    """Return comments on devices that a bridge knows and that were not heard, those of the same values together."""
    lines = []
    for topic, payload in sorted(sniffed.inventories.items()):
        base = topic.removesuffix("/bridge/devices")
        silent: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name, values in _devices(payload):
            if f"{base}/{name}" not in sniffed.topics and values:
                silent[values].append(name)
        for values, names in silent.items():
            more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
            said = ", ".join(names[:_NAMED_MAX]) + more
            lines.append(f"# {base} has {said}, not heard yet: it would send {', '.join(values)}")
    return ["".join(c if c.isprintable() else "?" for c in line)[:400] for line in lines]


def _devices(payload: bytes) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yield each device's name and the numbers that it publishes."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return
    for device in found if isinstance(found, list) else ():
        name = device.get("friendly_name") if isinstance(device, dict) else None
        definition = device.get("definition") if isinstance(device, dict) else None
        if isinstance(name, str) and isinstance(definition, dict) and device.get("type") != "Coordinator":
            properties = list(dict.fromkeys(_published(definition.get("exposes"), 0)))
            yield name, tuple(one for one in properties if not measures_nothing(one, properties))


def _published(exposes: Any, depth: int) -> Iterable[str]:
    for one in exposes if isinstance(exposes, list) and depth < 4 else ():
        if not isinstance(one, dict):
            continue
        yield from _published(one.get("features"), depth + 1)
        access = one.get("access", _PUBLISHED)
        if (
            one.get("type") in ("numeric", "binary")
            and isinstance(one.get("property"), str)
            and isinstance(access, int)
            and access & _PUBLISHED
            and one.get("category") not in ("config", "diagnostic")
        ):
            yield one["property"]
