"""A room's frozen dataclass as a block of the file: one class a setting, here read and checked.

The rooms (core, mqtt, sinks …) know nothing of YAML or pydantic. From the dataclass of a room, `section_of` makes the
`Section` that checks its block of the file: a key for each field, its type, bounds, default and description. What
comes out of validation is the dataclass itself, so no value is ever copied from one class into another.

    field of the dataclass                           in the file
    ------------------------------------------       ---------------------------------------------
    for_s: float                                     for: 5s        the unit is left out of the key
    max_payload_bytes: int                           max_payload: 64KiB
    stride: int, per_stream: bool, host: str         a whole number, true or false, text
    ca: Path                                         a path, relative to the file
    tls: Tls | None                                  a block of its own
    password: Annotated[str, Setting(form="secret")] file:, credential: or ${NAME}
    learn: Annotated[int, INTERNAL]                  not there

A section has such a block as `alert: Checked[AlertRule]`; `block` says what its section is called in the JSON Schema,
if not by the name of the class, and what must hold beyond single keys. In a dataclass with a field `given`, that
holds which fields the file has.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import tzinfo
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import pydantic
from pydantic import (
    AfterValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    SecretStr,
    StringConstraints,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from streamae.config.base import Headers, Name, Section
from streamae.config.descriptions import texts_below
from streamae.config.units import (
    Duration,
    FilePath,
    Flag,
    HiddenText,
    HttpUrl,
    Number,
    Patience,
    Rate,
    Secret,
    Size,
    Text,
    Whole,
    Zone,
)
from streamae.core.setting import Setting

__all__ = ["Checked", "ReadAs", "as_section", "block", "description", "section_of"]

_T = TypeVar("_T")
_UNITS = {"_per_s": Rate, "_s": Duration, "_bytes": Size}
_PLAIN: Mapping[Any, Any] = {bool: Flag, int: Whole, float: Number, str: Text, Path: FilePath, tzinfo: Zone}
_FORMS = {"name": Name, "secret": Secret, "hidden": HiddenText, "http_url": HttpUrl}
_WHOLE = {"patience": Patience, "headers": Headers}  # forms of a field, whatever parts its type has


@dataclass(frozen=True, slots=True)
class _Block:
    """What is special about the block of a dataclass; see `block`."""

    name: str = ""
    first: tuple[str, ...] = ()
    before: Callable[[Any], Any] | None = None
    after: Callable[[Any], Any] | None = None


_BLOCKS: dict[type[Any], _Block] = {}


def block(
    name: str,
    *,
    first: tuple[str, ...] = (),
    before: Callable[[Any], Any] | None = None,
    after: Callable[[Any], Any] | None = None,
) -> Callable[[type[_T]], type[_T]]:
    """Say of a dataclass what its section is called, and which fields come first, before those that it inherits.

    `before` sees the mapping as it stands in the file, `after` the dataclass; both return what they take, or raise
    what validators of pydantic may. To be called before the dataclass is first used by a section.
    """

    def register(room: type[_T]) -> type[_T]:
        _BLOCKS[room] = _Block(name, first, before, after)
        return room

    return register


class _FromFile:
    """Has pydantic check the dataclass that it annotates by its section."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        after = _BLOCKS.get(source, _Block()).after
        return core_schema.no_info_after_validator_function(
            lambda read: _built(source, read, after),
            handler.generate_schema(section_of(source)),
            serialization=core_schema.plain_serializer_function_ser_schema(_dumped),
        )


Checked: TypeAlias = Annotated[_T, _FromFile()]


@dataclass(frozen=True, slots=True)
class ReadAs:
    """Marks a field of a dataclass whose type in the file is this one of pydantic's."""

    kind: Any


class _RoomSection(Section):
    """Base of the sections that are made here: pydantic need not look for their source, which they have not."""

    model_config = ConfigDict(use_attribute_docstrings=False)


_SECTIONS: dict[Any, type[Section]] = {}


def section_of(room: Any) -> type[Section]:
    """Return what checks the block of a file that a dataclass stands for; the same each time."""
    if room not in _SECTIONS:
        _SECTIONS[room] = _section(room)
    return _SECTIONS[room]


def _section(room: Any) -> type[Section]:
    about, hints = _BLOCKS.get(room, _Block()), get_type_hints(room, include_extras=True)
    shown = [f for f in fields(room) if not _setting(hints[f.name]).internal]
    place = {name: n for n, name in enumerate(about.first)}
    ordered = sorted(shown, key=lambda f: place.get(f.name, len(place)))
    made: dict[str, Any] = {f.name: (_typed(hints[f.name], f.name), _field(f, hints[f.name], room)) for f in ordered}
    checks: dict[str, Any] = {} if about.before is None else {"before": model_validator(mode="before")(about.before)}
    doc = (room.__doc__ or "").split("\n\n")[0]
    return create_model(about.name or room.__name__, __base__=_RoomSection, __doc__=doc, __validators__=checks, **made)


