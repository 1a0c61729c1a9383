"""The log sink: one line per transition, or one for many when there is a storm.

Lines are in logfmt with every value quoted as JSON where it needs to be: no name, whatever a topic holds, can forge a
line or colour a terminal.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from streamae.core.report import Transition
from streamae.core.setting import Setting
from streamae.sinks.payload import counts, rfc3339, worst
from streamae.sinks.sink import SinkUnavailableError
from streamae.sinks.spec import Installation, RemindedSettings, SinkSpec
from streamae.sinks.texts import link

__all__ = ["SINK", "LogSink", "LogSinkOptions"]

_LINES_MAX = 10
_LEVELS = {"critical": logging.ERROR, "warning": logging.WARNING}


@dataclass(frozen=True, kw_only=True)
class LogSinkOptions(RemindedSettings):
    """Alerts as lines of the program's own log."""

    type: Literal["log"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "log"
    """What the outbox and the metrics call it; no two sinks may share one."""


class LogSink:
    """Writes to the logger `streamae.alerts`; it never refuses."""

    batch_max = 1000
    refresh_s = None

    def __init__(self, name: str = "log", logger: logging.Logger | None = None, page: str = "") -> None:
        self.name, self._page = name, page
        self._logger = logger or logging.getLogger("streamae.alerts")

    def send(self, transitions: Sequence[Transition]) -> None:
        """Log them, the worst ones and a count when they are many."""
        shown = transitions
        if len(transitions) > _LINES_MAX:
            shown = worst(transitions, _LINES_MAX)
            parts = [("alerts", len(transitions)), *((f"{g}.{s}", n) for (g, s), n in counts(transitions).items())]
            self._logger.warning("%s", _logfmt([*parts, ("shown", len(shown))]))
        for transition in shown:
            self._logger.log(_level(transition), "%s", line(transition, self._page))

    def rehearse(self, test: Transition) -> None:
        """Write the line, and log it nowhere."""
        line(test, self._page)

    def try_out(self, test: Transition) -> str:
        """Log it; SinkUnavailableError where the level of the log would hide it, as it hides alerts."""
        if not self._logger.isEnabledFor(_level(test)):
            hidden = logging.getLevelName(_level(test)).lower()
            raise SinkUnavailableError(f"log: `log: level` hides what is a {hidden}; set it to {hidden} or info")
        self.send([test])
        return "written to the log"

    def close(self) -> None:
        """Do nothing: the logger is not ours."""


def line(transition: Transition, page: str = "") -> str:
    """One transition in logfmt."""
    peak, url = transition.peak_score, link(page, transition)
    return _logfmt(
        [
            ("alert", transition.state),
            *([("reminder", transition.repeat)] if transition.repeat else []),
            ("severity", transition.severity),
            ("group", transition.group),
            ("stream", transition.stream),
            ("rule", transition.rule),
            ("score", f"{transition.score:.6g}"),
            *([] if peak is None else [("peak", f"{peak:.6g}")]),
            ("threshold", f"{transition.threshold:.6g}"),
            *([("limit", transition.limit)] if transition.limit else []),
            ("channel", transition.worst_channel),
            ("onset", rfc3339(transition.onset_s)),
            ("time", rfc3339(transition.time_s)),
            ("key", transition.notice_key),
            *([("url", url)] if url else []),
        ]
    )


def _level(transition: Transition) -> int:
    return logging.INFO if transition.state == "resolved" else _LEVELS.get(transition.severity, logging.WARNING)


def _logfmt(pairs: Sequence[tuple[str, object]]) -> str:
    return " ".join(f"{_token(key)}={_token(str(value))}" for key, value in pairs)


def _token(text: str) -> str:
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain and text else json.dumps(text)


def _made(settings: LogSinkOptions, installation: Installation) -> LogSink:
    return LogSink(settings.name, page=installation.page)


SINK = SinkSpec(LogSinkOptions, _made)
