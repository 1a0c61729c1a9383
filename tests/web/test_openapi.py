"""The description of the API is what a running daemon answers: every property, parameter and status of it."""

import copy
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from starlette.responses import Response
from starlette.testclient import TestClient
from typing_extensions import TypedDict

from streamae.core.types import Batch
from streamae.store.dedup import digest_of
from streamae.store.store import Store
from streamae.web.answers import meaning
from streamae.web.app import API, Access, create_app
from streamae.web.events import READERS_MAX
from streamae.web.openapi import openapi
from streamae.web.operations import Operation
from streamae.web.parameters import ParameterError, Reader
from streamae.web.silences import SilenceAsked
from tests import brokers
from tests.brokers import Mosquitto, wait_until
from tests.page_world import Fleet
from tests.services import Feed, plant, write
from tests.store_world import numbered, report, transition

TOKEN = "sesame"
API_PATHS = [one for one in API if one.media == "application/json"]
DEADLY = Batch([b"plant/\xff"], [b"\xfd\xfe"], np.zeros(1))
# What this daemon has no cause to say: its model reads no clock, and no silence of its alerts has been forgotten.
NOT_GIVEN = {("Model", "calendar"), ("SilenceNumber", "id")}
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def faults(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], at: str = "$") -> Iterator[str]:
    """Say where an answer is not what a schema describes; a property that no schema names is a fault."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        tried = [list(faults(value, one, document, at)) for one in schema["anyOf"]]
        yield from min(tried, key=len)
        return
    kind = schema["type"]
    fits = value is None if kind == "null" else isinstance(value, KINDS[kind])
    if not fits or (isinstance(value, bool) and kind in ("integer", "number")):
        yield f"{at}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if kind == "array":
        for n, item in enumerate(value):
            yield from faults(item, schema["items"], document, f"{at}[{n}]")
    if kind == "object":
        yield from _faults_of_object(value, schema, document, at)


def _faults_of_object(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], at: str) -> Iterator[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", "properties" not in schema)
    yield from (f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, inner in value.items():
        if name in known:
            yield from faults(inner, known[name], document, f"{at}.{name}")
        elif others is False:
            yield f"{at}.{name} is undescribed"
        elif others is not True:
            yield from faults(inner, others, document, f"{at}.{name}")


def given(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each property of each component that an answer has."""
    name = schema.get("$ref", "").rpartition("/")[2]
    about = document["components"]["schemas"][name] if name else schema
    for one in about.get("anyOf", ()):
        if not list(faults(value, one, document)):
            yield from given(value, one, document)
            return
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in about.get("properties", {}):
                if name:
                    yield name, key
                yield from given(inner, about["properties"][key], document)
    if isinstance(value, list):
        for item in value:
            yield from given(item, about["items"], document)


@dataclass(frozen=True)
class Answer:
    method: str
    path: str
    status: int
    body: Any


def ask(port: int, path: str, method: str = "GET", body: Any = None) -> Answer:
    """Ask a daemon and read its JSON; `path` is what stands in the description, filled in from `path@value`."""
    target, _, rest = path.partition("@")
    for value in rest.split(",") if rest else []:
        first, last = target.index("{"), target.index("}")
        target = target[:first] + quote(value) + target[last + 1 :]
    sent = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{target}", sent, method=method)
    request.add_header("authorization", f"Bearer {TOKEN}")
    try:
        with urllib.request.urlopen(request, timeout=30) as found:
            status, text = found.status, found.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return Answer(method, path.partition("@")[0].partition("?")[0], status, json.loads(text))


