"""What answers each question of the API, over what the daemon publishes: typed questions in, typed answers out.

Pages never touch the pipeline: they read a `Snapshot` that the daemon publishes after a step and never changes again,
so that no request can hold a lock that a step waits for. Whatever changes something is a POST, needs the token, and
goes through `View.act` and its siblings.
"""

from collections.abc import Sequence
from typing import Annotated

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from streamae.pacing import paced
from streamae.web.alert_answers import (
    AlertList,
    DeadLetterList,
    FeedbackList,
    PastAnswer,
    PoisonList,
    SilenceAnswer,
    SilenceList,
    StreamDetailAnswer,
)
from streamae.web.answers import DoneAnswer, ModelList, StatusAnswer, StreamList, meaning
from streamae.web.events import Events
from streamae.web.operations import BODY_MAX_BYTES, Operation
from streamae.web.parameters import Action, AlertsAsked, Number, PageAsked, PastAsked, SilencesAsked, StreamAsked
from streamae.web.pools import Pool
from streamae.web.ranking import Selection, finite, line, ranked
from streamae.web.silences import SilenceAsked, silence_of
from streamae.web.stream_changes import ChangeAsked, StreamAction, change_of
from streamae.web.view import View

__all__ = ["OPERATIONS", "Endpoints"]

_PAST_ALERTS_MAX = 1000
_PAST_MAX_S = 366 * 86400.0
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_Note = Annotated[str, meaning(f"A note, at most {BODY_MAX_BYTES} bytes of UTF-8; kept with what is said")]


class Endpoints:
    """The functions behind the paths; each docstring is what the API's description says of its path."""

    def __init__(self, view: View, metrics_pool: Pool, *, read_only: bool) -> None:
        self._view, self._metrics_pool, self._read_only = view, metrics_pool, read_only
        self.readers = Events(self.status)

    def status(self) -> StatusAnswer:
        """The state of the daemon in one object."""
        snapshot = self._view.snapshot()
        answer: StatusAnswer = {
            "time_s": snapshot.taken_s,
            "healthy": not snapshot.unhealthy,
            "ready": not (snapshot.unhealthy or snapshot.unready),
            "reasons": [*snapshot.unhealthy, *snapshot.unready],
            "conditions": [finite(one) for one in snapshot.conditions],
            "read_only": self._read_only,
            "groups": list(snapshot.tables),
            "sequence": snapshot.sequence,
            "alerts_version": self._view.alerts_version(),
        }
        answer.update(finite(snapshot.status))
        return answer

    async def events(self) -> Response:
        """The state as a stream of server-sent events, about one a second.

        Each event is called `state`; its data is a Status. `alerts_version` changes when an alert does; streams
        are asked for when wanted. At most 64 readers.
        """
        return self.readers.respond()

    def streams(self, asked: Selection) -> StreamList:
        """Streams, worst first."""
        snapshot = self._view.snapshot()
        total, lines = ranked([t for name, t in snapshot.tables.items() if asked.group in (None, name)], asked)
        return {"total": total, "streams": lines}

    def stream(self, asked: StreamAsked) -> StreamDetailAnswer:
        """One stream in detail: last rows, reconstruction, forecast, scores, shares, alerts."""
        group, stream = asked.group, asked.stream
        table = self._view.snapshot().tables.get(group)
        found = self._view.detail(group, stream, asked.rows)
        if found is None or table is None or stream not in table.names:
            raise HTTPException(404, "there is no such stream")
        number = list(table.names).index(stream)
        silence = self._view.silence_of(group, stream)
        return {
            **line(table, number),
            "labels": table.labels(number),
            "history": finite(found),
            "alerts": [finite(one) for one in self._view.alerts(None, 100, group, stream)],
            "silence": None if silence is None else finite(silence),
        }

    def change(self, action: StreamAction, body: ChangeAsked) -> DoneAnswer:
        """Say that something about a stream was changed on purpose: it learns again, is removed, or has a new name.

        Alerts that it has then are resolved. The change is in the journal when it is answered.
        """
        refused = self._view.change(change_of(action, body), body.get("since_s"))
        if refused:
            raise HTTPException(404 if refused.startswith("there is no") else 400, refused)
        return {"done": action}

    def past(self, asked: PastAsked) -> PastAnswer:
        """One stream in a span of its past, read from the journal.

        Its messages go through the daemon's stages once more, with today's model and scale and about the threshold of
        then; so scores may differ a little from those of then. Alerts are those of then. Pasts are read one after the
        other.
        """
        group, stream, from_s, until_s = asked.group, asked.stream, asked.from_s, asked.until_s
        if not 0 < until_s - from_s <= _PAST_MAX_S:
            raise HTTPException(400, "until_s is after from_s, by a year at most")
        found = self._view.past(group, stream, from_s, until_s, asked.points)
        if found is None:
            raise HTTPException(404, "there is no such stream")
        during = [
            finite(alert)
            for alert in self._view.alerts(None, _PAST_ALERTS_MAX, group, stream)
            if alert["onset_s"] <= until_s and (alert["closed_s"] is None or alert["closed_s"] >= from_s)
        ]
        shown = finite(found)
        return {
            "group": group,
            "stream": stream,
            "history": shown["history"],
            "read": shown["read"],
            "alerts": during,
        }

    def models(self) -> ModelList:
        """What each group's model was trained on."""
        return {"models": [finite(model) for model in self._view.models()]}

    def alerts(self, asked: AlertsAsked) -> AlertList:
        """Alerts, the most recently changed first."""
        return {"alerts": [finite(alert) for alert in paced(self._view.alerts(asked.state, asked.limit))]}

    def act(self, alert_id: Annotated[str, meaning("Id of the alert")], action: Action, body: _Note) -> DoneAnswer:
        """Acknowledge an alert, mark it as false alarm, or take that back."""
        if not self._view.act(alert_id, action, body):
            raise HTTPException(404, "there is no such alert")
        return {"done": action}

    def feedback(self, asked: PageAsked) -> FeedbackList:
        """What people said of alerts, newest first, with the windows of time."""
        return {"feedback": [finite(one) for one in paced(self._view.feedback(asked.limit))]}

    def dead_letters(self, asked: PageAsked) -> DeadLetterList:
        """Notices that sinks refused for good, sink by sink, newest first."""
        return {"dead_letters": [finite(one) for one in self._view.dead_letters(asked.limit)]}

    def retry(self, sink: Annotated[str, meaning("Name of the sink")]) -> DoneAnswer:
        """Send a sink its dead letters once more, when it has been repaired."""
        if not self._view.retry(sink):
            raise HTTPException(404, "no sink of this name has dead letters")
        return {"done": "retry"}

    def poison(self, asked: PageAsked) -> PoisonList:
        """Messages that ended the process again and again and were left out, newest first."""
        return {"poison": [finite(one) for one in self._view.poison()[: asked.limit]]}

    def silences(self, asked: SilencesAsked) -> SilenceList:
        """Silences, those that end last first."""
        found = [finite(one) for one in self._view.silences() if asked.state in (None, one["state"])]
        return {"silences": found[: asked.limit]}

    def silence(self, body: SilenceAsked) -> SilenceAnswer:
        """Silence alerts: they are stored and shown, and no sink is notified while it lasts."""
        made: SilenceAnswer = finite(self._view.silence(silence_of(body, self._view.now_s())))
        return made

    def end_silence(self, number: Number) -> DoneAnswer:
        """End a silence now; sinks are notified of what still fires."""
        if not self._view.end_silence(number):
            raise HTTPException(404, "there is no such silence that has not ended")
        return {"done": "end"}

    async def metrics(self) -> Response:
        """Metrics in Prometheus' text format."""
        text = await self._metrics_pool.run_once("metrics", self._view.metrics)
        return Response(text, headers={"content-type": _METRICS_TYPE})

    async def healthz(self) -> Response:
        """Whether the process lives: 503 with the reasons where it should be restarted."""
        return _probe(self._view.snapshot().unhealthy)

    async def readyz(self) -> Response:
        """Whether messages arrive and are judged: 503 with the reasons where they are not. Groups that lack values are
        named in either case.
        """
        snapshot = self._view.snapshot()
        lacking = [f"{one['what']}: {one['reason']}" for one in snapshot.conditions if one["kind"] == "intake"]
        return _probe([*snapshot.unhealthy, *snapshot.unready], lacking)


