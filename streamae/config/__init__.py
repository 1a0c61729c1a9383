"""YAML -> frozen settings; every mistake named with file, line, column, key, value and remedy; JSON Schema.

yaml_document.py   YAML 1.2 with marks, ${ENV}       settings.py   every block of the file, its type and meaning
units.py           durations, sizes, secrets         block.py      a room's own dataclass as a block of the file
load.py            file -> Settings | ConfigError    rules.py      what keys must agree on
reload.py          what a reload may change          check.py      what a configuration would do
"""

from streamae.config.load import json_schema, load, load_broker
from streamae.config.settings import Settings
from streamae.config.streams import StreamGroup

__all__ = ["Settings", "StreamGroup", "json_schema", "load", "load_broker"]