def lived(folder, stream: str) -> None:
    """Leave behind in a state directory what takes long to come about: alerts, a dead letter, poison."""
    now_s = time.time()
    store = Store.open(folder, "process", time.time, sinks=["log", "mqtt"])
    fires, over = transition(1, stream=stream, onset_s=now_s - 90.0), transition(2, stream=stream, onset_s=now_s - 80.0)
    ended = transition(2, 2, "resolved", stream=stream, onset_s=now_s - 80.0)
    store.commit(numbered(1), report(fires, over, ended), now_s)
    store.outbox.dead("log", [fires.key], "400: no")
    store.attempts._begin(deaths=9, suspect=digest_of(DEADLY, 0), same=9)
    store.poison.without(DEADLY, "broker", now_s)
    store.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory, trained):
    """Give what a daemon answers that has everything to tell: each JSON path of the API, asked once or more."""
    if brokers.MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    broker = Mosquitto(tmp_path_factory.mktemp("broker")).start()
    daemon = write(tmp_path_factory.mktemp("daemon"), broker, trained)
    feed = Feed(broker.port, plant(trained))
    pump = feed.plant.names[0].replace("/", "-")
    lived(daemon.folder / "state", pump)
    window = "maintenance: [{name: now, group: pump*, from: 2020-01-01T00:00:00Z, until: 2100-01-01T00:00:00Z}]\n"
    text = daemon.path.read_text().replace("web: {", 'web: {token: "${TOKEN}", ')
    daemon.path.write_text(text + window)
    daemon._env = {"TOKEN": TOKEN}
    try:
        daemon.start().wait_for("/healthz")
        wait_until(lambda: daemon.metric("streamae_source_subscribed") == 1, 60, daemon.log())
        feed.history(20)
        feed.start()
        feed._client.publish(
            "plant/line9/new", json.dumps({"t": time.time()} | dict.fromkeys(feed.plant.channels, 1.0)), 1
        )

        def ready() -> bool:
            shown = daemon.streams()
            return "line9-new" in shown and shown.get(pump, {}).get("score") is not None and "spark" in shown[pump]

        wait_until(ready, 60, daemon.log())
        yield SimpleNamespace(answers=asked(daemon, pump), event=first_event(daemon.port), document=document(daemon))
    finally:
        feed.stop()
        daemon.kill()
        broker.kill()


def document(daemon) -> Mapping[str, Any]:
    return ask(daemon.port, "/api/v1/openapi.json").body


def asked(daemon, pump: str) -> list[Answer]:
    port, one = daemon.port, urlencode({"group": "pumps", "stream": pump})
    last_s = daemon.streams()[pump]["time_s"]
    span = urlencode({"from_s": last_s - 600, "until_s": last_s})
    alert = transition(2).id
    act = "/api/v1/alerts/{alert_id}/{action}"
    posts = [
        ask(port, f"{act}@{alert},acknowledge", "POST", "seen"),
        ask(port, f"{act}@{alert},false-alarm", "POST", "a test"),
        ask(port, "/api/v1/silences", "POST", {"stream": "x*", "duration_s": 60, "labels": {"line": "1"}}),
        ask(port, "/api/v1/silences/{number}/end@2", "POST"),
    ]
    names = ["status", "streams", f"stream?{one}", "stream?group=pumps&stream=line9-new", f"stream/past?{one}&{span}"]
    names += ["models", "alerts", "feedback", "dead-letters", "poison", "silences", "openapi.json"]
    found = [ask(port, f"/api/v1/{name}") for name in names]
    last = [
        ask(port, "/api/v1/dead-letters/{sink}/retry@log", "POST"),
        ask(
            port, "/api/v1/stream/{action}@relearn", "POST", {"group": "pumps", "stream": pump, "since_s": last_s - 600}
        ),
        ask(port, "/api/v1/stream/{action}@remove", "POST", {"group": "pumps", "stream": "line9-new"}),
    ]
    return [*posts, *found, *last]


def first_event(port: int) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/events", timeout=30) as found:
        for line in found:
            if line.startswith(b"data: "):
                return json.loads(line.removeprefix(b"data: "))
    return None


def schema_of(answer: Answer, document: Mapping[str, Any]) -> Mapping[str, Any]:
    responses = document["paths"][answer.path][answer.method.lower()]["responses"]
    return responses[str(answer.status)]["content"]["application/json"]["schema"]


def all_faults(running, document: Mapping[str, Any]) -> list[str]:
    found = [
        f"{answer.path} {fault}"
        for answer in running.answers
        for fault in faults(answer.body, schema_of(answer, document), document)
    ]
    return found + list(faults(running.event, {"$ref": "#/components/schemas/Status"}, document))


def test_a_running_daemon_answers_what_is_described_and_nothing_else(running):
    """Every path with JSON succeeds; no property is undescribed, of another type, or missing where it is required."""
    reached = {(answer.path, answer.method) for answer in running.answers}
    assert reached == {(one.path, one.method) for one in API_PATHS}
    assert {answer.status for answer in running.answers} == {200, 201}
    assert all_faults(running, running.document) == []


