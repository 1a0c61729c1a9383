"""The pages never touch the pipeline: every path of the web, asked while the loop turns, over guarded pipelines."""

import json
import threading
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from streamae.core.alert import AlertRule
from streamae.core.groups import Groups
from streamae.daemon.loop import Loop
from streamae.daemon.page.view import DaemonView
from streamae.ingest.source import SourceStatus
from streamae.metrics import Metrics
from streamae.web.app import Access, create_app
from tests import plants
from tests.brokers import wait_until
from tests.core.test_pipeline import BAD, plant
from tests.store_world import Clock, opened

T0 = 1_700_000_000
TOKEN = {"authorization": "Bearer sesame"}
STAGES = (
    "streams", "router", "decoder", "align", "scale", "rings", "scoring", "threshold", "alerts", "quarantine",
    "health", "flapping", "latest",
)  # fmt: skip
ASKED = {
    "/": "/",
    "/static/{name:path}": "/static/app.js",
    "/metrics": "/metrics",
    "/healthz": "/healthz",
    "/readyz": "/readyz",
    "/api/v1/openapi.json": "/api/v1/openapi.json",
    "/api/v1/status": "/api/v1/status",
    "/api/v1/events": None,  # never ends; each event is what /api/v1/status answers
    "/api/v1/streams": "/api/v1/streams?label=pump=p1&sort=peak",
    "/api/v1/stream": "/api/v1/stream?group=pumps&stream=p1&rows=20",
    "/api/v1/stream/{action}": "/api/v1/stream/relearn",
    "/api/v1/stream/past": f"/api/v1/stream/past?group=pumps&stream=p1&from_s={T0 + 10}&until_s={T0 + 45}&points=100",
    "/api/v1/models": "/api/v1/models",
    "/api/v1/alerts": "/api/v1/alerts?state=firing",
    "/api/v1/alerts/{alert_id}/{action}": "/api/v1/alerts/{alert}/acknowledge",
    "/api/v1/feedback": "/api/v1/feedback",
    "/api/v1/dead-letters": "/api/v1/dead-letters",
    "/api/v1/dead-letters/{sink}/retry": "/api/v1/dead-letters/log/retry",
    "/api/v1/poison": "/api/v1/poison",
    "/api/v1/silences": "/api/v1/silences",
    "/api/v1/silences/{number}/end": "/api/v1/silences/1/end",
}


class Prying(DaemonView):
    """Control: reads the pipeline's alerts where it answers, as an earlier release did."""

    def __init__(self, loop, *given, **named):
        super().__init__(loop, *given, **named)
        self._pipeline = loop.groups.pipelines["pumps"]  # kept: the way to it is watched as well

    def alerts(self, state, limit, group=None, stream=None):
        return [one | {"peak_score": float(self._pipeline.alerts.peaks(2)[1])} for one in super().alerts(state, limit)]


class Asking(DaemonView):
    """Control: asks the loop for its pipelines where it answers."""

    def alerts(self, state, limit, group=None, stream=None):
        return [{"peak_score": len(self._loop.groups.pipelines)}]


class Guard:
    """Objects that only one thread may look into; `trips` names who else did, and at what."""

    def __init__(self):
        self.owner, self.trips = None, []

    def watch(self, thing):
        guard, kind = self, type(thing)

        def look(itself, name):
            if guard.owner is not None and threading.get_ident() != guard.owner and not name.startswith("__"):
                guard.trips.append(f"{threading.current_thread().name} reads {kind.__name__}.{name}")
                raise AssertionError(guard.trips[-1])
            return kind.__getattribute__(itself, name)

        thing.__class__ = type(kind.__name__, (kind,), {"__slots__": (), "__getattribute__": look})


