"""train.yaml -> TrainConfig; every mistake named with its key, value and remedy."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from streamae.errors import ConfigError
from streamae.training.fit import Recipe
from streamae.training.limits import Limit
from streamae.training.plan import TrainConfig

__all__ = ["config_of", "read_config"]

_SWITCHES = ("linear", "context_inputs", "calendar", "counters", "sentinels")  # auto, on, off: two are booleans in YAML


def read_config(path: Path | None) -> TrainConfig:
    """Read training settings; None gives the defaults. Raises ConfigError with one line for each mistake."""
    if path is None:
        return TrainConfig()
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if tree is None:
        return TrainConfig()
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: got {tree!r}; write keys and values, such as `hidden: 16`")
    return config_of(tree, path)


def config_of(keys: Mapping[str, Any], path: Path) -> TrainConfig:
    """Read the keys and values of a train.yaml; errors name `path`, and other files are relative to its folder."""
    tree = dict(keys)
    tree |= {key: "on" if tree[key] else "off" for key in _SWITCHES if isinstance(tree.get(key), bool)}
    tree.pop("sources", None)  # where the series come from, not what is made of them: see history.databases
    if isinstance(tree.get("counters"), dict):
        tree["counters"] = {name: "off" if kind is False else kind for name, kind in tree["counters"].items()}
    mistakes = _unknown(path, tree, TrainConfig, "")
    mistakes += _unknown(path, tree.get("recipe"), Recipe, "recipe.")
    mistakes += _unknown(path, tree.get("threshold"), Limit, "threshold.")
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    if isinstance(tree.get("recipe"), dict):
        tree["recipe"] = asdict(TrainConfig().recipe) | tree["recipe"]  # what is not said stays as it is without a file
    try:
        read = TypeAdapter(TrainConfig).validate_python(tree)
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, e['loc']))}: got {e['input']!r}; {e['msg']}"
            for e in error.errors(include_url=False)
        ]
        raise ConfigError("\n".join(lines)) from error
    limit = read.threshold
    if limit.incidents is None:
        return read
    return replace(read, threshold=replace(limit, incidents=path.parent / limit.incidents))


def _unknown(path: Path, tree: Any, kind: type, prefix: str) -> list[str]:
    known = [f.name for f in fields(kind)]
    keys = tree if isinstance(tree, dict) else ()
    return [
        f"{path}: {prefix}{key}: got an unknown key; known here: {', '.join(known)}" for key in keys if key not in known
    ]
