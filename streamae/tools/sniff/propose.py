"""Propose the `streams:` block that would watch what was seen on a broker (listen.py).

Nothing is guessed beyond what was seen: topics that could not be understood are named in comments, with what they
carried; so are the numbers that measure nothing.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from streamae.config.units import duration_text
from streamae.core.formats import FORMATS
from streamae.core.formats.sighting import snake
from streamae.core.topics import CHANNEL, Template
from streamae.tools.sniff.inventory import unheard
from streamae.tools.sniff.kinds import REST, channel_level
from streamae.tools.sniff.listen import Sniffed
from streamae.tools.sniff.pace import Pace, pace_of
from streamae.tools.sniff.understand import Found, understand

__all__ = ["propose"]

_UNKNOWN_MAX = 20
_COMMENT_MAX = 400
_YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off"}  # not text, where they stand alone
_FALSE_A_YEAR = 12  # false alarms of a small group: one a month, so that people look at each alert
_LONGER = 10  # times as long, where some were heard but once


def propose(sniffed: Sniffed, *, now_s: float, seconds: float) -> str:
    """Return the `streams:` block as YAML, with what it stands on, and what was not understood, as comments."""
    groups, unknown = understand(sniffed, now_s)
    lines = [f"# Seen in {seconds:g} s: {sniffed.messages} messages on {len(sniffed.topics)} topics."]
    if groups:
        lines += ["# Choose what to watch, train a model for each group, and remove the rest.", "streams:"]
    names: set[str] = set()
    paces = []
    for found in groups:
        level = channel_level(found.template) if not found.template.endswith(REST) else None
        battery = any("batt" in name.lower() for name, _ in found.left_out)
        pace = pace_of(found.kind, found.channels, level, seconds, battery=battery)
        paces.append(pace)
        lines += _block(found, pace, names)
    if groups:
        lines += _next_steps(sorted(names))
    lines += _listen_longer(paces, seconds) + unheard(sniffed)
    return "\n".join([*lines, *_not_understood(unknown), *_left_out(sniffed)]) + "\n"


def _block(found: Found, pace: Pace, names: set[str]) -> list[str]:
    shape = found.kind.shape
    name = _name(shape.family or found.template, names)
    n = pace.streams
    rate = f", a message about every {pace.every_s:.3g} s" if pace.every_s else ", one message each: sniff for longer"
    said = [f"# {n} stream{'' if n == 1 else 's'}{rate} on each topic"]
    if found.channels:
        said.append(f"# channels: {_comment(', '.join(found.channels))}")
    if shape.name or shape.labels:
        said[0] += "; its payloads may be of several streams"
    if shape.ahead_s:
        said.append(f"# its times are local, {shape.ahead_s / 3600:+g} h from UTC: add time_zone to use them")
    for what, those in groupby(sorted(found.left_out, key=lambda one: one[1]), key=lambda one: one[1]):
        said.append(f"# left out as {what}: {_comment(', '.join(one for one, _ in those))}")
    counters = [name for name, what in found.left_out if what == "a counter"]
    if counters:
        read = ", ".join(f"{name}: rate_per_hour" for name, _ in _channel_names(counters))
        said.append(
            f"# to watch how fast it counts, add it to the channels, and here: {_comment(f'counters: {{{read}}}')}"
        )
    topic = ", ".join(f"{key}: {text}" for key, text in _topic(found, pace))
    lines = [*said, f"{name}:", "  topics:", f"    - {{{topic}}}", *_times(pace)]
    if n > 10_000:
        lines.append(f"  max_streams: {2 * n}")
    lines.append(f"  false_alarms: {max(_FALSE_A_YEAR // max(n, 1), 1)}/year  # of each stream")
    lines.append(f"  model: {{path: {name}.pt}}  # to be trained")
    return [f"  {line}" for line in lines]


def _times(pace: Pace) -> list[str]:
    """Lines for what follows from how often messages come."""
    lines = []
    if pace.grid_s is not None:
        gap = "" if pace.gap_max_s is None else f", gap_max: {duration_text(pace.gap_max_s)}"
        why = "what does not change is not sent" if pace.on_change else "channels come apart, or not regularly"
        lines.append(f"  align: {{every: {duration_text(pace.grid_s)}, method: hold{gap}}}  # {why}")
    if pace.stale_after_s is not None:
        lines.append(f"  health: {{stale_after: {duration_text(pace.stale_after_s)}}}")
    if pace.confirm_s is not None:
        begin, end = map(duration_text, pace.confirm_s)
        lines.append(f"  alert: {{for: {begin}, keep_firing_for: {end}}}")
    return lines


def _topic(found: Found, pace: Pace) -> list[tuple[str, str]]:
    shape, template = found.kind.shape, found.template
    keys = [("topic", _quoted(template)), ("payload", shape.kind)]
    taken = set(Template.parse(template).labels)
    named = CHANNEL in taken
    if FORMATS[shape.kind].plain or (named and shape.kind != "json"):
        if named and (found.left_out or shape.kind != "number"):  # topics may carry more than what is meant
            keys.append(("values", _mapping([(one, one) for one in found.channels])))
        return keys
    if shape.tags is not None:
        pairs = [(one, one) for one in shape.values]
        tags = shape.tags
        keys += [("id", _quoted(tags.id)), ("value", _quoted(tags.value)), ("values", _mapping(pairs))]
        if tags.quality is not None:
            keys.append(("quality", _quoted(tags.quality)))
    elif named:
        keys.append(("value", _quoted(shape.values[0])))
    else:
        keys.append(("values", _mapping(_channel_names(shape.values))))
    labels: dict[str, str] = {}
    for path in shape.labels:
        label = path if FORMATS[shape.kind].records is not None else snake(re.split(r"[.\[]", path)[-1].strip('"'))
        label = label if re.fullmatch(r"[A-Za-z_]\w*", label) and label != CHANNEL else f"{label}_tag"
        label = re.sub(r"\W", "_", label)
        labels[f"{label}_tag" if label in taken or label in labels else label] = path
    keys += [(key, _mapping(pairs)) for key, pairs in (("labels", [*labels.items()]), ("where", shape.where)) if pairs]
    optional = (("time", None if shape.ahead_s else shape.time), ("samples", shape.samples), ("name", shape.name))
    keys += [(key, _quoted(path)) for key, path in optional if path is not None]
    if shape.entries:
        keys.append(("sample_every", f"{max((pace.every_s or 1.0) / shape.entries, 0.001):.3g}s"))
    return keys


def _mapping(pairs: Sequence[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{_quoted(a)}: {_quoted(b)}" for a, b in pairs) + "}"


def _next_steps(names: Sequence[str]) -> list[str]:
    """Say how the block becomes a model that watches."""
    group = names[0] if len(names) == 1 else "GROUP"
    return [
        "# Put the block and `mqtt:` into streamae.yaml; then record some normal days, learn them, and watch:",
        "#   streamae record -c streamae.yaml normal.jsonl --duration 4d",
        f"#   streamae train --recording normal.jsonl --streams streamae.yaml --group {group}",
        "#   streamae check -c streamae.yaml && streamae run -c streamae.yaml",
    ]


def _listen_longer(paces: Sequence[Pace], seconds: float) -> list[str]:
    """Say for how long to listen, where the period of some is not known yet."""
    once, every = sum(pace.once for pace in paces), sum(pace.streams for pace in paces)
    if not once or seconds <= 0:
        return []
    longest_s = max((pace.longest_s for pace in paces), default=0.0)
    wanted_s = max(_LONGER * seconds, 3 * longest_s, 60.0)
    unit = 3600.0 if wanted_s > 7200 else 60.0
    wanted = duration_text(min(-(-wanted_s // unit) * unit, 86_400.0))
    return [
        f"# {once} of {every} streams were heard only once, so how often they speak is not known, and others may not",
        f"# have been heard at all. Listen for longer, with --duration {wanted}; battery sensors take an hour or more.",
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
