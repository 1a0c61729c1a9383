"""Propose the `streams:` block that would watch what was seen on a broker (listen.py).

Nothing is guessed beyond what was seen: topics that could not be understood are named in comments, with what they
carried.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from streamae.core.formats import FORMATS
from streamae.core.formats.spec import Sighting
from streamae.core.topics import CHANNEL, Template
from streamae.tools.sniff.known_formats import known_format, put_together
from streamae.tools.sniff.listen import Seen, Sniffed
from streamae.tools.sniff.shapes import REST, Shape, TopicKind, kinds_of, shape_of, template_of

__all__ = ["Found", "propose", "understand"]

_UNKNOWN_MAX = 20
_COMMENT_MAX = 400
_YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off"}  # not text, where they stand alone
_NICE_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


Found = tuple[str, tuple[str, ...], TopicKind]  # a topic template, the channels that it names, and the topics behind it


def understand(sniffed: Sniffed, now_s: float) -> tuple[list[Found], dict[str, str]]:
    """Return the groups to propose (template, channels, topics), and for each other topic why it is in none."""
    shapes: dict[str, Shape] = {}
    unknown: dict[str, str] = {}
    places: dict[str, tuple[str, dict[str, Sighting]]] = {}  # place -> format, and what was seen on its topics
    for topic, seen in sniffed.topics.items():
        kind, found = known_format(topic, seen.payloads) or ("", shape_of(seen.payloads, now_s))
        if isinstance(found, Sighting):
            places.setdefault(found.place or topic, (kind, {}))[1][topic] = found
        elif isinstance(found, Shape):
            shapes[topic] = found
        else:
            unknown[topic] = found
    for place, (kind, sightings) in places.items():
        shape = put_together(kind, sightings)
        if isinstance(shape, str):
            unknown.update(dict.fromkeys(sightings, shape))
        else:
            shapes[place] = shape
            timed = [topic for topic, one in sightings.items() if one.samples] or [*sightings]
            sniffed.places[place] = max((sniffed.topics[topic] for topic in timed), key=lambda seen: seen.count)
    groups = _groups(kinds_of(shapes), unknown)
    for place in unknown.keys() & places.keys():
        why = unknown.pop(place)
        unknown.update(dict.fromkeys(places[place][1], why))
    return groups, unknown


def propose(sniffed: Sniffed, *, now_s: float, seconds: float) -> str:
    """Return the `streams:` block as YAML, with what it stands on, and what was not understood, as comments."""
    groups, unknown = understand(sniffed, now_s)
    lines = [f"# Seen in {seconds:g} s: {sniffed.messages} messages on {len(sniffed.topics)} topics."]
    if groups:
        lines += ["# Choose what to watch, train a model for each group, and remove the rest.", "streams:"]
    names: set[str] = set()
    for template, channels, kind in groups:
        lines += _block(template, channels, kind, sniffed.topics | sniffed.places, names)
    if groups:
        lines += _next_steps(sorted(names)[0] if len(names) == 1 else "GROUP")
    return "\n".join([*lines, *_not_understood(unknown), *_left_out(sniffed)]) + "\n"


def _groups(kinds: Sequence[TopicKind], unknown: dict[str, str]) -> list[Found]:
    """Give each kind a template of its own; what would hide behind another's goes before it, or to `unknown`."""
    taken: list[Found] = []
    for kind in kinds:
        template, channels = template_of(kind)
        hidden = [found for found in taken if _covers(found[0], kind.topics)]
        if not hidden:
            taken.append((template, channels, kind))
        elif len(kind.topics) == 1 and not set("{}") & set(kind.topics[0]):
            # One odd topic: its full name, before the template that it hides behind.
            taken.insert(taken.index(hidden[0]), (kind.topics[0], (), kind))
        else:
            odd = f"another shape ({', '.join(kind.shape.values) or 'a number'}) where {hidden[0][0]} has its own"
            unknown.update(dict.fromkeys(kind.topics, odd))
    return taken


def _covers(template: str, topics: Sequence[str]) -> bool:
    parsed = Template.parse(template)
    return any(parsed.match(topic) is not None for topic in topics)


