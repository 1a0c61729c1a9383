"""YAML -> frozen settings; every mistake named with file, line, column, key, value and remedy; JSON Schema.

document.py   YAML 1.2 with marks, ${ENV}       settings.py    every key, its type, default and meaning
units.py      durations, sizes, secrets         agreement.py   what keys must agree on
load.py       file -> Settings | ConfigError    convert.py     settings -> what the other rooms take
reload.py     what a reload may change          check.py       what a configuration would do
"""

from streamae.config.load import json_schema, load, load_broker
from streamae.config.settings import Settings
from streamae.config.streams import Group

__all__ = ["Group", "Settings", "json_schema", "load", "load_broker"]
