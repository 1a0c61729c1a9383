"""The golden payloads of tests/golden/payloads, as the contract suites of the formats take them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from streamae.core.decode import Decoder, PayloadSpec, deferred
from streamae.core.formats import FORMATS
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template

FOLDER = Path(__file__).parent / "golden" / "payloads"
NOW = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """Messages as a format's documentation shows them, and what must be read of them."""

    spec: PayloadSpec
    name: str
    template: str
    channels: Sequence[str]
    messages: Sequence[tuple[bytes, bytes]]
    readings: Sequence[tuple[str, str, float | None, float]] = ()
    drops: dict[str, int] = field(default_factory=dict)
    unseen: str = ""

    def __str__(self) -> str:
        return f"{self.spec.kind}: {self.name}"

    @property
    def clean(self) -> bool:
        """Whether something is read, and nothing refused."""
        return bool(self.readings) and not self.drops


def golden_of(kind: str) -> list[GoldenCase]:
    """The cases of a format; none where it has no file."""
    path = FOLDER / f"{kind}.yaml"
    return [_case(kind, about(kind), case) for case in about(kind)["cases"]] if path.is_file() else []


def about(kind: str) -> dict[str, Any]:
    """What a format's file says beside its cases."""
    return yaml.safe_load((FOLDER / f"{kind}.yaml").read_text())


def every_case() -> list[GoldenCase]:
    """The cases of all formats."""
    return [case for kind in FORMATS for case in golden_of(kind)]


def _case(kind: str, file: dict[str, Any], case: dict[str, Any]) -> GoldenCase:
    given = dict(case.get("spec", {}))
    zone = given.pop("time_zone", None)
    topic = case.get("topic", file.get("topic", "p"))
    messages = case.get("messages", [{"topic": topic, **{k: case[k] for k in ("payload", "hex") if k in case}}])
    return GoldenCase(
        PayloadSpec(kind, **given, zone=None if zone is None else ZoneInfo(zone)),
        case["name"],
        case.get("template", file.get("template", "{pump}")),
        file["channels"],
        [(m["topic"].encode(), bytes.fromhex(m["hex"]) if "hex" in m else m["payload"].encode()) for m in messages],
        [tuple(reading) for reading in case.get("readings", [])],
        case.get("drops", {}),
        case.get("unseen", ""),
    )


def open_decoder(
    spec: PayloadSpec,
    template: str = "{pump}",
    channels: Sequence[str] = ("a", "b"),
    max_streams: int = 10,
    loads: Callable[[bytes], Any] = json.loads,
) -> tuple[Decoder, Streams]:
    """A decoder of one topic and of what its format listens to beside it, and its streams."""
    labels = Template.parse(template).labels
    names = Template.parse(spec.name).labels if spec.name else ()
    every = dict.fromkeys((*labels, *spec.labels, *names))
    streams = Streams("/".join("{" + label + "}" for label in every if label != "channel") or "all", max_streams)
    beside = [*FORMATS[spec.kind].beside(template)]
    specs = [spec, *(PayloadSpec(spec.kind, listens=True) for _ in beside)]
    router = Router([Template.parse(text) for text in (template, *beside)], channels, streams, deferred(specs))
    return Decoder(router, specs, channels, loads=loads), streams
