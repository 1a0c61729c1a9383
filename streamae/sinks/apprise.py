"""The Apprise sink: short messages for people, by e-mail, ntfy, Telegram, Teams and whatever else Apprise knows.

Apprise (https://github.com/caronc/apprise, BSD) is an extra, imported when such a sink is configured. It says only
whether a message was taken, and why not in its log; that is read here, and goes nowhere else, for it knows the
addresses, and an address is a secret as a whole. What went wrong is waited for; a message that is called too large or
not processable (413, 422) is refused.

Each address has a thread for the time of a message, so that a service which never ends holds nothing up. An address
that has taken a transition does not get it again while another has not: with two of them, one that is away makes no
copies.
"""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from streamae.core.report import Transition
from streamae.core.setting import Setting
from streamae.errors import ConfigError
from streamae.failure import failure_of
from streamae.headers import hidden_in
from streamae.sinks.apprise_service import REASONS, secrets_of_address, service_of
from streamae.sinks.payload import counts, rfc3339, worst
from streamae.sinks.sink import SinkRefusedError, SinkUnavailableError
from streamae.sinks.spec import GatheredSettings, Installation, SinkSpec
from streamae.sinks.texts import TEST_RULE, link, summary

__all__ = ["SINK", "AppriseOptions", "AppriseSink"]

_MISSING = "install what sends them: pip install 'streamae[notify]'"
_SHOWN_MAX = 10
_LINE_LETTERS_MAX = 300
_TITLE_LETTERS_MAX = 120
_REASON_LETTERS_MAX = 200
_TAKEN_MAX = 10_000  # transitions that one address has taken and another has not
_REFUSALS = frozenset({"413", "422"})
_STATUS = re.compile(r"error=(\d{3})\b")


def _known(url: str) -> None:
    try:
        known = service_of(url, 1.0) is not None
    except ImportError:
        raise ValueError(_MISSING) from None
    except Exception:  # a service's plugin may raise anything, with the address in its text
        known = False
    if not known:
        raise ValueError("give the address of a service as Apprise writes it, such as ntfys://host/topic")