def test_every_described_property_is_given_by_a_running_daemon(running):
    """What is described and never said is a description of something else."""
    every = {
        (name, key)
        for name, about in running.document["components"]["schemas"].items()
        for key in about["properties"]
        if name not in ("SilenceAsked", "ChangeAsked", "Error")
    }
    said = {pair for a in running.answers for pair in given(a.body, schema_of(a, running.document), running.document)}
    assert every - said == NOT_GIVEN


def test_a_property_that_nobody_describes_is_found(running):
    """The control: without any one line of the description, the same answers are at fault."""
    said = {pair for a in running.answers for pair in given(a.body, schema_of(a, running.document), running.document)}
    assert len(said) > 100
    for name, key in said:
        less = copy.deepcopy(running.document)
        del less["components"]["schemas"][name]["properties"][key]
        assert any(fault.endswith(f".{key} is undescribed") for fault in all_faults(running, less)), (name, key)


def test_a_property_that_nobody_gives_is_found(running):
    """The control: an answer that lacks anything required is at fault, and so is one of another type."""
    for answer in running.answers:
        schema = schema_of(answer, running.document)
        for key in answer.body:
            less = {name: value for name, value in answer.body.items() if name != key}
            other = answer.body | {key: object()}
            required = running.document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
            if key in required.get("required", ()):
                assert f"$.{key} is missing" in list(faults(less, schema, running.document)), (answer.path, key)
            if key in required.get("properties", ()):
                assert list(faults(other, schema, running.document)), (answer.path, key)


def undescribed(document: Mapping[str, Any]) -> list[str]:
    """Name the properties, components, parameters and operations that have no words."""
    found = []
    for name, about in document["components"]["schemas"].items():
        parts = {name: about, **{f"{name}.{key}": one for key, one in about["properties"].items()}}
        found += [place for place, part in parts.items() if not part.get("description", "").strip()]
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            found += [f"{path} {one['name']}" for one in about.get("parameters", ()) if not one.get("description")]
            found += [f"{method} {path}"] * (not about.get("summary"))
    return found


class Wordless(TypedDict):
    """A thing."""

    said: Annotated[int, meaning("What it is")]
    unsaid: int


class Odd:
    def answer(self) -> Wordless:
        """An answer."""
        return {"said": 1, "unsaid": 2}


def test_everything_is_described():
    """Every property, parameter and operation has its words; one without them is found."""
    assert undescribed(openapi(API)) == []
    assert undescribed(openapi([Operation("/odd", Odd.answer, "It")])) == ["Wordless.unsaid"]


def test_every_reference_of_the_description_leads_somewhere():
    document = openapi(API)
    places = {f"#/components/{kind}/{name}" for kind, parts in document["components"].items() for name in parts}
    found: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            found.extend([part["$ref"]] if "$ref" in part else [])
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            walk(inner)

    walk(document)
    assert set(found) <= places
    assert {place for place in places if "/schemas/" in place} <= set(found), "a component that nothing is made of"
    assert str(READERS_MAX) in document["paths"]["/api/v1/events"]["get"]["description"]


GOOD = {"group": "pumps", "stream": "line1/pump0000", "from_s": "1789990000", "until_s": "1790000000"}


def wrong(schema: Mapping[str, Any]) -> list[str]:
    """Values that a schema does not allow, as a URL has them."""
    match schema.get("type"):
        case "integer":
            return [
                str(schema["minimum"] - 1),
                str(schema["maximum"] + 1),
                "x",
                "",
                "1.5",
                "٣",
                " 1",
                "1_0",
                "9" * 5000,
            ]
        case "number":
            return ["x", "", "nan", "inf", repr(schema["exclusiveMaximum"]), repr(schema["exclusiveMinimum"])]
        case "array":
            return ["x", "=x", ""]
        case _:
            return ["odd", "", "firing "] if "enum" in schema else []


QUERIES = [
    (one.path, parameter)
    for one in API
    for parameter in openapi([one])["paths"][one.path][one.method.lower()].get("parameters", ())
    if parameter["in"] == "query"
]


@pytest.fixture
def web() -> TestClient:
    return TestClient(create_app(Fleet(), Access(token=TOKEN)), base_url="http://localhost")


