"""Sinks: where alerts go. A kind of sink is one file, called as it is in `type:`, and this is their registry.

A file that defines `SINK` is registered by being here: its settings, how it is made, what it sends. What a kind of sink
is stands in spec.py, what a sink does in sink.py; the other files are what they have in common:

payload.py   transitions as JSON, as words      http.py            one POST, and what its answer means
delivery.py  order, retries, storms, reminders  homeassistant.py   not alerts: each stream as a device
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from streamae.sinks.spec import SinkSpec

__all__ = ["SINKS"]

_FIRST = ("log", "mqtt", "webhook")  # what needs no other program; the others follow by the alphabet
SINKS: dict[str, SinkSpec[Any]] = {}

for _name in (*_FIRST, *sorted({module.name for module in iter_modules(__path__)} - {*_FIRST})):
    _spec = getattr(import_module(f"{__name__}.{_name}"), "SINK", None)
    if isinstance(_spec, SinkSpec):
        SINKS[_name] = _spec
