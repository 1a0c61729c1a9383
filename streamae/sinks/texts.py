"""A transition in words for people: one line, free of control characters, and the address where it can be seen.

An anomaly is said by its score and threshold, a verdict on a sensor by what was measured and its limit; both name the
channel.
"""

from collections.abc import Callable
from urllib.parse import quote

from streamae.core.report import Transition

__all__ = ["TEST_RULE", "link", "stream_link", "summary"]

TEST_RULE = "notify-test"  # of a notification that an operator asked for, and of no alert
_LEAD_S = 120.0  # shown before and after an alert, at least


def summary(transition: Transition) -> str:
    """One line for people."""
    where = f"{transition.group}/{transition.stream}"
    if transition.stream == "*":
        where = f"all of {transition.group}"
    if transition.rule == TEST_RULE:
        text = f"This is a test of the notifications of {transition.instance}: nothing is wrong"
    elif transition.state == "resolved":
        text = f"{where}: {transition.rule} resolved"
        if transition.rule in _MEASURED:
            text += f", {_MEASURED[transition.rule](transition)}"
        elif transition.peak_score is not None:
            text += f", peak score {transition.peak_score:.3g}"
    else:
        still = f"still firing (reminder {transition.repeat}), " if transition.repeat else ""
        said = _MEASURED.get(transition.rule, _score)(transition)
        text = f"{where}: {transition.rule} {still}{transition.severity}, {said}"
    return _printable(text)


def link(page: str, transition: Transition) -> str:
    """Return the address at which the page shows the stream at the time of the alert; "" where `page` is unknown."""
    if not page:
        return ""
    if transition.stream == "*" or transition.rule == TEST_RULE:
        return f"{page.rstrip('/')}/#/alerts"
    lead_s = max(_LEAD_S, (transition.time_s - transition.onset_s) / 2)
    span = (transition.onset_s - lead_s, transition.time_s + lead_s)
    return "/".join([stream_link(page, transition.group, transition.stream), *(f"{time_s:.3f}" for time_s in span)])


def stream_link(page: str, group: str, stream: str) -> str:
    """Return the address of a stream on the page; "" where `page` is unknown."""
    names = [quote(name.encode("utf-8", "replace"), safe="") for name in (group, stream)]
    return f"{page.rstrip('/')}/#/stream/{'/'.join(names)}" if page else ""


def _printable(text: str) -> str:
    """Return a text in which whatever cannot be printed is a replacement character."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _score(t: Transition) -> str:
    text = f"score {t.score:.3g} {'under' if t.limit else 'over'} {t.threshold:.3g}"
    text += f": {t.limit}" if t.limit else ""
    return text + (f", most of it {t.worst_channel} ({t.shares[t.worst_channel]:.0%})" if t.worst_channel else "")


def _stale(t: Transition) -> str:
    silent = f"{t.worst_channel} silent" if t.worst_channel else "nothing heard"
    return f"{silent} for {_span(t.score)}, limit {_span(t.threshold)}"


def _stuck(t: Transition) -> str:
    return f"{t.worst_channel} has not changed for {t.score:.0f} values, limit {t.threshold:.0f}"


def _out_of_range(t: Transition) -> str:
    return f"{t.worst_channel} is {t.score:.4g}, limit {t.threshold:.4g}"


def _flapping(t: Transition) -> str:
    what = f"the alert of {t.worst_channel}" if t.worst_channel else "its alert"
    return f"{what} began {t.score:.0f} times, limit {t.threshold:.0f}"


_MEASURED: dict[str, Callable[[Transition], str]] = {
    "stale": _stale,
    "stuck": _stuck,
    "out_of_range": _out_of_range,
    "flapping": _flapping,
}


def _span(seconds: float) -> str:
    if not abs(seconds) < 1e9:
        return f"{seconds:g} s"
    for unit, size_s in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.3g} {unit}"
    return f"{seconds:.3g} s"
