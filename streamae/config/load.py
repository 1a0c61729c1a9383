"""A file becomes Settings, or a ConfigError with every mistake in it: `file:line:column: key: got value; do this`.

The mistakes come from three passes: the document (YAML itself, duplicate keys, unset variables), the single keys
(pydantic), and what keys must agree on. The third runs only where the first two found nothing, since a contradiction
with a value that is wrong anyway would send the reader to the wrong place.
"""

import difflib
import os
import typing
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from streamae.config.base import Section
from streamae.config.block import as_section, description, section_of
from streamae.config.rules import conflicts
from streamae.config.settings import Settings
from streamae.config.units import duration_text, patience_text, size_text
from streamae.config.yaml_document import OR_WRITE_IT, Document, Loc, Mistake, read
from streamae.errors import ConfigError

__all__ = ["json_schema", "load", "load_as", "load_broker"]

_S = TypeVar("_S", bound=Section)


def load(path: Path | str, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and judge `path`; raise ConfigError with one line for each mistake.

    `environ` replaces the process's environment for `${NAME}` and for systemd credentials.
    """
    settings, document = load_as(Settings, Path(path), environ)
    mistakes = [_disagreement(document, loc, remedy) for loc, remedy in conflicts(settings)]
    if mistakes:
        raise _refusal(document, mistakes)
    return settings


class _WithoutStreams(Settings):
    """A configuration whose streams nobody has written yet, or that may be wrong still."""

    streams: dict[str, Any] = Field(default_factory=dict)  # whatever stands there is not read


def load_broker(path: Path | str) -> Settings:
    """Read all of `path` but its streams, which may be missing: who looks at a broker for the first time has none."""
    return load_as(_WithoutStreams, Path(path))[0]


def load_as(root: type[_S], path: Path, environ: Mapping[str, str] | None = None) -> tuple[_S, Document]:
    """Read `path` as a section of any kind, its keys judged one by one; raise ConfigError as `load` does."""
    environ = os.environ if environ is None else environ
    document = read(path, environ)
    mistakes = list(document.mistakes)
    section = None
    try:
        section = root.model_validate(document.tree, context={"directory": path.absolute().parent, "environ": environ})
    except ValidationError as error:
        errors = [one for one in error.errors(include_url=False) if not _consequence(one)]
        mistakes = _merged(mistakes, [_explain(root, document, one) for one in errors])
    if section is None or mistakes:
        raise _refusal(document, mistakes)
    return section, document


def _refusal(document: Document, mistakes: Iterable[Mistake]) -> ConfigError:
    """One line for each mistake: where a value may be of several kinds, what each of them wants is one remedy."""
    found = sorted(set(mistakes))
    lines = [
        replace(same[0], remedy=", or ".join(dict.fromkeys(one.remedy for one in same))).text(document.path)
        for same in (list(group) for _, group in groupby(found, key=lambda m: (m.line, m.column, m.key, m.got)))
    ]
    return ConfigError("\n".join(lines))


class _Schema(GenerateJsonSchema):
    """Writes defaults that are dataclasses as they would stand in the file."""

    def encode_default(self, dft: Any) -> Any:
        """Return the JSON of a default."""
        return super().encode_default(_as_written(dft))


def _as_written(default: Any) -> Any:
    if isinstance(default, tuple):
        return tuple(map(_as_written, default))
    return as_section(default) if is_dataclass(default) else default


def json_schema(root: type[BaseModel] = Settings) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file, or of another section, for editors and for the reference."""
    schema = root.model_json_schema(by_alias=True, mode="validation", schema_generator=_Schema)
    _standard(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


_KEYWORDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
_SPELLED = {"auto|off": patience_text, "ms|s|m": duration_text, "B|kB|KiB": size_text}


def _standard(schema: Any) -> None:
    """Say bounds in JSON Schema's own words, and defaults as they are written in the file."""
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _standard(part)
    if not isinstance(schema, dict) or not isinstance(schema.get("type"), str):
        return
    for ours, theirs in _KEYWORDS.items():
        if ours in schema and not isinstance(schema[ours], dict):
            bound = schema.pop(ours)
            if schema["type"] != "string":
                schema[theirs] = bound
    for units, spell in _SPELLED.items():
        if units in schema.get("pattern", "") and isinstance(schema.get("default"), int | float):
            schema["default"] = spell(schema["default"])


def _merged(known: list[Mistake], found: list[Mistake]) -> list[Mistake]:
    """Leave out what only follows from a mistake that the document pass has at the same place.

    But where that is an unset variable and a secret is wanted, a plain value would be refused next: it is not offered.
    """
    places = {(mistake.line, mistake.column) for mistake in known}
    secret = {(mistake.line, mistake.column) for mistake in found if "out of this file: write file:" in mistake.remedy}
    return [
        replace(mistake, remedy=mistake.remedy.replace(OR_WRITE_IT, _OR_HIDE_IT))
        if (mistake.line, mistake.column) in secret
        else mistake
        for mistake in known
    ] + [mistake for mistake in found if (mistake.line, mistake.column) not in places]


def _consequence(error: ErrorDetails) -> bool:
    """A list whose items are all wrong is reported as too short as well."""
    return error["type"] == "too_short" and bool(error["input"])


def _disagreement(document: Document, loc: Loc, remedy: str) -> Mistake:
    return document.mistake(loc, remedy, got=None if document.has(loc) else "the default")


def _explain(root: type[BaseModel], document: Document, error: ErrorDetails) -> Mistake:  # noqa: PLR0911  (a table of cases)
    loc, kind = tuple(error["loc"]), error["type"]
    if loc and loc[-1] == "[key]":
        remedy = _remedy(kind, error)
        return document.mistake(loc[:-1], remedy, got=str(loc[-2]), at_key=True)
    sections = _sections(root, loc)
    loc = _real(document, loc, keep_last=kind in ("missing", "union_tag_not_found"))
    if kind == "extra_forbidden":
        return document.mistake(loc, _unknown(str(loc[-1]), sections), got="an unknown key", at_key=True)
    if kind == "missing":
        return document.mistake(loc[:-1], _missing(str(loc[-1]), sections), got=f"no {loc[-1]}", at_key=True)
    if kind in ("secret", "secret_header"):
        loc = (*loc, *((error["ctx"]["name"],) if kind == "secret_header" else ()))
        return document.mistake(loc, error["msg"], got="plain text")
    if kind.startswith("union_tag"):
        got = None if document.has((*loc, "type")) else "no type"
        *most, last = (str(_tag(section)) for section in _sections(root, (*loc, "type")))
        return document.mistake((*loc, "type"), f"write type: {', '.join(most)} or {last}", got=got)
    if kind == "forget":
        return document.mistake((*loc, "forget_after"), error["msg"])
    if kind == "url":
        return document.mistake(loc, error["msg"], got=error.get("ctx", {}).get("got", "another scheme"))
    if kind == "header":
        name = error["ctx"]["name"]
        return document.mistake((*loc, name), error["msg"], got="what HTTP cannot carry", at_key=True)
    if loc[-1:] == ("align",):
        return document.mistake(loc, "write row, or a mapping with `every`")
    limits = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    for name, words in limits.items():
        if name in error.get("ctx", {}):
            got = document.text(loc)
            return document.mistake(loc, f"write {words} {_limit(got, error['ctx'][name])}")
    return document.mistake(loc, _remedy(kind, error))


def _real(document: Document, loc: Loc, keep_last: bool) -> Loc:
    """Drop pydantic's union tags from a path: the steps that the file does not have."""
    real: Loc = ()
    for i, step in enumerate(loc):
        if document.has((*real, step)) or (keep_last and i == len(loc) - 1):
            real = (*real, step)
    return real


def _sections(root: type[BaseModel], loc: Loc) -> list[type[BaseModel]]:
    """Return the models that may stand where the last step of `loc` is a key."""
    here = [root]
    for step in loc[:-1]:
        fields = [f for model in here for name, f in model.model_fields.items() if step == (f.alias or name)]
        tagged = [model for model in here if _tag(model) == step]
        if fields:
            here = [model for f in fields for model in _models(f.annotation)]
        elif tagged:
            here = tagged
    return here


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("type")
    return get_args(kind.annotation)[0] if kind is not None else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) is Literal:
        return []
    if isinstance(annotation, type) and is_dataclass(annotation):
        return [section_of(annotation)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _keys(sections: list[type[BaseModel]]) -> list[str]:
    return sorted({f.alias or name for model in sections for name, f in model.model_fields.items()})


def _unknown(key: str, sections: list[type[BaseModel]]) -> str:
    known = _keys(sections)
    if key in known:
        return "remove it: it does not go together with another key that is here"
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"remove it; known here: {', '.join(known)}"


def _missing(key: str, sections: list[type[BaseModel]]) -> str:
    for model in sections:
        for name, f in model.model_fields.items():
            if key == (f.alias or name) and (text := description(f)):
                return f"add {key}: {' '.join(text.split()).split('. ')[0].rstrip('.')}"
    return f"add {key}"


def _remedy(kind: str, error: ErrorDetails) -> str:
    ctx = error.get("ctx", {})
    fixed = {
        "bool_type": "write true or false",
        "int_type": "write a whole number",
        "int_from_float": "write a whole number",
        "float_type": "write a number",
        "string_type": "put the value in quotes; text is wanted here",
        "path_type": "write the path of a file",
        "dict_type": "write a mapping of keys to values, indented below",
        "model_type": "write a mapping of keys to values, indented below",
        "model_attributes_type": "write a mapping of keys to values, indented below",
        "tuple_type": "write a list, each item behind `- `",
        "too_short": "add at least one",
        "string_too_short": "write some text",
    }
    if kind in fixed:
        return fixed[kind]
    match kind:
        case "value_error":
            return str(ctx["error"])
        case "literal_error":
            return f"write {str(ctx['expected']).replace(chr(39), '')}"
        case "string_pattern_mismatch":
            return _PATTERNS.get(str(ctx["pattern"]), f"write it as {ctx['pattern']}")
        case "too_long" | "string_too_long" if isinstance(error["input"], str):
            return f"shorten it to {ctx['max_length']} characters"
        case _:
            return error["msg"]


def _limit(got: str, limit: float) -> str:
    """Return a bound in the unit family that the value was written in."""
    if got.endswith("B"):
        return size_text(int(limit))
    return duration_text(float(limit)) if got[-1:].isalpha() else f"{limit:.15g}"


_OR_HIDE_IT = ", or write file:/path or credential:name here"
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": "use 1 to 64 letters, digits, _ . or -, beginning with a letter or digit",
    "^[0-9a-fA-F]{64}$": "write the 64 hexadecimal digits that `streamae inspect` prints",
    r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]/\s]+):[0-9]{1,5}$": "write address:port, for example 127.0.0.1:9469 or [::1]:9469",
}
