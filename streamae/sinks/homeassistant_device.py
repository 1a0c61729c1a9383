"""A stream as Home Assistant knows it: its name, its entities, and what its state says. See homeassistant.py."""

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamae import __version__
from streamae.core.types import F64, I8, I32, I64, AlertState

__all__ = [
    "DeviceStreams", "InstanceState", "entities", "instance_config", "object_id_of", "slug", "state_of", "text",
]  # fmt: skip

_TROUBLES, _TROUBLE_LETTERS = 20, 200  # of an instance's, in its attributes
_DIGITS = 3  # of a score; more would make every score a change


@dataclass(frozen=True, slots=True, eq=False)
class DeviceStreams:
    """A group's streams at one moment, `[S]`: `worst` indexes `channels` (-1: none yet), NaN is a score not yet known.

    `time_s` (of the last window) and `learned` (rows of the warm-up) only say whether a stream makes progress.
    """

    names: Sequence[str]
    channels: Sequence[str]
    score: F64
    threshold: F64
    state: I8
    worst: I32
    time_s: F64
    learned: I64
    unjudged: Collection[int] = ()
    """Streams that nobody judges at present, whatever their state was before: the model fails on them."""
    troubles: Mapping[int, Sequence[str]] = field(default_factory=dict)
    """Of a few streams, in words: verdicts on their sensors that stand, and that they are not judged."""


def entities(unique: str, state_topic: str, status_topic: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The components of a device: their keys and unique ids must never change, or people lose what they set.

    `status_topic` says whether the daemon is online.
    """
    yield (
        "anomaly",
        {
            "p": "binary_sensor",
            "name": "Anomaly",
            "uniq_id": f"{unique}_anomaly",
            "dev_cla": "problem",
            "val_tpl": "{{ value_json.anomaly }}",
            "json_attr_t": state_topic,
        },
    )
    score = {"p": "sensor", "name": "Score", "uniq_id": f"{unique}_score", "stat_cla": "measurement"}
    yield "score", {**score, "val_tpl": "{{ value_json.score }}", "ic": "mdi:chart-bell-curve"}
    worst = {"p": "sensor", "name": "Worst channel", "uniq_id": f"{unique}_worst_channel"}
    yield "worst_channel", {**worst, "val_tpl": "{{ value_json.worst_channel }}", "ic": "mdi:magnify"}
    # Also of a stream that is silent: that is what it may have to say.
    yield "trouble", {**_trouble(unique, state_topic, "Trouble"), "avty": [{"t": status_topic}]}


def _trouble(unique: str, state_topic: str, name: str) -> dict[str, Any]:
    """A binary sensor that is on while something is wrong that is no anomaly; the attributes say what."""
    return {
        "p": "binary_sensor",
        "name": name,
        "uniq_id": f"{unique}_trouble",
        "dev_cla": "problem",
        "val_tpl": "{{ value_json.trouble }}",
        "json_attr_t": state_topic,
    }


def state_of(table: DeviceStreams, i: int) -> dict[str, Any]:
    """Return the JSON state of stream `i`; null means unknown."""
    state, score, threshold = AlertState(int(table.state[i])), float(table.score[i]), float(table.threshold[i])
    judged = state >= AlertState.INACTIVE and i not in table.unjudged
    known = math.isfinite(score) and judged
    worst = int(table.worst[i])
    return {
        "anomaly": "ON" if state is AlertState.FIRING else "OFF" if judged else None,
        "score": float(f"{score:.{_DIGITS}g}") if known else None,
        "threshold": float(f"{threshold:.{_DIGITS}g}") if known and math.isfinite(threshold) else None,
        "worst_channel": text(table.channels[worst]) if known and worst >= 0 else None,
        "state": state.word,
        "trouble": "ON" if table.troubles.get(i) else "OFF",
        "troubles": [text(one) for one in table.troubles.get(i, ())],
    }


def object_id_of(group: str, stream: str) -> str:
    """A name that stays the same, and differs wherever group or stream do."""
    digest = hashlib.sha256(f"{group}\0{stream}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_plain(f'{group}_{stream}')[:48]}_{digest}"


def slug(name: str) -> str:
    """A name as a topic level of discovery, which allows [a-zA-Z0-9_-]; still another one for another name."""
    plain = _plain(name)
    return plain if plain == name else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)


def text(name: str) -> str:
    """A name for people: what cannot be printed, lone surrogates too, would break a reader's JSON or page."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What a person must know of the instance: how many alerts fire, and what is wrong, in words."""

    firing: int
    troubles: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return the JSON state."""
        troubles = [text(one)[:_TROUBLE_LETTERS] for one in self.troubles[:_TROUBLES]]
        return {"trouble": "ON" if self.troubles else "OFF", "troubles": troubles, "firing": self.firing}


def instance_config(node: str, instance: str, state_topic: str, status_topic: str, page: str | None) -> dict[str, Any]:
    """The discovery payload of the instance itself; it is available while the daemon is."""
    firing = {"p": "sensor", "name": "Firing", "uniq_id": f"{node}_firing", "stat_cla": "measurement"}
    about = {"ids": [node], "name": f"streamae {text(instance)}", "mf": "streamae", "sw": __version__}
    return {
        "dev": about | ({"cu": page} if page else {}),
        "o": {"name": "streamae", "sw": __version__},
        "cmps": {
            "trouble": _trouble(node, state_topic, "Trouble"),
            "firing": {**firing, "val_tpl": "{{ value_json.firing }}", "ic": "mdi:bell-alert"},
        },
        "stat_t": state_topic,
        "avty": [{"t": status_topic}],
        "avty_mode": "all",
        "qos": 1,
    }
