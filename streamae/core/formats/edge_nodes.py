"""Sparkplug B -> readings. Its messages depend on earlier ones, so a group keeps of each edge node what they said:

births       which alias is which channel of which stream, and of which type; data by alias mean nothing without it
seq          each message of a node has the next number, 0 to 255; what is missing between two was lost, and is counted
bdSeq        which birth a death belongs to: the will of an earlier session, delivered late, ends nothing

A death ends the validity of every value that the node or device had: nothing is held beyond it, and what came before a
death is older, whatever the clock says that wrote it. A null and a quality
that is not good end that of their own value.
Of metrics only those that are channels of the group are kept, so the state is bounded by its streams and channels; it
is part of the snapshot. Of other devices it is kept that they were born: nobody waits for their births. Data that come
before their birth are refused: a restart of the edge node, or a rebirth request to it, makes it send one. What is
historical is read by its time like everything else.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamae.core.formats.names import Names
from streamae.core.formats.number_rule import NumberRule
from streamae.core.formats.reader import ReadingSink
from streamae.core.formats.sparkplug_payload import (
    Address,
    SparkplugMessage,
    SparkplugMetric,
    TooManyMetricsError,
    address_of,
    parse,
    value_of,
)
from streamae.core.routes import Route
from streamae.core.types import Drop, State

__all__ = ["EdgeNodes", "SparkplugReader"]

_NODES_SPARE = 1_000  # beyond the streams a group may have: nodes without metrics of its own
_BEHIND = 128  # a number this far ahead is one from before, which came late
_ADVICE = "data by alias came before a birth; restart it, or write true to its Node Control/Rebirth"
_NEVER_S, _MOMENT_S = 0.0, 1e-3  # a thousandth of a second: what Sparkplug's times can distinguish
_Entry = tuple[int, int, int]  # stream, channel, datatype


@dataclass(slots=True)
class _Node:
    """An edge node; `births` by device, "" for the node itself: key of a metric -> entry, none in one of others."""

    seq: int | None = None
    bd_seq: int | None = None
    births: dict[str, dict[str, _Entry]] = field(default_factory=dict)
    newest_s: float = _NEVER_S  # of what was measured

    def ended_s(self, stamp_s: float, arrival_s: float) -> float:
        """Return when what was alive ended: as its death says, else at the arrival; but after its data."""
        return max(stamp_s if stamp_s >= self.newest_s else arrival_s, self.newest_s + _MOMENT_S)

    @property
    def others(self) -> int:
        """How many of its devices have nothing that the group reads."""
        return sum(not birth for birth in self.births.values())


class EdgeNodes:
    """All edge nodes that a group listens to."""

    def __init__(self, streams_max: int) -> None:
        self._max = streams_max + _NODES_SPARE
        self._nodes: dict[str, _Node] = {}
        self._unborn: dict[str, bool] = {}  # nodes with data before their birth: whether a notice is due
        self._others = 0  # devices of others that were born

    def node(self, name: str) -> _Node | None:
        """Return the node of this name, a new one where there is room, else None."""
        found = self._nodes.get(name)
        if found is None and len(self._nodes) < self._max:
            found = self._nodes[name] = _Node()
        return found

    def unborn(self, name: str) -> None:
        """Note that data of a node came by alias before a birth."""
        if len(self._unborn) < self._max:
            self._unborn.setdefault(name, True)

    def born(self, name: str, device: str, birth: dict[str, _Entry] | None) -> None:
        """Note what a birth said, None where there is no room for its streams.

        Of the devices of others no more are kept than there may be nodes.
        """
        self._unborn.pop(name, None)
        node = self._nodes[name]
        self.died(node, device)
        if birth or (birth is not None and self._others < self._max):
            node.births[device] = birth
            self._others += not birth

    def died(self, node: _Node, device: str | None = None) -> list[dict[str, _Entry]]:
        """Forget a device, or (None) all of a node, and return the births."""
        devices = list(node.births) if device is None else [device]
        found = [node.births.pop(one) for one in devices if one in node.births]
        self._others -= sum(not birth for birth in found)
        return found

    def notices(self) -> list[str]:
        """Return what to say of nodes whose births are missing, once of each until it is born."""
        fresh = [name for name, due in self._unborn.items() if due]
        self._unborn.update(dict.fromkeys(fresh, False))
        return [f"edge node {name}: {_ADVICE}" for name in fresh]

    def births(self, stream: int) -> State:
        """Return as `state` does what was said of one stream, as stream 0, without the order of messages."""
        kept = {}
        for name, node in self._nodes.items():
            mine = {
                device: {key: (0, *entry[1:]) for key, entry in birth.items() if entry[0] == stream}
                for device, birth in node.births.items()
            }
            if any(mine.values()):
                kept[name] = [None, None, {device: birth for device, birth in mine.items() if birth}]
        return _packed(kept)

    def drop(self, stream: int, last: int) -> None:
        """Forget what was said of a stream; the last one takes its number."""
        for node in self._nodes.values():
            for device, birth in list(node.births.items()):
                kept = {key: entry for key, entry in birth.items() if entry[0] != stream}
                node.births[device] = {k: (stream if s == last else s, c, kind) for k, (s, c, kind) in kept.items()}
                if birth and not kept:
                    del node.births[device]  # its data by alias ask for a birth again

    def state(self) -> State:
        """Return what a snapshot keeps; nothing where there are no edge nodes."""
        kept = _packed({name: [node.seq, node.bd_seq, node.births] for name, node in self._nodes.items()})
        newest_s = np.array([node.newest_s for node in self._nodes.values()], np.float64)
        return {**kept, "edge_nodes_newest_s": newest_s} if kept else {}

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        kept: Mapping[str, Any] = json.loads(state["edge_nodes"].tobytes()) if "edge_nodes" in state else {}
        self._nodes = {
            name: _Node(seq, bd_seq, {d: {k: tuple(e) for k, e in birth.items()} for d, birth in births.items()})
            for name, (seq, bd_seq, births) in kept.items()
        }
        if "edge_nodes_newest_s" in state:  # not in a snapshot of an earlier build
            for node, newest_s in zip(self._nodes.values(), state["edge_nodes_newest_s"].tolist(), strict=False):
                node.newest_s = newest_s
        self._others = sum(node.others for node in self._nodes.values())


def _packed(nodes: Mapping[str, Any]) -> State:
    return {"edge_nodes": np.frombuffer(json.dumps(nodes).encode(), np.uint8)} if nodes else {}


class SparkplugReader:
    """All messages of one topic template; one that only `listens` takes their order and deaths, no samples."""

    def __init__(self, nodes: EdgeNodes, names: Names, rule: NumberRule, *, listens: bool, metrics_max: int) -> None:
        self._nodes, self._names, self._rule = nodes, names, rule
        self._listens, self._metrics_max = listens, metrics_max

    def read(self, topic: bytes, route: Route, payload: bytes, times: tuple[float, float], out: ReadingSink) -> None:
        """Add the readings of one message; `times` are its arrival and the latest time that is believed."""
        address = address_of(topic)
        if address is None or address.type.endswith("CMD"):
            return
        if not payload and not address.type.endswith("DEATH"):
            out.drops[Drop.EMPTY] += 1
            return
        try:
            message = parse(payload, self._metrics_max)
        except ValueError as error:
            many = isinstance(error, TooManyMetricsError)
            out.drops[Drop.TOO_MANY_POINTS if many else Drop.MALFORMED] += 1
            return
        node = self._nodes.node(address.node)
        if node is None:
            out.drops[Drop.MAX_STREAMS] += 1
            return
        if address.type == "NBIRTH":
            self._nodes.died(node)  # the node is new, and each of its devices will be born again
            node.bd_seq, node.seq = message.bd_seq, message.seq
        elif address.type != "NDEATH":
            _follow(node, message.seq, out)
        if address.type == "NDEATH":
            self._end_node(node, message, times[0], out)
        elif address.type == "DDEATH":
            stamp_s = times[0] if message.time_s is None else message.time_s
            refused = out.refusal(stamp_s)
            if refused is not None:  # the device is gone all the same
                out.drops[refused] += 1
                stamp_s = times[0]
            for birth in self._nodes.died(node, address.device):
                _end(birth.values(), node.ended_s(stamp_s, times[0]), out)
        elif not self._listens:
            self._take(node, address, message, route, times, out)

    def _take(
        self,
        node: _Node,
        address: Address,
        message: SparkplugMessage,
        route: Route,
        times: tuple[float, float],
        out: ReadingSink,
    ) -> None:
        born = address.type.endswith("BIRTH")
        if born:
            self._nodes.born(address.node, address.device, self._birth(message, route, out))
        entries = node.births.get(address.device)
        together: dict[tuple[int, float], list[tuple[int, SparkplugMetric, int]]] = {}
        unknown = False
        for metric in message.metrics:
            entry = self._entry(metric, entries or {}, route)
            if entry is None:
                unknown = unknown or (entries is None and not born and metric.alias is not None)
                continue
            # A birth says what holds now, however long ago that was measured.
            stamps = (message.time_s, metric.time_s) if born else (metric.time_s, message.time_s)
            time_s = next((stamp for stamp in stamps if stamp is not None), times[0])
            together.setdefault((entry[0], time_s), []).append((entry[1], metric, entry[2]))
        if unknown:
            out.drops[Drop.NO_BIRTH] += 1
            self._nodes.unborn(address.node)
        for (stream, time_s), found in together.items():
            if self._add(stream, time_s, found, out):
                node.newest_s = max(node.newest_s, time_s)

    def _add(self, stream: int, time_s: float, found: list[tuple[int, SparkplugMetric, int]], out: ReadingSink) -> bool:
        refused = out.refusal(time_s)
        if refused is not None:
            out.drops[refused] += 1
            return False
        out.origins += 1
        for channel, metric, datatype in found:
            gone = metric.null or metric.bad
            value = None if gone else value_of(metric, datatype)
            nothing = Drop.UNAVAILABLE if gone else Drop.NOT_A_NUMBER
            out.take(stream, channel, time_s, nothing if value is None else self._rule.number(value))
        return True

    def _end_node(self, node: _Node, message: SparkplugMessage, arrival_s: float, out: ReadingSink) -> None:
        if message.bd_seq is not None and node.bd_seq is not None and message.bd_seq != node.bd_seq:
            return
        for birth in self._nodes.died(node):
            # A will has the time at which it was made.
            _end(birth.values(), node.ended_s(_NEVER_S, arrival_s), out)
        node.seq = None

    def _birth(self, message: SparkplugMessage, route: Route, out: ReadingSink) -> dict[str, _Entry] | None:
        """Learn which of the metrics are channels, under their alias and their name; None: all were refused."""
        entries: dict[str, _Entry] = {}
        refused: set[Drop] = set()
        for metric in message.metrics:
            place = self._names.place(metric.name)
            if place is None:
                continue
            stream = self._names.stream(route.labels, place[0], {})
            if isinstance(stream, Drop):
                refused.add(stream)
                continue
            entry = (stream, place[1], metric.datatype)
            entries[":" + metric.name] = entry
            if metric.alias is not None:
                entries[str(metric.alias)] = entry
        out.drops.update(refused or (() if entries else (Drop.UNKNOWN_CHANNEL,)))
        return entries or (None if refused else {})

    def _entry(self, metric: SparkplugMetric, entries: Mapping[str, _Entry], route: Route) -> _Entry | None:
        """Return what a metric is: by its alias, by its name, or by its name alone where no birth was seen."""
        found = None if metric.alias is None else entries.get(str(metric.alias))
        found = found or (entries.get(":" + metric.name) if metric.name else None)
        if found is not None or not metric.name:
            return found and (*found[:2], metric.datatype or found[2])
        place = self._names.place(metric.name)
        stream = None if place is None else self._names.stream(route.labels, place[0], {})
        if place is None or stream is None or isinstance(stream, Drop):
            return None
        return stream, place[1], metric.datatype


def _follow(node: _Node, seq: int | None, out: ReadingSink) -> None:
    """Count what is missing between the last message of a node and this one."""
    if seq is None:
        return
    ahead = 1 if node.seq is None else (seq - node.seq) % 256
    if ahead < _BEHIND:
        if ahead > 1:
            out.drops[Drop.SEQUENCE_GAP] += ahead - 1
        node.seq = seq % 256


def _end(entries: Iterable[_Entry], time_s: float, out: ReadingSink) -> None:
    """End the validity of these channels' values."""
    ended = sorted({(stream, channel) for stream, channel, _ in entries})
    last = -1
    for stream, channel in ended:
        out.origins += stream != last
        last = stream
        out.add(stream, channel, time_s, math.nan)