def _probe(reasons: Sequence[str], beside: Sequence[str] = ()) -> Response:
    return PlainTextResponse("\n".join([*(reasons or ["ok"]), *beside, ""]), 503 if reasons else 200)


_E = Endpoints
_API = "/api/v1"
OPERATIONS = (
    Operation(f"{_API}/status", _E.status, "The state", errors=(503,)),
    Operation(f"{_API}/events", _E.events, "The events", media="text/event-stream", errors=(503,)),
    Operation(f"{_API}/streams", _E.streams, "How many match, and the lines asked for", errors=(503,)),
    Operation(f"{_API}/stream", _E.stream, "The stream", errors=(404, 503), pool="detail"),
    Operation(f"{_API}/stream/past", _E.past, "The span", errors=(404, 503), pool="past"),
    Operation(f"{_API}/stream/{{action}}", _E.change, "Done", "POST", errors=(400, 404, 503)),
    Operation(f"{_API}/models", _E.models, "The manifests, without their bulk", errors=(503,)),
    Operation(f"{_API}/alerts", _E.alerts, "The alerts", errors=(503,)),
    Operation(f"{_API}/alerts/{{alert_id}}/{{action}}", _E.act, "Done", "POST", errors=(404, 503)),
    Operation(f"{_API}/feedback", _E.feedback, "The feedback", errors=(503,)),
    Operation(f"{_API}/dead-letters", _E.dead_letters, "The dead letters", errors=(503,)),
    Operation(f"{_API}/dead-letters/{{sink}}/retry", _E.retry, "Done", "POST", errors=(404, 503)),
    Operation(f"{_API}/poison", _E.poison, "The messages", errors=(503,)),
    Operation(f"{_API}/silences", _E.silences, "The silences", errors=(503,)),
    Operation(f"{_API}/silences", _E.silence, "The silence that was made", "POST", 201, errors=(400, 503)),
    Operation(f"{_API}/silences/{{number}}/end", _E.end_silence, "Done", "POST", errors=(404, 503)),
    Operation("/metrics", _E.metrics, "The metrics", media="text/plain", errors=(503,)),
    Operation("/healthz", _E.healthz, "ok", media="text/plain", errors=(503,)),
    Operation("/readyz", _E.readyz, "ok", media="text/plain", errors=(503,)),
)