def as_section(value: Any) -> Section:
    """Return a dataclass as the section that it was read by, to be written as it would stand in the file."""
    section = section_of(type(value))
    kept = {name: (getattr(value, name), field.annotation) for name, field in section.model_fields.items()}
    return section.model_construct(
        **{name: _hidden(one) if _hides(kind) else one for name, (one, kind) in kept.items()}
    )


def _unit(kind: Any, name: str) -> str:
    """Return the unit that a number's name ends in, "" if none."""
    return next((unit for unit in _UNITS if kind in (int, float) and name.endswith(unit)), "")


def _dumped(value: Any) -> Any:
    return as_section(value).model_dump(mode="json", by_alias=True)


def _built(room: type[Any], read: Section, after: Callable[[Any], Any] | None) -> Any:
    values = {name: _open(getattr(read, name)) for name in type(read).model_fields}
    if any(f.name == "given" for f in fields(room)):
        values["given"] = frozenset(read.model_fields_set)
    made = room(**values)
    return made if after is None else after(made)


def _open(value: Any) -> Any:
    """Take secrets out of what pydantic hides them in; a room hides them by `repr=False`."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: _open(one) for key, one in value.items()}
    return tuple(map(_open, value)) if isinstance(value, tuple) else value


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_hidden, value))
    return SecretStr(value) if isinstance(value, str) else value


def _hides(annotation: Any) -> bool:
    return annotation is SecretStr or any(_hides(one) for one in get_args(annotation))


def _setting(hint: Any) -> Setting:
    """What is said of a field beside its type."""
    found = [one for one in get_args(hint)[1:] if isinstance(one, Setting)] if get_origin(hint) is Annotated else []
    return found[0] if found else Setting()


def description(field: FieldInfo) -> str | None:
    """Return the text of a key, which stands below its field in the source."""
    schema: dict[str, Any] = {"description": field.description}
    if callable(field.json_schema_extra):
        field.json_schema_extra(schema)
    text: str | None = schema["description"]
    return text


def _field(f: "Field[Any]", hint: Any, room: type[Any]) -> Any:
    unit = next((unit for unit in _UNITS if f.name.endswith(unit)), "")
    key = _setting(hint).key or f.name.removesuffix(unit)

    def describe(schema: dict[str, Any]) -> None:  # reads source, which takes long: only when somebody asks
        schema.update({"description": text} if (text := texts_below(room).get(f.name)) else {})

    named: dict[str, Any] = {"json_schema_extra": describe} | ({} if key == f.name else {"alias": key})
    if isinstance(f.default, Path):  # is relative to the file as one that stands there
        return pydantic.Field(f.default, validate_default=True, **named)
    if f.default is not MISSING:
        return pydantic.Field(f.default, **named)
    if f.default_factory is not MISSING:
        return pydantic.Field(f.default_factory(), **named)
    return pydantic.Field(**named)


def _typed(hint: Any, name: str, setting: Setting | None = None) -> Any:
    """Return the type that reads a value of the file as `hint` says, with its bounds and checks."""
    setting, parts = setting or Setting(), get_args(hint)
    if get_origin(hint) is Annotated:
        read = [one.kind for one in parts[1:] if isinstance(one, ReadAs)]
        return read[0] if read else _typed(parts[0], name, _setting(hint))
    if get_origin(hint) is Literal:
        return hint
    if setting.form in _WHOLE:
        return _WHOLE[setting.form]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(one if one is NoneType else _typed(one, name, setting) for one in parts)]  # noqa: UP007
    return _compound(hint, name, setting) if parts else _single(hint, name, setting)


def _compound(hint: Any, name: str, setting: Setting) -> Any:
    parts = tuple(one if one is ... else _typed(one, name) for one in get_args(hint))
    return _bounded(GenericAlias(tuple if get_origin(hint) is tuple else dict, parts), setting)


def _single(kind: Any, name: str, setting: Setting) -> Any:
    if is_dataclass(kind):
        return Annotated[kind, _FromFile()]
    if issubclass(kind, Section):
        return kind
    if setting.one_of:
        return Literal[setting.one_of]
    return _bounded(_FORMS.get(setting.form) or _UNITS.get(_unit(kind, name)) or _PLAIN[kind], setting)


def _bounded(kind: Any, setting: Setting) -> Any:
    said = {"ge": setting.ge, "gt": setting.gt, "le": setting.le, "lt": setting.lt, "min_length": setting.items_min}
    limits: dict[str, Any] = {name: limit for name, limit in said.items() if limit is not None}
    if limits:
        kind = Annotated[kind, pydantic.Field(**limits)]
    if setting.pattern is not None or setting.length_max is not None:
        kind = Annotated[kind, StringConstraints(pattern=setting.pattern, max_length=setting.length_max)]
    return kind if setting.check is None else Annotated[kind, AfterValidator(_checked(setting.check))]


def _checked(check: Callable[[Any], object]) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        check(_open(value))
        return value

    return checked