@dataclass(frozen=True, kw_only=True)
class AppriseOptions(GatheredSettings):
    """Short messages for people, by e-mail, ntfy, Telegram, Teams and more; needs `pip install 'streamae[notify]'`."""

    type: Literal["apprise"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "apprise"
    """What the outbox and the metrics call it; no two sinks may share one."""
    urls: Annotated[tuple[Annotated[str, Setting(form="secret", check=_known)], ...], Setting(items_min=1)] = field(
        repr=False
    )
    """Addresses as Apprise writes them, each file:/path, credential:name or ${VARIABLE}: they hold passwords."""
    title: Annotated[str, Setting(length_max=60)] = "streamae"
    """What each message's title begins with."""
    timeout_s: Annotated[float, Setting(gt=0, le=300)] = 30.0
    """Longest wait until all of the addresses have taken a message."""

    @property
    def blocks_s(self) -> float:
        """As the operator says."""
        return self.timeout_s


class AppriseSink:
    """Notifies all of `urls`; ConfigError for one that Apprise does not know, or where Apprise is not installed."""

    batch_max = 1000
    refresh_s = None

    def __init__(
        self,
        urls: Sequence[str],
        monotonic: Callable[[], float],
        *,
        name: str = "apprise",
        title: str = "streamae",
        page: str = "",
        timeout_s: float = 30,
    ) -> None:
        self.name = name
        self._monotonic = monotonic
        self._title, self._page, self._timeout_s = title, page, timeout_s
        self._addresses = [_Address(url, f"sinks: {name}: urls[{i}]", timeout_s) for i, url in enumerate(urls)]

    def send(self, transitions: Sequence[Transition]) -> None:
        """Send all of them in one message, to each address that has not taken them yet."""
        until_s = self._monotonic() + self._timeout_s
        for address in self._addresses:
            if missing := address.missing(transitions):
                address.begin(self._message(missing), missing)
        for address in self._addresses:
            address.wait(until_s - self._monotonic())
        self._judge([address for address in self._addresses if address.missing(transitions)])
        for address in self._addresses:
            address.forget(transitions)

    def rehearse(self, test: Transition) -> None:
        """Write the message: the addresses were looked at as the sink was made."""
        self._message([test])

    def try_out(self, test: Transition) -> str:
        """Send it as all else: its words say that it is a test."""
        self.send([test])
        return f"taken by {', '.join(address.service for address in self._addresses)}"

    def close(self) -> None:
        """Do nothing: each message has a connection of its own."""

    def _judge(self, failed: Sequence["_Address"]) -> None:
        if not failed:
            return
        said = "; ".join(f"{address.service}: {address.reason}" for address in failed)
        if all(address.refused for address in failed):
            raise SinkRefusedError(said)
        raise SinkUnavailableError(said)

    def _message(self, transitions: Sequence[Transition]) -> dict[str, Any]:
        first, several = transitions[0], len(transitions) > 1
        shown = worst(transitions, _SHOWN_MAX) if len(transitions) > _SHOWN_MAX else transitions
        parts = [self._words(one, several=several) for one in shown]
        if len(transitions) > _SHOWN_MAX:
            found = ", ".join(f"{group} {n} {state}" for (group, state), n in list(counts(transitions).items())[:20])
            parts.insert(0, _plain(f"{found}. The worst {len(shown)}:"))
        if self._page and several:
            parts.append(self._page)
        what = _together(transitions) if several else _headline(first)
        return {
            "title": _plain(f"{self._title}: {what}")[:_TITLE_LETTERS_MAX],
            "body": "\n\n".join(parts),
            "notify_type": _mood(first) if not several else _mood(worst(transitions, 1)[0]),
        }

    def _words(self, transition: Transition, *, several: bool) -> str:
        """One alert; of several, its link would make the message too long, and the page's address stands below."""
        time_text = (rfc3339(transition.time_s) or "")[:19].replace("T", " ")
        when = f"{time_text} UTC, " if time_text else ""
        said = f"{_plain(summary(transition))[:_LINE_LETTERS_MAX]}\n{when}alert {_plain(transition.id)}"
        where = "" if several else link(self._page, transition)
        return f"{said}\n{where}" if where else said


class _Address:
    """One address. At most one message is on its way to it; one that never ends is left to itself."""

    def __init__(self, url: str, where: str, timeout_s: float) -> None:
        try:
            made = service_of(url, timeout_s)
        except ImportError:
            raise ConfigError(f"{where}: {_MISSING}") from None
        except Exception as error:  # a service's plugin may raise anything, with the address in its text
            raise ConfigError(f"{where}: Apprise cannot use this address ({failure_of(error)})") from None
        if made is None:
            raise ConfigError(f"{where}: give the address of a service as Apprise writes it")
        self._notifier, self.service = made
        self._secrets = secrets_of_address(url)
        self._taken: dict[str, None] = {}
        self._thread: threading.Thread | None = None
        self.reason, self.refused = "", False

    def __repr__(self) -> str:
        """Leave out all that may be secret."""
        return f"_Address({self.service})"

    def missing(self, transitions: Sequence[Transition]) -> list[Transition]:
        """Which of them it has not taken."""
        return [one for one in transitions if one.notice_key not in self._taken]

    def forget(self, transitions: Sequence[Transition]) -> None:
        """All addresses have them: nobody will ask again."""
        for one in transitions:
            self._taken.pop(one.notice_key, None)

    def begin(self, message: dict[str, Any], transitions: Sequence[Transition]) -> None:
        """Send it, unless an earlier message is still on its way."""
        if self._thread is None or not self._thread.is_alive():
            keys = [one.notice_key for one in transitions]
            self.reason, self.refused = "no answer in time", False
            self._thread = threading.Thread(target=self._send, args=(message, keys), daemon=True)
            self._thread.start()

    def wait(self, wait_s: float) -> None:
        """Wait until what is on its way has an outcome, but not longer than this."""
        if self._thread is not None:
            self._thread.join(max(0.0, wait_s))

    def _send(self, message: dict[str, Any], keys: Sequence[str]) -> None:
        said = REASONS.listen()
        try:
            taken = self._notifier.notify(body_format="text", **message)
        except Exception as error:
            taken = False
            said = [failure_of(error)]
        if taken:
            self._taken.update(dict.fromkeys(keys))
            for oldest in list(self._taken)[:-_TAKEN_MAX]:
                del self._taken[oldest]
            return
        words = "; ".join(dict.fromkeys(said)) or "not taken"
        codes = set(_STATUS.findall(words))
        self.refused = bool(codes) and codes <= _REFUSALS
        self.reason = _plain(hidden_in(words, self._secrets))[:_REASON_LETTERS_MAX]


def _headline(transition: Transition) -> str:
    if transition.rule == TEST_RULE:
        return "test"
    state = "resolved" if transition.state == "resolved" else transition.severity
    return f"{transition.group}/{transition.stream} {state}"


def _together(transitions: Sequence[Transition]) -> str:
    """Many alerts in a few words: of one kind, or how many."""
    kinds = {(one.group, one.rule, one.state == "resolved") for one in transitions}
    if len(kinds) > 1:
        return f"{len(transitions)} alerts"
    ((group, rule, resolved),) = kinds
    critical = any(one.severity == "critical" for one in transitions) and not resolved
    return (
        f"{len(transitions)} streams of {group}: {rule}{' resolved' if resolved else ', critical' if critical else ''}"
    )


def _mood(transition: Transition) -> str:
    if transition.rule == TEST_RULE:
        return "info"
    if transition.state == "resolved":
        return "success"
    return "failure" if transition.severity == "critical" else "warning"


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def _made(settings: AppriseOptions, installation: Installation) -> AppriseSink:
    return AppriseSink(
        settings.urls,
        installation.monotonic,
        name=settings.name,
        title=settings.title,
        page=installation.page,
        timeout_s=settings.timeout_s,
    )


SINK = SinkSpec(AppriseOptions, _made)