def _block(
    template: str, channels: tuple[str, ...], kind: TopicKind, topics: Mapping[str, Seen], names: set[str]
) -> list[str]:
    name = _name(kind.shape.family or template, names)
    rates = sorted(every for topic in kind.topics if (every := topics[topic].every_s) is not None)
    every_s = rates[len(rates) // 2] if rates else None
    rest, form = template.endswith(REST), FORMATS[kind.shape.kind]
    streams = len(kind.topics) / (1 if rest else max(1, len(channels)))
    rate = f", a message about every {every_s:.3g} s" if every_s else ", one message each: sniff for longer"
    said = [f"# {streams:.0f} stream{'' if round(streams) == 1 else 's'}{rate} on each topic"]
    if channels:
        said.append(f"# channels: {_comment(', '.join(channels))}")
    if kind.shape.name or kind.shape.labels:
        said[0] += "; its payloads may be of several streams"
    if kind.shape.ignored:
        said.append(f"# left out as not measured: {_comment(', '.join(kind.shape.ignored))}")
    topic = ", ".join(f"{key}: {text}" for key, text in _topic(template, kind.shape, every_s))
    lines = [*said, f"{name}:", "  topics:", f"    - {{{topic}}}"]
    grid_s = next((nice for nice in _NICE_S if every_s is not None and nice >= 0.75 * every_s), 1)
    if form.on_change:
        hold = f"gap_max: {max(60.0, 30 * grid_s):g}s"
        lines += [f"  align: {{every: {grid_s:g}s, method: hold, {hold}}}  # what does not change is not sent"]
    elif channels:
        lines += [f"  align: {{every: {grid_s:g}s, method: hold}}  # channels come apart"]
    if streams > 10_000:
        lines.append(f"  max_streams: {2 * round(streams)}")
    lines.append(f"  model: {{path: {name}.pt}}  # to be trained")
    return [f"  {line}" for line in lines]


def _topic(template: str, shape: Shape, every_s: float | None) -> list[tuple[str, str]]:
    keys = [("topic", _quoted(template)), ("payload", shape.kind)]
    named = CHANNEL in Template.parse(template).labels
    if FORMATS[shape.kind].plain or (named and shape.kind != "json"):
        return keys
    if named:
        keys.append(("value", _quoted(shape.values[0])))
    else:
        names = _channel_names(shape.values)
        pairs = (f"{_quoted(n)}: {_quoted(p)}" for n, p in names)
        keys.append(("values", "{" + ", ".join(pairs) + "}"))
    taken = set(Template.parse(template).labels)
    labels = [(f"{tag}_tag" if tag in taken else tag, tag) for tag in shape.labels]
    keys += [
        (key, "{" + ", ".join(f"{_quoted(a)}: {_quoted(b)}" for a, b in pairs) + "}")
        for key, pairs in (("labels", labels), ("where", shape.where))
        if pairs
    ]
    optional = (("time", shape.time), ("samples", shape.samples), ("name", shape.name))
    keys += [(key, _quoted(path)) for key, path in optional if path is not None]
    if shape.entries:
        keys.append(("sample_every", f"{max((every_s or 1.0) / shape.entries, 0.001):.3g}s"))
    return keys


def _next_steps(group: str) -> list[str]:
    """Say how the block becomes a model that watches."""
    return [
        "# Put the block and `mqtt:` into streamae.yaml; then record some normal days, learn them, and watch:",
        "#   streamae record -c streamae.yaml normal.jsonl --duration 4d",
        f"#   streamae train --recording normal.jsonl --streams streamae.yaml --group {group}",
        "#   streamae check -c streamae.yaml && streamae run -c streamae.yaml",
    ]


def _quoted(text: str) -> str:
    """Text as a double-quoted scalar of YAML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _channel_names(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Name each channel by the end of its path, by more of it where two would be called the same."""
    steps = [re.findall(r'"([^"]+)"|([^.\[\]"/:]+)', path) for path in paths]
    words = [[quoted or plain for quoted, plain in found] for found in steps]
    names = [[w for w in word if not w.isdigit()][-1:] + [w for w in word[-1:] if w.isdigit()] for word in words]
    short = ["_".join(name) for name in names]
    return [
        (name if short.count(name) == 1 else "_".join(word), path)
        for name, word, path in zip(short, words, paths, strict=True)
    ]


def _name(template: str, names: set[str]) -> str:
    literal = [level for level in template.split("/") if "{" not in level and level]
    base = re.sub(r"[^A-Za-z0-9]+", "-", literal[0] if "{" in template and literal else template).strip("-") or "group"
    plain = base[0].isalpha() and base.lower() not in _YAML_WORDS
    base = base if plain else f"group-{base}"
    name, n = base, 2
    while name in names:
        name, n = f"{base}-{n}", n + 1
    names.add(name)
    return name


def _not_understood(unknown: Mapping[str, str]) -> list[str]:
    """Comments on topics that no group covers, those of one reason and tree together."""
    if not unknown:
        return []
    lines = ["# Not understood, and so not in the block:"]
    keyed = sorted((why, topic.partition("/")[0], topic) for topic, why in unknown.items())
    for (why, _), same in groupby(keyed, key=lambda key: key[:2]):
        topics = [topic for _, _, topic in same]
        more = f" and {len(topics) - 1} more like it" if len(topics) > 1 else ""
        lines.append(f"#   {_comment(topics[0])}{more}: {_comment(why)}")
    if len(lines) > _UNKNOWN_MAX + 1:
        lines[_UNKNOWN_MAX + 1 :] = [f"#   … and {len(lines) - 1 - _UNKNOWN_MAX} further kinds"]
    return lines


def _left_out(sniffed: Sniffed) -> list[str]:
    lines = []
    if sniffed.retained:
        lines.append(f"# {sniffed.retained} retained messages were not looked at: they are a memory, not samples.")
    if sniffed.strange:
        lines.append(f"# {sniffed.strange} messages on topics that are not UTF-8, or too many, were not looked at.")
    if not sniffed.messages:
        lines.append("# Nothing was published in that time: listen longer, or check the rights of this user.")
    return lines


def _comment(text: str) -> str:
    """Text of others as it can stand in a comment: one line, nothing that a terminal obeys."""
    return "".join(c if c.isprintable() else "?" for c in text)[:_COMMENT_MAX]