@pytest.mark.parametrize(
    ("path", "parameter"), QUERIES, ids=lambda part: part if isinstance(part, str) else part["name"]
)
def test_a_value_beyond_what_is_described_is_refused_by_its_name(web, path, parameter):
    """400 with the name, the value and what is allowed; a required one that is missing too. The bounds are good."""
    name, schema = parameter["name"], parameter["schema"]
    good = {key: value for key, value in GOOD.items() if any((path, key) == (p, q["name"]) for p, q in QUERIES)}
    for value in wrong(schema):
        refused = web.get(path, params=good | {name: value})
        assert refused.status_code == 400, value
        said = refused.json()["error"]
        assert said.startswith(f"{name} is ") and f"not {value!r}"[:50] in said, said
    if parameter.get("required"):
        refused = web.get(path, params={key: value for key, value in good.items() if key != name})
        assert (refused.status_code, refused.json()) == (400, {"error": f"{name} is missing"})
    fits = [schema[end] for end in ("minimum", "maximum") if end in schema] + schema.get("enum", [])
    for value in fits:
        assert web.get(path, params=good | {name: value}).status_code == 200, value


PATHS = {"alert_id": "x", "action": "acknowledge", "sink": "log", "number": "1"}


@pytest.mark.parametrize("one", API, ids=lambda one: f"{one.method} {one.path}")
def test_a_status_that_is_given_is_described(web, one):
    """With the token and without it, with nothing and with nonsense: whatever is answered, the description has it."""
    web.app.state.events.close()  # its one endless answer ends at once
    filled, odd = one.path, one.path
    for name in one.in_path:
        filled, odd = filled.replace(f"{{{name}}}", PATHS[name]), odd.replace(f"{{{name}}}", "odd value")
    described = openapi([one])["paths"][one.path][one.method.lower()]["responses"]
    for target in (filled, odd, f"{filled}?limit=x&rows=x&{urlencode(GOOD)}", f"{filled}?{urlencode(GOOD)}"):
        for headers in ({}, {"authorization": f"Bearer {TOKEN}"}, {"origin": "http://evil.example"}):
            for body in (b"", b"[]", b'{"group": "a", "duration_s": 9}', b"x" * 20_000):
                sent = body if one.method == "POST" else None
                answer = web.request(one.method, target, headers=headers, content=sent)
                assert str(answer.status_code) in described, (target, answer.text)
                if answer.status_code >= 400 and one.media == "application/json":
                    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("one", API, ids=lambda one: f"{one.method} {one.path}")
def test_another_method_is_refused_and_head_is_get_without_its_body(web, one):
    """405 names what is allowed; HEAD has the status and the length of GET."""
    web.app.state.events.close()
    filled = one.path
    for name in one.in_path:
        filled = filled.replace(f"{{{name}}}", PATHS[name])
    refused = web.request("DELETE", filled, headers={"authorization": f"Bearer {TOKEN}"})
    assert (refused.status_code, bool(refused.headers["allow"])) == (405, True)
    if one.method == "GET":
        whole = web.get(filled, params=GOOD)
        head = web.head(filled, params=GOOD)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers.get("content-type") == whole.headers.get("content-type")


def test_a_parameter_that_nothing_could_give_cannot_be_declared():
    """One that is in neither the path, the query nor the body is an error of the start, not of a request."""

    class Wrong:
        def answer(self, lost: int) -> Response:
            """An answer."""
            return Response()

    with pytest.raises(TypeError, match="lost"):
        Operation("/wrong", Wrong.answer, "It").route(Wrong())


def test_a_body_is_read_strictly():
    """A text is no number, true is no number, null is nothing; and what is not known is named before anything else."""
    reader: Reader[SilenceAsked] = Reader(SilenceAsked, strict=True)
    assert reader.read({"duration_s": 5, "labels": None}) == {"duration_s": 5.0, "labels": {}}
    for bad in ("5", True, None, [5], -1, 1e12, float("nan"), float("inf"), 10**400):
        with pytest.raises(ParameterError, match="duration_s is a number of seconds from 0 and below"):
            reader.read({"duration_s": bad})
    with pytest.raises(ParameterError, match="until is not known; use comment, created_by, duration_s"):
        reader.read({"stream": 7, "until": 5})
