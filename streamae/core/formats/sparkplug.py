"""Sparkplug B: binary payloads of edge nodes and their devices, which depend on earlier ones.

`sparkplug_payload.py` reads the bytes, `edge_nodes.py` keeps what births said and makes readings of them; here is what
the rest of the package must know: which topics a group needs, and what `sniff` sees.
"""

from collections.abc import Iterable, Sequence

from streamae.core.formats.edge_nodes import EdgeNodes, SparkplugReader
from streamae.core.formats.names import Names
from streamae.core.formats.sighting import ever
from streamae.core.formats.sparkplug_payload import NAMESPACE, address_of, parse, value_of
from streamae.core.formats.spec import Format, Opening, PayloadSpec, Record, Sighting

__all__ = ["FORMAT"]

_CONTROL = ("Node Control/", "Device Control/")


def _open(opening: Opening) -> SparkplugReader:
    names = Names(opening.spec, opening.channels, opening.streams)
    spec = opening.spec
    return SparkplugReader(opening.memory, names, spec.rule, listens=spec.listens, metrics_max=spec.max_points)


def _beside(topic: str) -> Iterable[str]:
    """The edge node of a device: its births and deaths, and the numbers of all messages."""
    levels = topic.split("/")
    if NAMESPACE not in levels:
        return ()
    node = "/".join(levels[: levels.index(NAMESPACE) + 4])
    return node, f"{node}/+"


def _refuses_topic(topic: str) -> str | None:
    levels = topic.split("/")
    below = levels[levels.index(NAMESPACE) + 1 :] if NAMESPACE in levels else []
    if len(below) in (3, 4) and below[1] == "+" and below[-1] != "#":
        return None
    return (
        "write spBv1.0/{group}/+/{node}/{device}, or without /{device} for the nodes' own metrics: the third "
        "level is the kind of message, such as NBIRTH or DDATA"
    )


def _declared(spec: PayloadSpec, topic: bytes, payload: bytes) -> list[Record]:
    """Return what births declare, and what data name."""
    del spec
    address = address_of(topic)
    if address is None or address.type.endswith(("CMD", "DEATH")):
        return []
    try:
        metrics = parse(payload).metrics
    except ValueError:
        return []
    named = (m for m in metrics if m.name and m.name != "bdSeq" and not m.name.startswith(_CONTROL))
    return [Record(None, {m.name: value_of(m, m.datatype) for m in named}, {})]


def _recognise(topic: str, payloads: Sequence[bytes]) -> Sighting | str | None:
    """What a device's births declare as numbers are its channels; data that name their metrics count as well."""
    levels = topic.split("/")
    if NAMESPACE not in levels:
        return None
    address = address_of(topic.encode())
    if address is None:
        return "Sparkplug, but not of an edge node"
    levels[levels.index(NAMESPACE) + 2] = "+"
    records = [one for payload in payloads for one in _declared(PayloadSpec(), topic.encode(), payload)]
    data = address.type.endswith("DATA")
    nothing = (
        "Sparkplug by alias, and no birth in that time: restart the edge node, or write Node Control/Rebirth to it"
        if data
        else "Sparkplug without numbers"
    )
    return Sighting(tuple(sorted(ever(records))), place="/".join(levels), samples=data, nothing=nothing)


FORMAT = Format(
    name="sparkplug",
    about="Sparkplug B of edge nodes, with births, deaths and aliases",
    link="https://sparkplug.eclipse.org/specification/",
    example='{topic: "spBv1.0/{group}/+/{node}/{device}", payload: sparkplug, values: {flow: Sensors/Flow}}',
    open=_open,
    declared=_declared,
    keys=("values", "name"),
    refuses_topic=_refuses_topic,
    recognise=_recognise,
    timed=True,
    empty_ends=True,
    on_change=True,
    memory=EdgeNodes,
    beside=_beside,
    beside_for="births, deaths and sequence of edge nodes and their devices",
)
