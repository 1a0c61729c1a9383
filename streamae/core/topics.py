"""Topic templates: `plant/{line}/{pump}/{channel}` names what each level of an MQTT topic means.

A template becomes the MQTT filter `plant/+/+/+` for the broker and is matched again on our side, level by level, so
that a leading slash or another depth can never shift a label by one. `{name}` may be a part of a level
(`sensor-{id}`); the broker then sees `+`. The label `channel` names the channel, all others name the stream; as
`{channel...}` at the end it takes all levels that are left (`N/+/battery/{battery}/{channel...}`), and the broker sees
`#`. Below such a place there is whatever there is: what is none of the group's channels is passed over, not refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["CHANNEL", "Template", "render"]

CHANNEL = "channel"
_FIELD = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_REST = "{" + CHANNEL + "...}"  # the label that takes several levels; a stream's name could not be taken apart again
_WILD = {"+": "[^/]*", "#": ".*", _REST: f"(?P<{CHANNEL}>.+)"}
_SHARED = {"$share": 2, "$queue": 1}  # levels before the topic of a shared subscription, in MQTT 5 and before it
_TOPIC_MAX_BYTES = 65_535  # MQTT: a topic is a string with a two-byte length


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Several labels in one level, and the texts between them; the pattern gives all of it to the first."""

    names: tuple[str, ...]
    between: tuple[str, ...]

    def part(self, labels: dict[str, str]) -> bool:
        """Give each label as much as leaves one character for those behind it; False where that cannot be.

        From the right, each text's last place is the right one. A regular expression would try every place with every
        other, and one long topic would hold up everything for minutes.
        """
        rest = labels[self.names[0]]
        for name, text in zip(self.names[:0:-1], self.between[::-1], strict=True):
            at = rest.rfind(text, 1, len(rest) - 1)
            if at < 0:
                return False
            labels[name], rest = rest[at + len(text) :], rest[:at]
        labels[self.names[0]] = rest
        return True


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed topic template; `filter` is the MQTT subscription, `labels` are the names in order of appearance."""

    text: str
    filter: str
    labels: tuple[str, ...]
    pattern: re.Pattern[str]
    crowds: tuple[_Crowd, ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Parse a template; raises ValueError with the reason where it is not one."""
        if not text or "\0" in text or len(text.encode()) > _TOPIC_MAX_BYTES:
            raise ValueError("a topic template is 1 to 65535 bytes without NUL")
        levels = text.split("/")
        if levels[0] in _SHARED:
            raise ValueError(
                f"write the topic without {'/'.join(levels[: _SHARED[levels[0]]])}/: of a shared subscription each "
                "subscriber gets a part of the messages, so every window would have holes"
            )
        filters = [_parse_level(level, last=i == len(levels) - 1) for i, level in enumerate(levels)]
        if text.startswith("$") and filters[0] == "+":
            raise ValueError(f"spell level {levels[0]!r} out: MQTT's wildcards match no first level that begins with $")
        parts = [_FIELD.split(level) for level in levels]  # texts and names by turns
        labels = tuple(CHANNEL if level == _REST else name for level in levels for name in _FIELD.split(level)[1::2])
        _check_labels(labels)
        crowds = tuple(_Crowd(tuple(part[1::2]), tuple(part[2:-1:2])) for part in parts if len(part) > 3)
        pattern = "/".join(_WILD.get(level) or _level_pattern(part) for level, part in zip(levels, parts, strict=True))
        if pattern.endswith("/.*"):
            pattern = pattern[: -len("/.*")] + "(?:/.*)?"  # MQTT: `a/#` also matches `a` itself
        return cls(text, "/".join(filters), labels, re.compile(pattern, re.DOTALL), crowds)

    @property
    def takes_rest(self) -> bool:
        """Whether the channel is all that is left of the topic."""
        return self.text.endswith(_REST)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return the labels that the topic carries, or None where the template does not match it."""
        if topic.startswith("$") and not self.text.startswith("$"):
            return None  # MQTT: wildcards at the first level do not match the broker's own topics
        return self.read(topic)

    def read(self, text: str) -> dict[str, str] | None:
        """Return the labels of any text that was made by this template, be it a topic or a stream's name."""
        found = self.pattern.fullmatch(text)
        labels = {} if found is None else found.groupdict()
        return None if found is None or not all(crowd.part(labels) for crowd in self.crowds) else labels


def _parse_level(level: str, *, last: bool) -> str:
    """Return the MQTT filter of one level, refusing what MQTT or our labels do not allow."""
    if level in ("#", _REST):
        if not last:
            raise ValueError(f"{level!r} must be the last level")
        return "#"
    if level == "+":
        return level
    if "#" in level or "+" in level:
        raise ValueError(f"wildcard inside level {level!r}: '+' and '#' stand alone")
    rest = _FIELD.sub("", level)
    if "{" in rest or "}" in rest:
        raise ValueError(f"unbalanced brace in level {level!r}")
    if "}{" in level:
        raise ValueError(f"two labels touch in level {level!r}: put a separator between them")
    return "+" if _FIELD.search(level) else level


def _level_pattern(parts: Sequence[str]) -> str:
    """Return the pattern of a level that is not a wildcard: texts and names by turns."""
    label = f"(?P<{parts[1]}>[^/]+)" if len(parts) > 1 else ""
    return re.escape(parts[0]) + label + (re.escape(parts[-1]) if label else "")


def _check_labels(labels: Sequence[str]) -> None:
    for i, name in enumerate(labels):
        if name.endswith("..."):
            raise ValueError(f"label {{{name}}}: only {_REST} takes several levels, as the last one and alone in it")
        if not _NAME.match(name):
            raise ValueError(f"label {{{name}}}: a name is letters, digits and _, not starting with a digit")
        if name in labels[:i]:
            raise ValueError(f"label {{{name}}} occurs twice")


def render(template: str, labels: Mapping[str, str]) -> str:
    """Fill a name or topic template with labels; raises KeyError with the name of a label that is not there."""
    return _FIELD.sub(lambda found: labels[found[1].removesuffix("...")], template)