@pytest.fixture
def world(tmp_path):
    """Give a maker of a served view whose loop turns in a thread of its own; the alert of p1 fires."""
    store, clock, stop = opened(tmp_path), Clock(), threading.Event()
    source = SimpleNamespace(status=lambda: SourceStatus(connected=True, subscribed=True))
    threads = []

    def make(kind):
        groups, metrics, guard = Groups("plant-1", [plants.group(alert=AlertRule())]), Metrics(clock), Guard()
        loop = Loop(source, groups, store, metrics, arrived=clock, now=clock, monotonic=clock, sleep=lambda _: None)
        view = kind(loop, store, metrics, now=clock, monotonic=clock, silent_after_s=60.0)
        manifest = {"streams": {}, "golden": [], "targets": ["a", "b"]}
        file, profile = SimpleNamespace(name="m"), plants.profile()
        view.artifacts = {"pumps": SimpleNamespace(manifest=manifest, path=file, digest="0", profile=profile)}
        messages, turned = plant(44, bad=BAD), threading.Event()

        def turn():
            guard.owner = threading.get_ident()
            while not stop.is_set():
                batch = plants.batch([messages.pop(0) for _ in range(min(6, len(messages)))])
                report = groups.step(batch, 0.0)
                store.commit(batch, report, 0.0)
                view.note(report)
                view.answer()
                view.publish()
                if not messages:
                    turned.set()
                stop.wait(0.001)

        for pipeline in groups.pipelines.values():
            for stage in STAGES:
                guard.watch(getattr(pipeline, stage))
            guard.watch(pipeline)
        guard.watch(groups)
        threads.append(threading.Thread(target=turn, name="loop"))
        threads[-1].start()
        assert turned.wait(60)
        app = create_app(view, Access(frozenset({"testserver"}), "sesame"))
        return app, TestClient(app, raise_server_exceptions=False), guard

    yield make
    stop.set()
    for thread in threads:
        thread.join(10)
    store.close()


def ask(client, path, alert):
    if path.endswith("relearn"):  # of the one that does not fire, from rows of the journal
        return client.post(path, content=json.dumps({"group": "pumps", "stream": "p2", "since_s": T0}), headers=TOKEN)
    if path.endswith(("acknowledge", "retry", "end")):
        return client.post(path.format(alert=alert), headers=TOKEN)
    return client.get(path)


def test_no_path_of_the_web_looks_into_the_pipeline(world):
    """Each route there is, asked while the loop turns, answers, and without a look at what the loop's thread writes."""
    app, client, guard = world(DaemonView)
    assert {route.path for route in app.routes} == set(ASKED), "ask the new one, too"
    (alert,) = client.get("/api/v1/alerts?state=firing").json()["alerts"]
    wanted = {"group": "pumps", "stream": "p1", "duration_s": 60, "comment": "x", "created_by": "y"}
    assert client.post("/api/v1/silences", content=json.dumps(wanted), headers=TOKEN).status_code == 201
    for path in filter(None, ASKED.values()):
        answer = ask(client, path, alert["id"])
        assert answer.status_code in (200, 404 if path.endswith("retry") else 200), (path, answer.text, guard.trips)
    assert guard.trips == []
    near = client.get(ASKED["/api/v1/stream"]).json()
    assert (near["state"], near["silence"], len(near["history"]["time_s"])) == ("firing", None, 20)


@pytest.mark.parametrize(("view", "read"), [(Prying, "Pipeline.alerts"), (Asking, "Groups.pipelines")])
def test_a_look_into_the_pipeline_is_noticed(world, view, read):
    """Control: what reads a pipeline's arrays, or goes to it, while it answers is found, by name."""
    _, client, guard = world(view)
    assert client.get("/api/v1/alerts").status_code == 500
    assert any(trip.endswith(f" reads {read}") for trip in guard.trips), guard.trips


def test_the_peak_of_an_alert_that_fires_is_shown_as_it_grows(world):
    """The page has the highest score so far, though no transition has said so since."""
    _, client, _ = world(DaemonView)

    def peak():
        (alert,) = client.get("/api/v1/alerts?state=firing").json()["alerts"]
        return alert["peak_score"], alert["score"]

    wait_until(lambda: peak()[0] > peak()[1], 10, "the peak is that of the first window")
