"""The contract of streamae.web: probes and API over a published snapshot, closed to whoever should not ask."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import resources
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from streamae.core.topics import Template
from streamae.core.types import AlertState, StreamChange
from streamae.errors import UnavailableError
from streamae.web.app import Access, SilenceWanted, Snapshot, StreamTable, create_app
from streamae.web.events import READERS_MAX
from streamae.web.server import WebServer

ACTIONS = ("acknowledge", "false-alarm", "real", "withdraw-feedback")
XSS = '"><img src=x onerror=alert(1)>'
PAST = "group=pumps&stream=a&from_s=10&until_s=40"
TOKEN = "sesame-öffne"


def table(names=("a", "b", XSS), score=(0.5, np.nan, 3.0), state=(0, -1, 2)) -> StreamTable:
    n = len(names)
    return StreamTable(
        group="pumps", names=list(names), channels=["flow", "heat"], score=np.array(score),
        threshold=np.ones(n), state=np.array(state, np.int8), worst=np.array([0, -1, 1], np.int32)[:n],
        time_s=np.array([10.0, np.nan, 10.0])[:n], learned=np.array([300, 12, 300])[:n], warmup_rows=300,
    )  # fmt: skip


class FakeView:
    def __init__(self, **parts: Any) -> None:
        self.shown = Snapshot(**({"taken_s": 5.0, "status": {"connected": True, "lag_s": float("nan")}} | parts))
        self.acts: list[tuple[str, str, str]] = []
        self.silenced: list[tuple[str, SilenceWanted]] = []
        self.changed: list[tuple[StreamChange, float | None]] = []
        self.pasts: list[tuple[str, str, float, float, int]] = []

    def snapshot(self) -> Snapshot:
        return self.shown

    def metrics(self) -> bytes:
        return b"streamae_rows_total 1\n"

    def alerts_version(self) -> int:
        return 7

    def detail(self, group: str, stream: str, rows: int) -> Mapping[str, Any] | None:
        return {"time_s": [1.0][:rows], "channels": []} if stream in ("a", XSS) else None

    def past(self, group: str, stream: str, from_s: float, until_s: float, points: int) -> Mapping[str, Any] | None:
        self.pasts.append((group, stream, from_s, until_s, points))
        read = {"journal_from_s": None, "from_s": from_s, "whole": True, "pieces": 1, "scored_every": 1}
        return {"history": {"time_s": [1.0], "channels": []}, "read": read} if stream in ("a", XSS) else None

    def models(self) -> Sequence[Mapping[str, Any]]:
        return [{"group": "pumps"}]

    def alerts(
        self, state: str | None, limit: int, group: str | None = None, stream: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        every = [
            {"id": "x", "state": "firing", "score": float("inf"), "onset_s": 50.0, "closed_s": None},
            {"id": "y", "state": "resolved", "score": 2.0, "onset_s": 20.0, "closed_s": 30.0},
        ]
        return [alert for alert in every if state in (None, alert["state"])][:limit]

    def act(self, alert_id: str, action: str, note: str) -> bool:
        self.acts.append((alert_id, action, note))
        return alert_id == "x"

    def now_s(self) -> float:
        return 1000.0

    def change(self, wanted: StreamChange, since_s: float | None) -> str:
        if wanted.stream != "line1/pump01":
            return "there is no such stream"
        if wanted.name == "odd":
            return "name is odd"
        self.changed.append((wanted, since_s))
        return ""

    def silences(self) -> Sequence[Mapping[str, Any]]:
        return [{"id": n, "state": state, **asdict(s)} for n, (state, s) in enumerate(self.silenced)]

    def silence(self, wanted: SilenceWanted) -> Mapping[str, Any]:
        if len(self.silenced) > 1:
            raise UnavailableError("too many")
        self.silenced.append(("active", wanted))
        return {"id": len(self.silenced) - 1, "state": "active", **asdict(wanted)}

    def silence_of(self, group: str, stream: str) -> Mapping[str, Any] | None:
        return None

    def end_silence(self, number: int) -> bool:
        return number == 0

    def feedback(self, limit: int) -> Sequence[Mapping[str, Any]]:
        names = dict.fromkeys(("alert", "group", "stream", "rule"), "x")
        return [{**names, "verdict": "false-alarm", "from_s": 1.0, "to_s": None, "note": None, "said_s": 2.0}][:limit]

    def dead_letters(self, limit: int) -> Sequence[Mapping[str, Any]]:
        return [{"sink": "log", "alert": "a", "key": "a:0", "error": "400"}][:limit]

    def retry(self, sink: str) -> bool:
        return sink == "log"

    def poison(self) -> Sequence[Mapping[str, Any]]:
        return [{"topic": "a", "payload": "\\xff", "bytes": 9, "found_s": 1.0, "times": 1, "origin": "broker"}]


def client(view: FakeView | None = None, **access: Any) -> TestClient:
    return TestClient(create_app(view or FakeView(), Access(**access)), base_url="http://localhost:9469")


BEARER = {"authorization": f"Bearer {TOKEN}".encode()}


def test_metrics_are_served_as_prometheus_expects():
    answer = client().get("/metrics")
    assert answer.text == "streamae_rows_total 1\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_probes_say_ok_or_each_reason():
    assert client().get("/healthz").text == client().get("/readyz").text == "ok\n"
    deaf = client(FakeView(unready=["no message for 60 s", "not subscribed"]))
    assert deaf.get("/healthz").status_code == 200
    assert (deaf.get("/readyz").status_code, deaf.get("/readyz").text) == (503, "no message for 60 s\nnot subscribed\n")
    hung = client(FakeView(unhealthy=["no step for 30 s"]))
    assert [hung.get(path).status_code for path in ("/healthz", "/readyz")] == [503, 503]


def test_status_is_json_without_nan():
    answer = client().get("/api/v1/status")
    assert answer.json() == {
        "time_s": 5.0, "healthy": True, "ready": True, "reasons": [], "conditions": [], "read_only": True, "groups": [],
        "sequence": 0, "alerts_version": 7, "connected": True, "lag_s": None,
    }  # fmt: skip
    assert "NaN" not in answer.text


def test_streams_come_worst_first_and_learning_ones_say_how_far_they_are():
    answer = client(FakeView(tables={"pumps": table()})).get("/api/v1/streams").json()
    assert answer["total"] == 3
    assert [s["stream"] for s in answer["streams"]] == [XSS, "a", "b"]
    assert answer["streams"][0]["worst_channel"] == "heat"
    assert answer["streams"][2] == {
        "group": "pumps", "stream": "b", "score": None, "threshold": 1.0, "state": "learning", "worst_channel": None,
        "time_s": None, "learned_rows": 12, "warmup_rows": 300,
    }  # fmt: skip


def test_a_stream_that_nobody_can_judge_says_what_it_lacks_and_until_when():
    """Learning or filling: rows of how many, and about how long; null where nobody knows; none of it once it is ok."""
    shown = replace(
        table(("l", "f", "u", "o", "x"), (np.nan, np.nan, 0.3, 0.5, 3.0), (-1, -2, -2, 0, 2)),
        worst=np.full(5, -1, np.int32), time_s=np.full(5, np.nan), learned=np.full(5, 12), marks={},
        rows=np.array([12, 3, 64, 64, 64]), needed=np.array([400, 64, 64, 64, 64]),
        eta_s=np.array([1234.56, np.nan, 1.0, np.nan, np.nan]),
    )  # fmt: skip
    web = client(FakeView(tables={"pumps": shown}))
    found = {one["stream"]: one for one in web.get("/api/v1/streams").json()["streams"]}
    operations = {
        name: tuple(one.get(key) for key in ("state", "rows", "rows_needed", "eta_s")) for name, one in found.items()
    }
    assert operations == {
        "l": ("learning", 12, 400, 1230.0), "f": ("filling", 3, 64, None), "u": ("filling", 64, 64, 1.0),
        "o": ("ok", None, None, None), "x": ("firing", None, None, None),
    }  # fmt: skip
    assert [one["stream"] for one in web.get("/api/v1/streams?state=filling").json()["streams"]] == ["u", "f"]
    assert [one["stream"] for one in web.get("/api/v1/streams?state=ok").json()["streams"]] == ["o"]
    assert web.get("/api/v1/streams?state=inactive").json()["total"] == 1, "as it was called before"
    assert "ok" in web.get("/api/v1/streams?state=well").json()["error"]


def test_streams_are_searched_filtered_and_limited():
    web = client(FakeView(tables={"pumps": table(), "empty": table((), (), ())}))
    assert [s["stream"] for s in web.get("/api/v1/streams?q=IMG").json()["streams"]] == [XSS]
    assert web.get("/api/v1/streams?group=empty").json() == {"total": 0, "streams": []}
    assert web.get("/api/v1/streams?group=none").json() == {"total": 0, "streams": []}
    one = web.get("/api/v1/streams?limit=1").json()
    assert (one["total"], len(one["streams"])) == (3, 1)
    for bad in ("0", "-1", "x", "", "99999999999999", "٣"):
        assert web.get("/api/v1/streams", params={"limit": bad}).status_code == 400


def test_a_hundred_thousand_streams_are_ranked_as_a_plain_sort_ranks_them():
    rng = np.random.default_rng(1)
    n = 100_000
    big = StreamTable(
        "g", [f"s{i}" for i in range(n)], ["x"], rng.random(n), rng.random(n) + 0.5, np.zeros(n, np.int8),
        np.zeros(n, np.int32), np.zeros(n), np.zeros(n, np.int64), 1,
    )  # fmt: skip
    found = [s["stream"] for s in client(FakeView(tables={"g": big})).get("/api/v1/streams?limit=50").json()["streams"]]
    ratio = (big.score / big.threshold).tolist()
    assert found == [f"s{i}" for i in sorted(range(n), key=lambda i: -ratio[i])[:50]]


def test_alerts_are_filtered_by_state():
    web = client()
    assert [a["id"] for a in web.get("/api/v1/alerts").json()["alerts"]] == ["x", "y"]
    (firing,) = web.get("/api/v1/alerts?state=firing").json()["alerts"]
    assert (firing["id"], firing["score"]) == ("x", None)
    assert web.get("/api/v1/alerts?state=odd").status_code == 400


def test_without_a_configured_token_everything_is_read_only():
    view = FakeView()
    answer = client(view).post("/api/v1/alerts/x/acknowledge", headers=BEARER)
    assert answer.status_code == 401
    assert "web.token" in answer.json()["error"]
    assert view.acts == []


@pytest.mark.parametrize("shown", [None, b"Bearer", b"Bearer wrong", b"Basic sesame", f"Bearer {TOKEN}x".encode()])
def test_a_change_without_the_right_token_is_refused(shown):
    """Nothing is done; the answer tells a token that is missing from one that is wrong."""
    view = FakeView()
    headers = {} if shown is None else {"authorization": shown}
    answer = client(view, token=TOKEN).post("/api/v1/alerts/x/acknowledge", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"], view.acts) == (401, "Bearer", [])
    said = answer.json()["error"]
    assert said.startswith("a change needs the token of web.token" if shown is None else "wrong token: "), said


@pytest.mark.parametrize("action", ACTIONS)
def test_a_change_with_the_token_reaches_the_daemon(action):
    view = FakeView()
    web = client(view, token=TOKEN)
    answer = web.post(f"/api/v1/alerts/x/{action}", headers=BEARER, content="seen by me")
    assert answer.json() == {"done": action}
    assert view.acts == [("x", action, "seen by me")]
    assert web.post(f"/api/v1/alerts/nope/{action}", headers=BEARER).status_code == 404


def test_unknown_actions_and_long_notes_are_refused():
    view = FakeView()
    web = client(view, token=TOKEN)
    assert web.post("/api/v1/alerts/x/explode", headers=BEARER).status_code == 404
    assert web.post("/api/v1/alerts/x/acknowledge", headers=BEARER, content=b"x" * 20_000).status_code == 413
    assert view.acts == []


SILENCE = {"group": "pumps", "stream": "line1/*", "duration_s": 60, "comment": XSS}


def test_a_silence_is_made_listed_and_ended():
    """With the token: 201 and what was made, with everything that was left out filled in; then it can be ended once."""
    view = FakeView()
    web = client(view, token=TOKEN)
    made = web.post("/api/v1/silences", headers=BEARER, json=SILENCE)
    assert made.status_code == 201
    assert view.silenced[0][1] == SilenceWanted("pumps", "line1/*", "*", {}, 1000.0, 1060.0, "", XSS)
    asked = {"labels": {"line": "1"}, "starts_s": 2000, "ends_s": 3000.5, "created_by": "ada", "rule": "stale"}
    assert web.post("/api/v1/silences", headers=BEARER, json=asked).status_code == 201
    assert view.silenced[1][1] == SilenceWanted("*", "*", "stale", {"line": "1"}, 2000.0, 3000.5, "ada", "")
    assert [s["id"] for s in web.get("/api/v1/silences?state=active").json()["silences"]] == [0, 1]
    assert web.get("/api/v1/silences?state=expired").json() == {"silences": []}
    assert web.get("/api/v1/silences?limit=1").json()["silences"][0]["comment"] == XSS
    assert web.get("/api/v1/silences?state=odd").status_code == 400
    full = web.post("/api/v1/silences", headers=BEARER, json=SILENCE)
    assert (full.status_code, full.json()) == (503, {"error": "too many"})
    assert web.post("/api/v1/silences/0/end", headers=BEARER).json() == {"done": "end"}
    for number in ("1", "x", "٣", "99999999999999999999"):
        assert web.post(f"/api/v1/silences/{number}/end", headers=BEARER).status_code == 404


def test_dead_letters_are_tried_again_on_request():
    """Of one sink, by its name, with the token; 404 where there is nothing to try."""
    web = client(token=TOKEN)
    assert web.post("/api/v1/dead-letters/log/retry", headers=BEARER).json() == {"done": "retry"}
    assert web.post("/api/v1/dead-letters/mqtt/retry", headers=BEARER).status_code == 404
    assert web.post("/api/v1/dead-letters/log/retry").status_code == 401


STREAM = {"group": "pumps", "stream": "line1/pump01"}


def test_a_stream_can_be_changed():
    """It learns again, from now or from a time on, has another name, or goes."""
    view = FakeView()
    web = client(view, token=TOKEN)
    for action, more in (("relearn", {}), ("relearn", {"since_s": 5}), ("rename", {"name": "p9"}), ("remove", {})):
        answer = web.post(f"/api/v1/stream/{action}", headers=BEARER, json=STREAM | more)
        assert (answer.status_code, answer.json()) == (200, {"done": action})
    assert [(c.kind, c.name, since_s) for c, since_s in view.changed] == [
        ("relearn", "", None), ("relearn", "", 5), ("rename", "p9", None), ("remove", "", None),
    ]  # fmt: skip
    assert {(c.group, c.stream) for c, _ in view.changed} == {("pumps", "line1/pump01")}


@pytest.mark.parametrize(
    ("action", "change", "status", "said"),
    [
        ("forget", {}, 404, "relearn, remove, rename"),
        ("rename", {}, 400, "name"),
        ("remove", {"name": "x"}, 400, "name"),
        ("rename", {"name": "odd"}, 400, "name is odd"),
        ("remove", {"since_s": 1}, 400, "since_s"),
        ("relearn", {"since_s": -1}, 400, "since_s"),
        ("remove", {"stream": "other"}, 404, "no such stream"),
        ("remove", {"why": "x"}, 400, "why"),
        ("relearn", {"stream": ""}, 400, "stream"),
    ],
)
def test_a_mistake_in_a_change_of_a_stream_is_named(action, change, status, said):
    """Nothing is changed then."""
    view = FakeView()
    answer = client(view, token=TOKEN).post(f"/api/v1/stream/{action}", headers=BEARER, json=STREAM | change)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert view.changed == []


@pytest.mark.parametrize("action", ["relearn", "remove", "rename"])
def test_a_stream_cannot_be_changed_without_the_token(action):
    """As everything that changes something."""
    view = FakeView()
    for headers, status in (
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"origin": "http://evil"} | BEARER, 403),
    ):
        web = client(view, token=TOKEN)
        assert web.post(f"/api/v1/stream/{action}", headers=headers, json=STREAM | {"name": "x"}).status_code == status
    assert view.changed == []


@pytest.mark.parametrize("path", ["silences", "silences/0/end"])
def test_silences_cannot_be_changed_without_the_token(path):
    view = FakeView()
    assert client(view, token=TOKEN).post(f"/api/v1/{path}", json=SILENCE).status_code == 401
    assert client(view).post(f"/api/v1/{path}", headers=BEARER, json=SILENCE).status_code == 401
    assert view.silenced == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stream": 7}, "stream is a text"), ({"comment": "x" * 1001}, "comment is a text"),
        ({"duration_s": "1h"}, "duration_s is a number"), ({"duration_s": True}, "duration_s is a number"),
        ({"duration_s": -5}, "duration_s is a number"), ({"duration_s": 0}, "ends after its start"),
        ({"duration_s": 1e9}, "a year at most"), ({"starts_s": 9e10, "duration_s": 5}, "within a year"),
        ({"starts_s": 1e3 + 366 * 86400 + 1, "duration_s": 5}, "within a year"),
        ({"starts_s": 10, "duration_s": 5}, "and after now"),
        ({"ends_s": 5000}, "either ends_s or duration_s"), ({"until": 5}, "until is not known"),
        ({"labels": ["a"]}, "labels is an object"), ({"labels": {"a": 1}}, "labels is an object"),
        ({"labels": {str(i): "" for i in range(33)}}, "labels is an object"),
        ({"group": "", "stream": ""}, "name what to silence"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_silence_is_named(change, said):
    view = FakeView()
    answer = client(view, token=TOKEN).post("/api/v1/silences", headers=BEARER, json=SILENCE | change)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert view.silenced == []


HALF = b'{"group": "\\ud800", "duration_s": 60}'  # an escape that is half a character


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"starts_s": NaN}', b"[" * 16_000, b"x" * 20_000, HALF])
def test_a_body_that_is_no_silence_is_refused(body):
    view = FakeView()
    answer = client(view, token=TOKEN).post("/api/v1/silences", headers=BEARER, content=body)
    assert answer.status_code in (400, 413)
    assert view.silenced == []


def test_a_change_from_another_origin_is_refused_even_with_the_token():
    view = FakeView()
    web = client(view, token=TOKEN)
    evil = web.post("/api/v1/alerts/x/acknowledge", headers={**BEARER, "origin": "http://evil.example"})
    assert (evil.status_code, view.acts) == (403, [])
    own = web.post("/api/v1/alerts/x/acknowledge", headers={**BEARER, "origin": "http://localhost:9469"})
    assert own.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:9469", "", "10.0.0.7", "[::2]:9469"]
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/api/v1/status", "/nothing"])
def test_a_foreign_host_name_gets_nothing(host, path):
    answer = client().get(path, headers={"host": host})
    assert answer.status_code == 421
    assert "rows_total" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9469", "127.0.0.1:9469", "[::1]:9469", "plant.example:80"])
def test_loopback_and_configured_names_are_served(host):
    assert client(hosts=frozenset({"plant.example"})).get("/healthz", headers={"host": host}).status_code == 200


def test_beyond_loopback_an_address_is_served_and_a_name_still_is_not():
    web = client(loopback=False, token=TOKEN)
    assert web.get("/healthz", headers={"host": "10.0.0.7:9469"}).status_code == 200
    assert web.get("/healthz", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "host",
    [
        "[::1]evil.com", "[::1]:80evil.com", "[::1].evil.com", "localhost:evil.com", "localhost:80@evil.com",
        "localhost:", "127.0.0.1:80:80", "[localhost]", "evil.com:localhost", "a@localhost", "localhost/", "[::1",
        "::1]",
    ],
)  # fmt: skip
def test_a_host_header_that_is_none_is_not_the_one_within_it(host):
    """Whatever a name is hidden in: what is no host and port of a URL is refused, on loopback and beyond."""
    for web in (client(), client(loopback=False, token=TOKEN)):
        status = web.get("/healthz", headers={"host": host}).status_code
        assert status == (200 if host == "localhost:" else 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9469", "127.0.0.1:1", "[::1]:9469", "[::1]", "::1"])
def test_a_host_header_of_this_machine_is_let_through(host):
    assert client().get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/api/v1/status", "/nothing", "/api/v1/streams?limit=x"])
def test_every_answer_carries_the_security_headers(path):
    headers = client().get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_name_full_of_markup_is_served_as_json_and_nothing_else():
    answer = client(FakeView(tables={"pumps": table()})).get("/api/v1/streams")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.text)["streams"][0]["stream"] == XSS


def test_an_error_of_ours_shows_no_traceback():
    class Broken(FakeView):
        def snapshot(self) -> Snapshot:
            raise RuntimeError("canary-7f3a")

    web = TestClient(create_app(Broken()), base_url="http://localhost", raise_server_exceptions=False)
    answer = web.get("/api/v1/status")
    assert answer.status_code == 500
    assert "canary" not in answer.text


def test_the_server_serves_in_its_own_thread_and_stops():
    server = WebServer(create_app(FakeView()), "127.0.0.1", 0)
    server.start()
    try:
        assert server.alive
        url = f"http://127.0.0.1:{server.port}/readyz"
        assert httpx.get(url, timeout=30).text == "ok\n"
        assert "server" not in httpx.get(url, timeout=30).headers
    finally:
        assert server.stop(timeout_s=30)
    assert not server.alive
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, timeout=5)


def test_a_port_in_use_is_an_error_of_the_start_that_names_the_key():
    first = WebServer(create_app(FakeView()), "127.0.0.1", 0)
    first.start()
    try:
        with pytest.raises(UnavailableError, match=r"web\.listen"):
            WebServer(create_app(FakeView()), "127.0.0.1", first.port).start()
    finally:
        first.stop(timeout_s=30)


def test_a_slow_request_holds_up_no_other():
    """A reader of models that waits for the disk must not make a probe fail."""
    gate = threading.Event()

    class Slow(FakeView):
        def models(self) -> Sequence[Mapping[str, Any]]:
            gate.wait(30)
            return []

    server = WebServer(create_app(Slow()), "127.0.0.1", 0)
    server.start()
    base = f"http://127.0.0.1:{server.port}"
    slow = threading.Thread(target=lambda: httpx.get(f"{base}/api/v1/models", timeout=60))
    slow.start()
    try:
        assert httpx.get(f"{base}/healthz", timeout=20).text == "ok\n"
        assert slow.is_alive()
    finally:
        gate.set()
        slow.join(30)
        server.stop(timeout_s=30)


def test_states_of_the_table_are_those_of_the_core():
    """In words for people; the description of the API names the same."""
    words = {state.word for state in AlertState}
    assert words == {"unjudged", "filling", "learning", "ok", "pending", "firing"}
    described = client(FakeView()).get("/api/v1/openapi.json").json()
    assert set(described["components"]["schemas"]["Stream"]["properties"]["state"]["enum"]) == words
    (asked,) = (p for p in described["paths"]["/api/v1/streams"]["get"]["parameters"] if p["name"] == "state")
    assert set(asked["schema"]["enum"]) == words


def test_streams_are_sorted_by_peak_and_by_name_and_cut():
    """`peak`: firing first, then the highest of the sparkline; `offset` goes on where a limit ended."""
    spark = np.full((4, 60), 0.3, np.float32)
    spark[2, 5], spark[0, 5] = 0.9, 0.6
    shown = StreamTable(
        "g", ["d", "c", "b", "a"], ["x"], np.array([0.5, 3.0, 0.1, np.nan]), np.ones(4),
        np.array([0, 2, 0, -1], np.int8), np.zeros(4, np.int32), np.zeros(4), np.full(4, 7), 9, spark, 1.0,
    )  # fmt: skip
    web = client(FakeView(tables={"g": shown}))

    def got(query):
        return [s["stream"] for s in web.get(f"/api/v1/streams?{query}").json()["streams"]]

    assert got("sort=peak") == ["c", "b", "d", "a"]
    assert got("sort=name") == ["a", "b", "c", "d"]
    assert got("sort=score") == ["c", "d", "b", "a"]
    assert got("sort=name&offset=1&limit=2") == ["b", "c"]
    assert got("state=learning") == ["a"]
    assert web.get("/api/v1/streams?limit=1&sort=name").json()["streams"][0]["spark"] == [30] * 60
    for bad in ("sort=odd", "state=odd", "offset=-1", "offset=x"):
        assert web.get(f"/api/v1/streams?{bad}").status_code == 400


def test_what_is_wrong_beside_the_score_sorts_a_stream_up():
    """A stuck sensor, quarantine: behind what fires, before all else; maintenance does not; a filter finds them."""
    names = ["calm", "stuck", "kept", "fires", "quarantined", "pending", "learns"]
    shown = StreamTable(
        "g", names, ["x"], np.array([0.5, 0.1, 0.2, 3.0, np.nan, 1.1, np.nan]), np.ones(7),
        np.array([0, 0, 0, 2, 0, 1, -1], np.int8), np.zeros(7, np.int32), np.zeros(7), np.full(7, 7), 9,
        marks={1: ["stuck: x"], 2: ["maintenance"], 4: ["quarantined"], 6: ["learning"]},
    )  # fmt: skip
    web = client(FakeView(tables={"g": shown}))

    def got(query):
        return [s["stream"] for s in web.get(f"/api/v1/streams?{query}").json()["streams"]]

    assert got("sort=peak") == ["fires", "stuck", "quarantined", "pending", "calm", "kept", "learns"]
    assert got("sort=score") == ["fires", "pending", "stuck", "quarantined", "calm", "kept", "learns"]
    assert got("trouble=true&sort=name") == ["quarantined", "stuck"]
    assert got("trouble=true&state=firing") == []
    assert len(got("trouble=false")) == 7


def test_what_is_not_judged_stands_above_what_is_and_says_why():
    """Firing first, then unjudged; each with its reason, and an alarm with the limit that holds it."""
    why = {"since_s": 5.0, "reason": "late", "words": "its clock is wrong"}
    limit = {"windows": 392, "over": 1.6, "since_s": 4.0, "ends_s": 600.0}
    shown = StreamTable(
        "g", ["a", "b", "c", "d"], ["x"], np.array([0.5, 0.1, 0.9, 0.95]), np.ones(4),
        np.array([0, -3, 2, 1], np.int8), np.zeros(4, np.int32), np.zeros(4), np.full(4, 7), 9,
        ratio=np.array([0.5, 0.1, 1.6, 0.95]), unjudged={1: why}, limits={2: limit},
    )  # fmt: skip
    web = client(FakeView(tables={"g": shown}))
    streams = web.get("/api/v1/streams?sort=peak").json()["streams"]
    assert [s["stream"] for s in streams] == ["c", "b", "d", "a"]
    assert [s["state"] for s in streams] == ["firing", "unjudged", "pending", "ok"]
    assert streams[0]["limit"] == limit
    assert streams[1]["unjudged"] == why
    assert "limit" not in streams[3]
    assert "unjudged" not in streams[3]
    assert [s["stream"] for s in web.get("/api/v1/streams?state=unjudged").json()["streams"]] == ["b"]


def test_streams_are_filtered_by_their_labels():
    """Exactly, several at once, and together with a part of the name; a stream says which labels it has."""
    template = Template.parse("{line}/{pump}")
    names = ["north/p1", "north/p2", "northern/p1", "north/p1/more"]
    shown = StreamTable(
        "g", names, ["x"], np.ones(4), np.ones(4), np.zeros(4, np.int8), np.zeros(4, np.int32), np.zeros(4),
        np.full(4, 7), 9, template=template,
    )  # fmt: skip
    web = client(FakeView(tables={"g": shown, "without": table()}))

    def got(query):
        return [s["stream"] for s in web.get(f"/api/v1/streams?sort=name&{query}").json()["streams"]]

    assert got("label=line=north") == ["north/p1", "north/p2"]
    assert got("label=pump=p1") == ["north/p1", "northern/p1"]
    assert got("label=pump=p1&label=line=north") == ["north/p1"]
    assert got("label=line=north&q=P2") == ["north/p2"]
    assert got("label=line=nor") == got("label=other=north") == got("label=line=") == []
    for bad in ("label=line", "label==x", "label="):
        assert web.get(f"/api/v1/streams?{bad}").status_code == 400
    assert shown.labels(0) == {"line": "north", "pump": "p1"}
    assert shown.labels(3) == table().labels(0) == {}


def test_a_stream_is_shown_from_near_under_any_name():
    web = client(FakeView(tables={"pumps": table()}))
    near = web.get("/api/v1/stream", params={"group": "pumps", "stream": XSS}).json()
    assert (near["stream"], near["history"]["time_s"]) == (XSS, [1.0])
    assert [a["id"] for a in near["alerts"]] == ["x", "y"]
    assert web.get("/api/v1/stream", params={"group": "pumps", "stream": "nope"}).status_code == 404
    assert web.get("/api/v1/stream", params={"group": "pumps"}).status_code == 400
    assert web.get("/api/v1/stream", params={"group": "pumps", "stream": "a", "rows": "9999"}).status_code == 400


def test_a_past_is_asked_for_by_its_span():
    """A span of event time, with the alerts that were open in it; what is no span is refused, with the name."""
    view = FakeView()
    web = client(view)
    past = web.get(f"/api/v1/stream/past?{PAST}").json()
    assert (past["group"], past["stream"], past["read"]["whole"]) == ("pumps", "a", True)
    assert [a["id"] for a in past["alerts"]] == ["y"]
    later = {"group": "pumps", "stream": XSS, "from_s": 31.5, "until_s": 60, "points": 100}
    assert [a["id"] for a in web.get("/api/v1/stream/past", params=later).json()["alerts"]] == ["x"]
    assert view.pasts == [("pumps", "a", 10.0, 40.0, 600), ("pumps", XSS, 31.5, 60.0, 100)]
    assert web.get("/api/v1/stream/past", params=later | {"stream": "nope"}).status_code == 404
    for bad in ({"from_s": "x"}, {"from_s": "nan"}, {"until_s": "1e999"}, {"until_s": 31.5}, {"until_s": 1e9},
                {"points": 9}, {"points": 2001}, {"group": None}, {"until_s": None}):  # fmt: skip
        asked = {k: v for k, v in (later | bad).items() if v is not None}
        answer = web.get("/api/v1/stream/past", params=asked)
        assert (answer.status_code, next(iter(bad)) in answer.json()["error"]) == (400, True), bad


def test_a_busy_loop_and_a_store_that_fails_are_503_in_words():
    class Busy(FakeView):
        def models(self) -> Sequence[Mapping[str, Any]]:
            raise UnavailableError("the loop is busy")

    answer = client(Busy()).get("/api/v1/models")
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (
        503,
        {"error": "the loop is busy"},
        "1",
    )


def test_the_page_and_its_files_are_served_and_nothing_beside_them():
    web = client()
    assert "<title>streamae</title>" in web.get("/").text
    script = web.get("/static/app.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    again = web.get("/static/app.js", headers={"if-none-match": script.headers["etag"]})
    assert (again.status_code, again.text) == (304, "")
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/", "/static//etc/passwd", "/static/nope.js"):
        assert web.get(path).status_code == 404, path
    assert "uPlot" in web.get("/static/vendor/uplot/uPlot.iife.min.js").text[:100]


def test_no_file_of_the_page_asks_another_host_or_needs_what_the_policy_forbids():
    """Offline, and without inline scripts, styles or handlers; in our own scripts no text becomes markup."""
    static = resources.files("streamae.web") / "static"
    ours = [f for f in static.iterdir() if f.name.endswith((".js", ".html", ".css"))]
    assert len(ours) > 8
    for file in ours:
        text = file.read_text()
        assert not re.search(r"(src|href|url\(|import .*from|fetch\()\s*=?\s*[\"'(`]?(https?:)?//", text), file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), (
            file.name
        )
        if file.name.endswith(".html"):
            assert not re.search(r"<style|<script>|\sstyle=|\son\w+=", text)


def test_the_description_of_the_api_names_exactly_its_routes():
    """Every route with its method, its query parameters and actions, and nothing that is not there."""
    app = create_app(FakeView())
    routes: dict[str, set[str]] = {}
    for route in app.routes:
        if route.path not in ("/", "/static/{name:path}"):
            routes.setdefault(route.path, set()).update(route.methods)
    document = client().get("/api/v1/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == set(routes)
    for path, methods in document["paths"].items():
        assert {m.upper() for m in methods} == routes[path] - {"HEAD"}, path
    post = document["paths"]["/api/v1/alerts/{alert_id}/{action}"]["post"]
    (action,) = (p["schema"]["enum"] for p in post["parameters"] if p["name"] == "action")
    assert action == list(ACTIONS)
    (sort,) = (
        p["schema"]["enum"]
        for p in document["paths"]["/api/v1/streams"]["get"]["parameters"]
        if p.get("name") == "sort"
    )
    assert sort == ["score", "peak", "name"]
    references = set(re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(document)))
    assert all(name in document["components"][kind] for kind, name in references)


@pytest.fixture
def served():
    """Give a maker of really served views."""
    started = []

    def make(view):
        app = create_app(view)
        started.append(WebServer(app, "127.0.0.1", 0, on_stop=app.state.events.close))
        started[-1].start()
        return f"http://127.0.0.1:{started[-1].port}", started[-1]

    yield make
    for server in started:
        server.stop(30)


def states(answer):
    """The states of a stream of events."""
    for said in answer.iter_lines():
        if said.startswith("data: "):
            yield json.loads(said.removeprefix("data: "))


def test_events_tell_each_new_picture_and_end_with_the_server(served):
    """A state at once, another when something changed, and no reader holds up a stop or leaves a trace in the log."""
    view = FakeView()
    base, server = served(view)
    with httpx.stream("GET", f"{base}/api/v1/events", timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = states(answer)
        assert next(seen)["sequence"] == 0
        view.shown = replace(view.shown, sequence=1, unready=["deaf"])
        assert (state := next(seen))["sequence"] == 1
        assert (state["ready"], state["reasons"]) == (False, ["deaf"])
        assert server.stop(30)
        assert list(seen) == []


def test_no_more_readers_of_events_than_there_is_room_for(served):
    """The 65th is asked to come later; one that leaves makes room again."""
    base, _ = served(FakeView())
    with contextlib.ExitStack() as readers, httpx.Client(limits=httpx.Limits(max_connections=200), timeout=30) as web:
        held = []  # a generator that is dropped closes its answer
        for _ in range(READERS_MAX):
            answer = readers.enter_context(web.stream("GET", f"{base}/api/v1/events"))
            assert answer.status_code == 200
            held.append(states(answer))
            next(held[-1])
        with web.stream("GET", f"{base}/api/v1/events") as answer:
            assert answer.status_code == 503
        assert web.get(f"{base}/healthz").text == "ok\n"
    with httpx.Client(timeout=30) as web:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with web.stream("GET", f"{base}/api/v1/events") as answer:
                if answer.status_code == 200:
                    return
            time.sleep(0.2)
    pytest.fail("the readers that left still hold their places")
