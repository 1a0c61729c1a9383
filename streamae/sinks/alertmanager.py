"""The Alertmanager sink: pushes to `/api/v2/alerts`, as Prometheus does.

Alertmanager is level-triggered: it forgets an alert whose `endsAt` has passed. So what fires is sent with an `endsAt`
some refreshes ahead, and sent again each `refresh_s`; what is resolved is sent with the `endsAt` of its end. An alert
there is its label set: when one grows critical, the set with the earlier severity ends as the new one starts.

Times are event times, never ahead of the wall clock: a sensor's clock that runs ahead keeps no alert alive.
Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml (postAlerts).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from streamae.core.report import Transition
from streamae.core.setting import Setting
from streamae.sinks.http import Endpoint, HttpSettings
from streamae.sinks.payload import encode, rfc3339
from streamae.sinks.spec import Installation, SinkSpec
from streamae.sinks.texts import link, summary

__all__ = ["SINK", "AlertmanagerOptions", "AlertmanagerSink"]

_LIVES = 4  # refreshes that may fail before Alertmanager takes an alert for resolved
_SEVERITIES = ("warning", "critical")
_JSON = {"Content-Type": "application/json"}
_TEST_S = 300.0  # how long a test fires there: longer than the usual `group_wait`, or nobody would be notified


@dataclass(frozen=True, kw_only=True)
class AlertmanagerOptions(HttpSettings):
    """Alerts pushed to an Alertmanager, API v2; rules in Prometheus are the recommended way."""

    type: Literal["alertmanager"]
    """Kind of sink."""
    name: Annotated[str, Setting(form="name")] = "alertmanager"
    """What the outbox and the metrics call it; no two sinks may share one."""
    refresh_s: Annotated[float, Setting(ge=1, le=3600)] = 60.0
    """Interval in which what still fires is sent again; Alertmanager forgets it otherwise."""


class AlertmanagerSink:
    """Posts to the Alertmanager at `url` (its base address); `now` is the wall clock in seconds."""

    batch_max = 100

    def __init__(
        self,
        url: str,
        now: Callable[[], float],
        headers: Mapping[str, str] | None = None,
        *,
        name: str = "alertmanager",
        timeout_s: float = 10.0,
        refresh_s: float = 60.0,
        page: str = "",
        ca_file: str | None = None,
    ) -> None:
        self.name = name
        self.refresh_s: float | None = refresh_s
        self._life_s = _LIVES * refresh_s
        self._now = now
        self._page = page
        self._endpoint = Endpoint(url.rstrip("/") + "/api/v2/alerts", headers or {}, timeout_s, ca_file)

    def send(self, transitions: Sequence[Transition]) -> None:
        """Push them in one request."""
        now_s = self._now()
        alerts = [alert for transition in transitions for alert in self._alerts(transition, now_s)]
        self._endpoint.post(encode(alerts), _JSON)

    def rehearse(self, test: Transition) -> None:
        """Build the request."""
        self._endpoint.rehearse(encode(self._alerts(test, self._now())), _JSON)

    def try_out(self, test: Transition) -> str:
        """Push an alert that ends by itself within minutes."""
        now_s = self._now()
        alert = self._alert(test, test.severity, now_s, firing=True) | {"endsAt": rfc3339(now_s + _TEST_S)}
        said = self._endpoint.post(encode([alert]), _JSON)
        return f"{said}; the test ends there by itself in {_TEST_S / 60:.0f} minutes"

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""

    def _alerts(self, transition: Transition, now_s: float) -> list[dict[str, Any]]:
        firing = transition.state != "resolved"
        alerts = [self._alert(transition, transition.severity, now_s, firing=firing)]
        if transition.sequence > 1:
            # An earlier transition of this alert may have had another severity, so another label set.
            earlier = [severity for severity in _SEVERITIES if severity != transition.severity]
            alerts += [self._alert(transition, severity, now_s, firing=False) for severity in earlier]
        return alerts

    def _alert(self, transition: Transition, severity: str, now_s: float, *, firing: bool) -> dict[str, Any]:
        ends_s = now_s + self._life_s if firing else min(transition.time_s, now_s)
        own = {
            "alertname": f"streamae_{transition.rule}",
            "instance": transition.instance,
            "group": transition.group,
            "stream": transition.stream,
            "rule": transition.rule,
            "severity": severity,
            "streamae_id": transition.id,
        }
        # Our own names win over a topic's labels: nobody can forge an alert's severity by a topic.
        labels = {**{_label_name(name): value for name, value in transition.labels.items()}, **own}
        alert = {
            "labels": {name: _utf8(value) for name, value in labels.items() if value},
            "annotations": {name: _utf8(value) for name, value in self._annotations(transition).items() if value},
            "startsAt": rfc3339(min(transition.onset_s, ends_s)),
            "endsAt": rfc3339(ends_s),
        }
        return alert | ({"generatorURL": link(self._page, transition)} if self._page else {})

    def _annotations(self, transition: Transition) -> dict[str, str]:
        return {
            "summary": summary(transition),
            "worst_channel": transition.worst_channel,
            "value": f"{transition.score:.4g}",
            "threshold": f"{transition.threshold:.4g}",
            "link": link(self._page, transition),
        }


def _label_name(name: str) -> str:
    """A name as Prometheus allows it: ASCII letters, digits and underscores, not first a digit."""
    clean = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return clean if clean and not clean[0].isdigit() else f"_{clean}"


def _utf8(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")


def _made(settings: AlertmanagerOptions, installation: Installation) -> AlertmanagerSink:
    return AlertmanagerSink(
        settings.url,
        installation.now,
        settings.headers,
        name=settings.name,
        timeout_s=settings.timeout_s,
        refresh_s=settings.refresh_s,
        page=installation.page,
        ca_file=settings.ca_file,
    )


SINK = SinkSpec(AlertmanagerOptions, _made)
