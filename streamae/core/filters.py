"""MQTT topic filters beside each other: which one stands for another, and which match some topic both."""

from collections.abc import Iterable

__all__ = ["covers", "crossing", "overlap"]


def overlap(a: str, b: str) -> bool:
    """Whether some topic matches both MQTT filters."""
    left, right = a.split("/"), b.split("/")
    if (left[0][:1] == "$") != (right[0][:1] == "$"):
        return False  # MQTT: wildcards at the first level do not match the broker's own topics
    for x, y in zip(left, right, strict=False):
        if "#" in (x, y):
            return True
        if "+" not in (x, y) and x != y:
            return False
    shorter, longer = sorted((left, right), key=len)
    return len(left) == len(right) or longer[len(shorter) :] == ["#"]


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that matches the filter `narrow` matches `wide` as well."""
    left, right = wide.split("/"), narrow.split("/")
    if left[0] in ("+", "#") and right[0][:1] == "$":
        return False  # MQTT: wildcards at the first level do not match the broker's own topics
    for x, y in zip(left, right, strict=False):
        if x == "#":
            return True
        if y == "#" or x not in ("+", y):
            return False
    return len(left) == len(right) or left[len(right) :] == ["#"]


def crossing(filters: Iterable[str]) -> list[str]:
    """Return the filters that have a topic in common with another one: a broker may deliver such a message twice."""
    every = list(dict.fromkeys(filters))
    return [one for one in every if any(overlap(one, other) for other in every if other != one)]
