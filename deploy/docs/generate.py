"""Writes config-reference.md, formats.md, metrics.md, api.md and commands.md from the code they describe: `make docs`.

A test holds the files against this text, so a reference never says what was true once.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from streamae.cli import main as program
from streamae.config import json_schema
from streamae.config.databases import History
from streamae.core.formats import FORMATS
from streamae.core.formats.spec import COMMON_KEYS, Format
from streamae.core.types import Drop
from streamae.metrics import CATALOGUE, PER_STREAM, Metric
from streamae.web.app import API
from streamae.web.openapi import openapi

__all__ = [
    "api_reference", "commands_reference", "config_reference", "documents", "formats_reference", "main", "metrics_reference",
]  # fmt: skip

FOLDER = Path(__file__).parent
MADE = "<!-- Made by `make docs` from {}; change that, not this file. -->\n"
_PATTERNS = {
    "^(auto|off)": "auto, off or duration",
    "now|-": "moment",
    "ms|s|m": "duration",
    "B|kB|KiB": "size",
    "hour|day": "rate, such as 1/week",
}
Schema = dict[str, Any]


def documents() -> dict[str, str]:
    """Return the text of each file, by its name."""
    return {
        "config-reference.md": config_reference(),
        "formats.md": formats_reference(),
        "metrics.md": metrics_reference(),
        "api.md": api_reference(openapi(API)),
        "commands.md": commands_reference(program),
    }


def config_reference() -> str:
    """Return every key of streamae.yaml and of train.yaml's sources: type, default, meaning."""
    settings, history = json_schema(), json_schema(History)
    lines = [
        "# Every key of the configuration",
        "",
        MADE.format("streamae/config"),
        "`deploy/streamae.yaml` shows the same keys in their places, `deploy/train.yaml` those of `sources:`;",
        "`streamae check` says what a file would do, `streamae schema` prints this as JSON Schema for editors.",
        "",
        "Durations carry a unit (`ms s m h d w`), sizes too (`B kB KiB MB MiB GB GiB`). Paths start at the folder of",
        "the file. A *secret* is `file:/path`, `credential:name` (systemd) or `${NAME}`, never plain text.",
        "",
        *_file("streamae.yaml", settings),
        *_file("train.yaml", history),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _file(name: str, schema: Schema) -> Iterator[str]:
    """The file's own keys, then each section in the order in which it is first mentioned."""
    yield from _section(name, "the file itself", schema, schema)
    for section, place in _places(schema, schema, "").items():
        yield from _section(section, f"`{place}`", schema["$defs"][section], schema)


def _places(schema: Schema, part: Schema, here: str) -> dict[str, str]:
    """Where in the file each section stands: its name -> the path of keys that leads to it."""
    found: dict[str, str] = {}
    for key, about in part.get("properties", {}).items():
        place = f"{here}.{key}".removeprefix(".")
        place += "[]" if about.get("type") == "array" else ".<name>" if "additionalProperties" in about else ""
        for section in _sections(about):
            found.setdefault(section, place)
            for name, deeper in _places(schema, schema["$defs"][section], place).items():
                found.setdefault(name, deeper)
    return found


def _sections(about: Schema) -> Iterator[str]:
    if "$ref" in about:
        yield about["$ref"].rpartition("/")[2]
    for inner in ("items", "additionalProperties"):
        if isinstance(about.get(inner), dict):
            yield from _sections(about[inner])
    for one in (*about.get("anyOf", ()), *about.get("oneOf", ())):
        yield from _sections(one)


def _section(name: str, place: str, part: Schema, schema: Schema) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield f"At {place}. {_plain(part.get('description', ''))}"
    yield ""
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    required = set(part.get("required", ()))
    for key, about in part.get("properties", {}).items():
        target = schema["$defs"].get(about.get("$ref", "").rpartition("/")[2], {})
        needed = key in required and not (target and not target.get("required"))  # no mapping: one with all defaults
        default = "**required**" if needed else _default(about)
        meaning = about.get("description") or target["description"]
        yield f"| `{key}` | {_type(about)} | {default} | {_cell(_plain(meaning))} |"
    yield ""


def _plain(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(about: Schema) -> str:
    value = about.get("default")
    if "$ref" in about and "enum" not in about:
        return "its defaults"
    if value is None or value in ([], {}, ""):
        return "none" if value is None else "empty"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{_cell(text)}`"


def _type(about: Schema) -> str:  # noqa: PLR0911  (a table of cases)
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in about:
            kinds = dict.fromkeys(_type(one) for one in about[union] if one.get("type") != "null")
            return " or ".join(kinds)
    if "const" in about or "enum" in about:
        return " ".join(f"`{one}`" for one in about.get("enum", [about.get("const")]))
    if about.get("writeOnly"):
        return "secret"
    match about.get("type"):
        case "array":
            parts = about.get("prefixItems")  # a tuple has them instead
            return f"[{', '.join(map(_type, parts))}]" if parts else f"list of {_type(about['items'])}"
        case "object":
            values = about["additionalProperties"]
            return "mapping" if values is True else f"mapping to {_type(values)}"
        case "string":
            pattern = about.get("pattern", "")
            return next((name for mark, name in _PATTERNS.items() if mark in pattern), about.get("format", "text"))
        case "integer" | "number":
            return _number(about)
        case "boolean":
            return "`true` `false`"
        case other:
            raise ValueError(f"no words for the type {other}: {about}")


def _number(about: Schema) -> str:
    kind = "whole number" if about["type"] == "integer" else "number"
    low, high = about.get("minimum", about.get("exclusiveMinimum")), about.get("maximum")
    above = "above " if "exclusiveMinimum" in about else ""
    if low is None:
        return kind
    return f"{kind}, {above}{low}" + (f" to {high}" if high is not None else " or more" if not above else "")


def formats_reference() -> str:
    """Return every payload format: whose it is, what a topic may say of it, and an example that loads."""
    lines = [
        "# Every payload format",
        "",
        MADE.format("the files of streamae/core/formats"),
        "What `payload:` in a topic can be; `streamae sniff` recognises them all. *Time*: whether a payload can carry",
        "the time of its samples; else its arrival counts, and what a broker kept during an outage counts as of now.",
        "*Channel*: whether the topic may have a `{channel}`. *Keys*: what a topic may have beside `topic` and",
        "`payload`; [config-reference.md](config-reference.md#topic) says what they mean. Every format also takes",
        f"{', '.join(f'`{key}`' for key in COMMON_KEYS)}. [payloads.md](payloads.md) says how numbers, words, holes, times and JSON that names",
        "its own machines are read.",
        "",
        "| payload | what | time | channel | keys |",
        "|---|---|---|---|---|",
        *(_format_line(form) for form in FORMATS.values()),
        "",
        "## Examples",
        "",
        "One item of a group's `topics:` each; where only what changes is published, with `align:` below it.",
    ]
    for form in FORMATS.values():
        align = ["align: {every: 1s, method: hold, gap_max: 10m}"] if form.on_change else []
        lines += ["", f"**{form.name}**", "", "```yaml", f"topics: [{form.example}]", *align, "```"]
    return "\n".join(lines) + "\n"


def _format_line(form: Format) -> str:
    time = (
        "yes"
        if form.timed
        else "by `time`"
        if "time" in form.keys
        else "by `time_zone`"
        if "time_zone" in form.keys
        else "no"
    )
    keys = " ".join(f"`{key}`" for key in form.keys)
    return (
        f"| `{form.name}` | [{_cell(form.about)}]({form.link}) | {time} | {'yes' if form.channel else 'no'} | {keys} |"
    )


def metrics_reference() -> str:
    """Return every metric with kind, labels and meaning."""
    lines = [
        "# Every metric",
        "",
        MADE.format("streamae/metrics/catalogue.py and streamae/core/types.py"),
        "All begin with `streamae_`. Units are seconds, bytes or ratios; labels are bounded by the configuration,",
        "not by topics. `deploy/prometheus/rules` and `deploy/grafana/dashboards` use them. *Status*: a metric that can",
        "say of trouble has a rule and a panel there, and `/api/v1/status` or the stream has it under this key.",
        "",
        *_metrics(CATALOGUE),
        "",
        "## For single streams",
        "",
        "With `metrics.per_stream: true`, for at most `metrics.per_stream_max` streams; gone when one falls silent:",
        "",
        *_metrics(PER_STREAM),
        "",
        "## Reasons of `streamae_messages_dropped_total`",
        "",
        ", ".join(f"`{reason.value}`" for reason in sorted(Drop)),
    ]
    return "\n".join(lines) + "\n"


def _metrics(metrics: tuple[Metric, ...]) -> Iterator[str]:
    yield "| metric | kind | labels | meaning | status |"
    yield "|---|---|---|---|---|"
    for metric in metrics:
        name = f"streamae_{metric.name}" + ("_total" if metric.kind == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        place = "" if metric.trouble is None else f"`{metric.trouble.key}`"
        place += f" of kind `{metric.trouble.kind}`" if metric.trouble and metric.trouble.kind else ""
        yield f"| `{name}` | {metric.kind} | {labels} | {_cell(metric.help)} | {place} |"


def api_reference(api: Schema) -> str:
    """Return the paths of the page's port, what they take and give, and every property of that."""
    lines = ["# The JSON API", "", MADE.format("the types in streamae/web"), _plain(api["info"]["description"])]
    lines += ["", "The daemon serves the same as OpenAPI under `/api/v1/openapi.json`.", ""]
    for path, methods in api["paths"].items():
        for method, about in methods.items():
            lines += _path(api, method, path, about)
    lines += ["# What it takes and gives", "", "A property that is not always there is left out, not null.", ""]
    for name, about in sorted(api["components"]["schemas"].items()):
        lines += _properties(name, about)
    return "\n".join(lines).rstrip() + "\n"


def _path(api: Schema, method: str, path: str, about: Schema) -> Iterator[str]:
    yield f"## {method.upper()} `{path}`"
    yield ""
    yield ". ".join(_plain(about[key]).rstrip(".") for key in ("summary", "description") if key in about) + "."
    yield ""
    given = about.get("parameters", ())
    if given:
        yield "| parameter | type | default | meaning |"
        yield "|---|---|---|---|"
    for one in given:
        default = "**required**" if one.get("required") else _default(one["schema"])
        yield f"| `{one['name']}` | {_type(one['schema'])} | {default} | {_cell(_plain(one['description']))} |"
    if given:
        yield ""
    if "requestBody" in about:
        body = about["requestBody"]
        yield f"Body: {'. '.join(filter(None, (_content(body), _plain(body.get('description', '')))))}."
        yield ""
    for status, answer in about["responses"].items():
        said = _resolved(api, answer)
        kind = _content(said) if said is answer else ""  # each mistake is an Error
        yield f"- {status}: {_plain(said['description'])}" + (f" ({kind})" if kind else "")
    yield ""


def _content(part: Schema) -> str:
    """A link to what a body or an answer consists of; empty where that is text."""
    ((_, content),) = part["content"].items()
    return _type(content["schema"]) if "$ref" in content["schema"] else ""


def _properties(name: str, about: Schema) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield _plain(about["description"])
    yield ""
    yield "| property | type | given | meaning |"
    yield "|---|---|---|---|"
    for key, one in about["properties"].items():
        null = " or null" if {"type": "null"} in one.get("anyOf", ()) else ""
        given = "always" if key in about.get("required", ()) else "not always"
        yield f"| `{key}` | {_type(one)}{null} | {given} | {_cell(_plain(one['description']))} |"
    yield ""


def _resolved(api: Schema, part: Schema) -> Schema:
    if "$ref" not in part:
        return part
    for step in part["$ref"].removeprefix("#/").split("/"):
        api = api[step]
    return api


def commands_reference(group: click.Group) -> str:
    """Return every command: what it does, what it takes."""
    lines = ["# Every command", "", MADE.format("streamae/cli"), "Each command prints the same with `--help`, such as `streamae train --help`.", ""]
    for name, command in sorted(group.commands.items()):
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        options = [one for one in command.params if isinstance(one, click.Option)]
        usage = " ".join(["streamae", name, *map(_argument, arguments)])
        lines += [f"## {name}", "", f"`{usage}`", "", _plain(command.help or ""), ""]
        if options:
            lines += ["| option | default | meaning |", "|---|---|---|", *map(_option, options), ""]
    return "\n".join(lines).rstrip() + "\n"


def _argument(argument: click.Argument) -> str:
    name = argument.human_readable_name.upper()
    return (name if argument.required else f"[{name}]") + ("..." if argument.nargs == -1 else "")


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    shown = option.default if option.show_default else None
    default = "**required**" if option.required else "" if shown is None else f"`{shown}`"
    choices = f" One of {', '.join(option.type.choices)}." if isinstance(option.type, click.Choice) else ""
    return f"| {names} | {default} | {_cell(_plain(f'{option.help}{choices}'))} |"


def main() -> None:
    """Write the files."""
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
