"""The contract of `config.block`: a room's frozen dataclass is read from a block of the file, by what it says."""

import importlib
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError, create_model

import streamae
from streamae.config.base import Section
from streamae.config.block import Checked, as_section, block, section_of
from streamae.config.load import load_as
from streamae.config.settings import Settings
from streamae.core.setting import INTERNAL, Setting
from streamae.errors import ConfigError


def _even(number: int) -> None:
    if number % 2:
        raise ValueError("write an even number")


@dataclass(frozen=True, slots=True)
class Inner:
    """A block within."""

    wait_s: Annotated[float, Setting(gt=0)] = 1.0
    """How long."""


def _ordered(read: "Room") -> "Room":
    if read.low > read.high:
        raise ValueError("write low before high")
    return read


@block("RoomBlock", first=("high",), after=_ordered)
@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is read.

    What is not said.
    """

    for_s: Annotated[float, Setting(ge=0)] = 0.0
    """A duration."""
    size_bytes: int = 1
    rate_per_s: float | None = None
    low: Annotated[float, Setting(key="least")] = 0.0
    high: float = 1.0
    count: Annotated[int | None, Setting(ge=1, le=8, check=_even)] = None
    on: bool = False
    name: Annotated[str, Setting(pattern="^[a-z]+$", length_max=3)] = "abc"
    way: Annotated[str, Setting(one_of=("left", "right"))] = "left"
    mode: Literal["auto"] | Annotated[float, Setting(le=2)] = "auto"
    path: Path | None = None
    zone: Annotated[tzinfo | None, Setting(key="time_zone")] = None
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    several: Annotated[tuple[Inner, ...], Setting(items_min=1)] = (Inner(),)
    password: Annotated[str | None, Setting(form="secret")] = field(default=None, repr=False)
    hidden: Mapping[str, Annotated[str, Setting(form="hidden")]] = field(default_factory=dict, repr=False)
    learn: Annotated[int, INTERNAL] = 3
    given: Annotated[frozenset[str], INTERNAL] = frozenset()


Root = create_model("Root", __base__=Section, room=(Checked[Room], Room()))


def read(tmp_path: Path, text: str) -> Room:
    path = tmp_path / "x.yaml"
    path.write_text(f"room: {{{text}}}\n")
    return load_as(Root, path, {"PW": "canary"})[0].room


def test_what_is_read_is_the_dataclass_itself(tmp_path):
    """Every kind of field, with its unit left out of the key; what the file lacks has the dataclass's own default."""
    text = (
        "for: 2m, size: 1KiB, rate: 1/day, least: 0.25, count: 4, on: true, name: ab, way: right, mode: 1.5, "
        "path: p.pem, time_zone: Europe/Berlin, limits: {a: [0, 1.5]}, inner: {wait: 3s}, several: [{}, {wait: 5s}], "
        'password: "${PW}", hidden: {x: y}'
    )
    found = read(tmp_path, text)
    assert type(found) is Room
    assert found == Room(
        for_s=120.0, size_bytes=1024, rate_per_s=1 / 86400, low=0.25, count=4, on=True, name="ab", way="right",
        mode=1.5, path=tmp_path / "p.pem",
        zone=ZoneInfo("Europe/Berlin"), limits={"a": (0.0, 1.5)}, inner=Inner(3.0),
        several=(Inner(), Inner(5.0)), password="canary", hidden={"x": "y"}, given=found.given,
    )  # fmt: skip
    assert found.given == {f.name for f in fields(Room)} - {"high", "learn", "given"}
    assert read(tmp_path, "") == Room()
    assert read(tmp_path, "inner:").inner == Inner(), "a block whose keys are all commented out has all defaults"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("for: 5", "room.for: got 5; write a number with its unit"),
        ("for_s: 5s", "room.for_s: got an unknown key; did you mean for?"),
        ("learn: 5", "room.learn: got an unknown key"),
        ("given: []", "room.given: got an unknown key"),
        ("low: 5.0", "room.low: got an unknown key"),
        ("count: 9", "room.count: got 9; write at most 8"),
        ("count: 3", "room.count: got 3; write an even number"),
        ("name: AB", "room.name: got AB; write it as"),
        ("name: abcd", "room.name: got abcd; shorten it to 3"),
        ("way: up", "room.way: got up; write left or right"),
        ("mode: 3.5", "room.mode: got 3.5; write"),
        ("on: maybe", "room.on: got maybe; write true or false"),
        ("time_zone: Nowhere", "room.time_zone: got Nowhere; write a time zone"),
        ("inner: {wait: 0s}", "room.inner.wait: got 0s; write more than 0"),
        ("inner: {wiat: 1s}", "room.inner.wiat: got an unknown key; did you mean wait?"),
        ("inner: 5", "room.inner: got 5; write a mapping"),
        ("several: []", "room.several: got an empty list; add at least one"),
        ("several: [{wait: x}]", "room.several[0].wait: got x; write a number with its unit"),
        ("limits: {a: [0, b]}", "room.limits.a[1]: got b; write a number"),
        ("password: plain", "room.password: got plain text; keep secrets out"),
        ("least: 2.0", "room: got a mapping; write low before high"),
    ],
)
def test_what_is_wrong_is_named_by_its_key_in_the_file(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_the_schema_is_what_the_dataclass_says():
    """Name, order, keys, bounds, defaults as the file writes them, and descriptions; internal fields are not in it."""
    about = section_of(Room).model_json_schema()
    assert (about["title"], about["description"]) == ("RoomBlock", "What is read.")
    assert list(about["properties"])[:2] == ["high", "for"]
    assert not {"learn", "given", "for_s", "low"} & about["properties"].keys()
    assert about["properties"]["for"]["description"] == "A duration."
    assert about["properties"]["way"]["enum"] == ["left", "right"]
    written = as_section(Room(for_s=90.0, inner=Inner(60.0))).model_dump(mode="json", by_alias=True)
    assert (written["for"], written["inner"]) == ("90s", {"wait": "1m"})


def test_a_secret_is_shown_nowhere(tmp_path):
    """Neither the dataclass nor what it is dumped as shows one, in a key of its own or in a mapping."""
    found = read(tmp_path, 'password: "${PW}", hidden: {x: "${PW}"}')
    root = Root.model_construct(room=found)
    shown = repr(found) + repr(root) + json.dumps(as_section(found).model_dump(mode="json")) + root.model_dump_json()
    assert found.password == "canary"
    assert "canary" not in shown


def test_the_section_of_a_dataclass_is_made_once():
    assert section_of(Room) is section_of(Room)
    with pytest.raises(ValidationError):
        section_of(Room).model_validate({"for": 1})


def settings_of_the_rooms() -> set[type]:
    """Every dataclass that the configuration is read into."""
    found: set[type] = set()
    waiting = [Settings]
    while waiting:
        section = waiting.pop()
        for info in section.model_fields.values():
            for kind in kinds(info.annotation):
                if is_dataclass(kind) and kind not in found:
                    found.add(kind)
                    waiting.append(section_of(kind))
                elif issubclass(kind, Section):
                    waiting.append(kind)
    return found


def kinds(annotation: object) -> list[type]:
    parts = getattr(annotation, "__args__", ())
    return [annotation] if isinstance(annotation, type) and not parts else [k for one in parts for k in kinds(one)]


def test_no_field_of_a_setting_is_written_twice():
    """A dataclass that adds to a room's inherits its fields: none is declared again but to say another type of it."""
    rooms = settings_of_the_rooms()
    assert {"AlertRule", "GridAlign", "TopicSpec", "BrokerOptions", "ReceiveLimits", "DiscoveryOptions"} <= {
        room.__name__ for room in rooms
    }
    again = {
        f"{room.__name__}.{name}"
        for room in rooms
        for name in room.__annotations__
        for base in room.__mro__[1:]
        if name in getattr(base, "__annotations__", {})
    }
    assert again == {"StreamGroup.health", "TopicSpec.kind"}  # the one adds flapping, the other knows the registry


def test_rooms_know_nothing_of_the_files_library():
    """Pydantic is imported by the configuration alone: what a room says of its settings is plain Python."""
    importers = {
        module.name.split(".")[1]
        for module in pkgutil.walk_packages(streamae.__path__, "streamae.")
        if not module.name.endswith("__main__")
        and "pydantic" in (Path(importlib.util.find_spec(module.name).origin or "").read_text(errors="replace"))
    }
    assert "config" in importers
    assert not importers & {"core", "mqtt", "ingest", "sinks", "model", "metrics", "store"}
