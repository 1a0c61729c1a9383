"""Payload formats: one file each, called as it is in `payload:`, and their registry.

A file that defines `FORMAT` is registered by being here. What a format is stands in spec.py; the other files are what
several formats have in common:

reader.py   records -> readings          names.py     names -> channels and streams     values.py  paths, numbers, times
columns.py  many messages at once        sighting.py  what `sniff` makes of records     flat.py    documents by path
points.py   InfluxDB's data model        discovery.py channels that are not configured yet
number_rule.py, quality.py, parsed.py: numbers, words and holes; which are good; what is nearly JSON
json_document.py, json_addressed.py: what JSON consists of, and JSON that says whose it is
sparkplug_payload.py, protobuf.py, edge_nodes.py: the bytes and the memory of Sparkplug B
"""

from importlib import import_module
from pkgutil import iter_modules

from streamae.core.formats.spec import Format

__all__ = ["FORMATS"]

_FIRST = ("number", "json")  # what has no maker; the others follow by the alphabet
FORMATS: dict[str, Format] = {}

for _name in (*_FIRST, *sorted({module.name for module in iter_modules(__path__)} - {*_FIRST})):
    _format = getattr(import_module(f"{__name__}.{_name}"), "FORMAT", None)
    if isinstance(_format, Format):
        FORMATS[_name] = _format
