"""The contract of training from databases: what they hold comes out as series, and each refusal says whose it is.

Prometheus is a real one, backfilled by promtool. There is no InfluxDB here: a small server answers with the shapes
that its documentation shows (annotated CSV of 2.x; JSON of 1.x and 3.x), and keeps what it was asked.
"""

import base64
import http.server
import json
import re
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import streamae
from streamae.cli import main
from streamae.config.databases import read_history, seconds
from streamae.errors import ConfigError, SeriesError, UnavailableError
from streamae.history import influx, prometheus
from streamae.history.databases import fetch
from streamae.history.points import Points, gather
from streamae.history.series import read_series
from streamae.model.artifact import read_manifest
from streamae.training.settings import read_config
from tests.services import PROMETHEUS, PROMTOOL, Prometheus

HERE = Path(__file__).parents[1]
STEP_S = 10.0
ROWS = 12_000  # more than one request may ask for
START_S = 1_700_000_000.0


class Answers:
    """An HTTP server that gives the answers that it was given, in their order (the last one again and again)."""

    def __init__(self, certificates: Path | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.answers: list[tuple[int, bytes]] = [(200, b"{}")]
        self.location = ""
        outer = self

        class Desk(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.asked.append((self.path, dict(self.headers), body))
                status, answer = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                self.send_response(status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Desk)
        self.scheme = "http" if certificates is None else "https"
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}"

    def form(self, n: int = -1) -> dict[str, str]:
        return {key: one[0] for key, one in urllib.parse.parse_qs(self.asked[n][2]).items()}


@pytest.fixture
def answers() -> Iterator[Answers]:
    served = Answers()
    yield served
    served.server.shutdown()
    served.server.server_close()


def sources(folder: Path, text: str, environ: dict[str, str] | None = None):
    path = folder / "train.yaml"
    path.write_text(text)
    return read_history(path, environ or {})


def fetched(folder: Path, text: str, environ: dict[str, str] | None = None, slept: list[float] | None = None):
    waits = [] if slept is None else slept
    return fetch(sources(folder, text, environ), now=lambda: START_S + 3600, sleep=waits.append)


# ---- Prometheus


def plant(rows: int = ROWS):
    """Two channels of two pumps: `values[N, S, C]`."""
    t = np.arange(rows)[:, None]
    rng = np.random.default_rng(0)
    one = [
        10 * (s + 1) + np.sin(2 * np.pi * t / 25 + s + np.arange(2)) + 0.05 * rng.normal(size=(rows, 2)) for s in (0, 1)
    ]
    return np.stack(one, axis=1).round(6)


def openmetrics(values: np.ndarray) -> str:
    lines = []
    for c, channel in enumerate(("flow", "pressure")):
        lines.append(f"# TYPE pump_{channel} gauge")
        for s, pump in enumerate(("p1", "p2")):
            for n, value in enumerate(values[:, s, c].tolist()):
                if not (pump == "p2" and 600 <= n < 700):  # a gap of one pump
                    text = "NaN" if pump == "p1" and channel == "flow" and n == 50 else repr(value)
                    lines.append(f'pump_{channel}{{line="a",pump="{pump}"}} {text} {START_S + n * STEP_S:.0f}')
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[Prometheus]:
    """A real Prometheus with a past."""
    if not (PROMETHEUS and PROMTOOL):
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "past.om").write_text(openmetrics(plant()))
    command = [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", str(folder / "past.om"), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    server = Prometheus(folder, "global: {scrape_interval: 1m}\n", retention="20y")
    server.start()
    yield server
    server.kill()


def prometheus_yaml(url: str, **changes: str) -> str:
    end_s = START_S + (ROWS - 1) * STEP_S
    keys = {
        "queries": "{flow: 'avg by (line, pump) (last_over_time(pump_flow[9s]))', "
        "pressure: 'avg by (line, pump) (last_over_time(pump_pressure[9s]))'}",
        "stream": '"{line}/{pump}"',
        "start": f'"{time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START_S))}"',
        "end": f'"{time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end_s))}"',
        "step": "10s",
    } | changes
    return f"sources:\n  - type: prometheus\n    url: {url}\n" + "".join(
        f"    {k}: {v}\n" for k, v in keys.items() if v
    )


def test_what_prometheus_holds_comes_out_row_by_row(database, tmp_path):
    """Every value at its time, over more rows than one request may ask for; a gap is a gap, and NaN is missing."""
    first, second = fetched(tmp_path, prometheus_yaml(f"http://127.0.0.1:{database.port}"))
    values = plant()
    assert (first.name, second.name, first.channels) == ("a/p1", "a/p2", ("flow", "pressure"))
    assert len(first) == ROWS
    np.testing.assert_array_equal(first.time_s, START_S + STEP_S * np.arange(ROWS))
    assert np.isnan(first.values[50, 0])
    np.testing.assert_array_equal(np.delete(first.values, 50, axis=0), np.delete(values[:, 0], 50, axis=0))
    kept = np.r_[0:600, 700:ROWS]
    np.testing.assert_array_equal(second.time_s, START_S + STEP_S * kept)
    np.testing.assert_array_equal(second.values, values[kept, 1])
    assert first.time_text[0] == "2023-11-14T22:13:20.000Z"


def test_an_instant_vector_repeats_the_last_value_into_a_gap(database, tmp_path):
    """The control of the test above: without a range, Prometheus looks back five minutes, 30 rows here."""
    text = prometheus_yaml(f"http://127.0.0.1:{database.port}", queries="{flow: 'avg by (line, pump) (pump_flow)'}")
    second = fetched(tmp_path, text)[1]
    assert len(second) > ROWS - 100 + 25


def test_a_label_may_name_the_channel(database, tmp_path):
    query = "{'{__name__}': '{__name__=~\"pump_.*\", pump=\"p1\"}'}"
    (one,) = fetched(tmp_path, prometheus_yaml(f"http://127.0.0.1:{database.port}", queries=query, stream='"{pump}"'))
    assert (one.name, one.channels) == ("p1", ("pump_flow", "pump_pressure"))


def test_a_query_that_prometheus_refuses_is_shown_with_its_reason(database, tmp_path):
    text = prometheus_yaml(f"http://127.0.0.1:{database.port}", queries="{flow: 'avg by (pump (x)'}")
    with pytest.raises(ConfigError, match=r"answered 400 \(.*parse error.*correct the query: avg by"):
        fetched(tmp_path, text)


def test_labels_that_do_not_distinguish_streams_are_named(database, tmp_path):
    """Two series for one stream, a label that is not there, and a metric that is not: each with what to do."""
    url = f"http://127.0.0.1:{database.port}"
    with pytest.raises(SeriesError, match=r"two series are channel flow of stream a: .*pump=p1.*pump=p2"):
        fetched(tmp_path, prometheus_yaml(url, stream='"{line}"'))
    with pytest.raises(SeriesError, match=r"has no label machine \(its labels: line, pump\)"):
        fetched(tmp_path, prometheus_yaml(url, stream='"{machine}"'))
    with pytest.raises(SeriesError, match="no points for no_such_metric"):
        fetched(tmp_path, prometheus_yaml(url, queries="{flow: no_such_metric}"))


def test_train_and_fetch_from_prometheus_by_the_command_line(database, tmp_path):
    """`train` learns from sources as from files; `fetch` writes what it would learn from, a CSV for each stream."""
    url = f"http://127.0.0.1:{database.port}"
    text = prometheus_yaml(url) + "hidden: 4\nrecipe: {steps: 10}\n"
    (tmp_path / "train.yaml").write_text(text)
    said = CliRunner().invoke(main, ["fetch", "-c", str(tmp_path / "train.yaml"), "-o", str(tmp_path / "series")])
    assert said.exit_code == 0, said.output
    assert f"2 streams, {2 * ROWS - 100} rows, 2023-11-14T22:13:20.000Z" in said.output
    assert sorted(p.name for p in (tmp_path / "series").iterdir()) == ["a_p1.csv", "a_p2.csv"]
    again = read_series(tmp_path / "series" / "a_p2.csv")
    np.testing.assert_array_equal(again.values, fetched(tmp_path, text)[1].values)
    model = tmp_path / "pumps.pt"
    options = [
        "-c",
        str(tmp_path / "train.yaml"),
        "-o",
        str(model),
        "--rows",
        "2000",
        "--registry",
        str(tmp_path / "r"),
    ]
    said = CliRunner().invoke(main, ["train", *options])
    assert said.exit_code == 0, said.output
    manifest = read_manifest(model)
    assert sorted(manifest["streams"]) == ["a/p1", "a/p2"]
    assert (manifest["channels"], manifest["period_s"]) == (["flow", "pressure"], STEP_S)
    detector = streamae.train([], rows=2000, config=tmp_path / "train.yaml")  # and from Python
    assert (detector.streams, detector.channels) == (("a/p1", "a/p2"), ("flow", "pressure"))


@pytest.mark.parametrize("rows", [1, 10_000, 10_001, 25_000])
def test_parts_cover_every_step_once(rows):
    """No request asks for more than 10,000 steps, and together they ask for each step of the grid exactly once."""
    parts = prometheus.spans(START_S + 3, START_S + 3 + rows * STEP_S - 1, STEP_S)
    steps = [np.arange(a, b + 1, STEP_S) for a, b in parts]
    assert max(map(len, steps)) <= 10_000
    np.testing.assert_array_equal(np.concatenate(steps), START_S + STEP_S * np.arange(1, rows + 1))


MATRIX = {"resultType": "matrix", "result": [{"metric": {"line": "a", "pump": "p"}, "values": [[START_S, "1"]]}]}


@pytest.mark.parametrize("kept_in", ["file", "environment"])
def test_a_token_comes_from_a_file_or_the_environment(answers, tmp_path, kept_in):
    """And goes out as Prometheus wants it, with further headers."""
    (tmp_path / "token").write_text("s3cret\n")
    answers.answers = [(200, json.dumps({"status": "success", "data": MATRIX}).encode())]
    token = "file:token" if kept_in == "file" else "${TOKEN}"
    text = prometheus_yaml(answers.url, token=f'"{token}"', headers="{X-Scope-OrgID: plant}")
    (one,) = fetched(tmp_path, text, {"TOKEN": "s3cret"})
    assert one.values.tolist() == [[1.0, 1.0]]
    _, headers, _ = answers.asked[0]
    assert (headers["Authorization"], headers["X-Scope-Orgid"]) == ("Bearer s3cret", "plant")
    assert answers.form(0)["step"] == "10.000"


def test_tls_trusts_the_named_authority_and_no_other(certificates, tmp_path):
    """Without `ca` a certificate of the plant's own authority is refused, with the key that solves it."""
    answers = Answers(certificates)
    answers.answers = [(200, json.dumps({"status": "success", "data": MATRIX}).encode())]
    url = answers.url.replace("127.0.0.1", "localhost")
    with pytest.raises(ConfigError, match=r"CERTIFICATE_VERIFY_FAILED.*name its authority in sources: ca"):
        fetched(tmp_path, prometheus_yaml(url))
    assert len(fetched(tmp_path, prometheus_yaml(url, ca=str(certificates / "ca.pem")))) == 1
    answers.server.shutdown()


# ---- InfluxDB, by the shapes of its documentation

ANNOTATED = """\
#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string,string\r
#group,false,false,true,true,false,false,true,true,true\r
#default,mean,,,,,,,,\r
,result,table,_start,_stop,_time,_value,_field,_measurement,pump\r
,,0,2023-11-14T22:13:20Z,2023-11-14T23:13:20Z,2023-11-14T22:13:30Z,1.5,flow,pump,p1\r
,,0,2023-11-14T22:13:20Z,2023-11-14T23:13:20Z,2023-11-14T22:13:40.25Z,,flow,pump,p1\r
,,1,2023-11-14T22:13:20Z,2023-11-14T23:13:20Z,2023-11-14T22:13:30Z,2.5,pressure,pump,p1\r
\r
#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,long,string,string,string\r
#group,false,false,true,true,false,false,true,true,true\r
#default,mean,,,,,,,,\r
,result,table,_start,_stop,_time,_value,_field,_measurement,pump\r
,,2,2023-11-14T22:13:20Z,2023-11-14T23:13:20Z,2023-11-14T22:13:30Z,7,flow,pump,"p,2"\r
\r
"""
PIVOTED = """\
#datatype,string,long,dateTime:RFC3339,string,double,double\r
#group,false,false,false,true,false,false\r
#default,_result,,,,,\r
,result,table,_time,pump,flow,pressure\r
,,0,2023-11-14T22:13:30Z,p1,1.5,2.5\r
,,0,2023-11-14T22:13:40Z,p1,1.6,\r
\r
"""
FLUX_ERROR = "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,Failed to parse,897\r\n"
FLUX = """\
sources:
  - type: influxdb
    url: {url}
    org: my plant
    token: ${{TOKEN}}
    queries: {{"{{_field}}": 'from(bucket: "pumps") |> range(start: v.timeRangeStart, stop: v.timeRangeStop)'}}
    stream: "{{pump}}"
    start: -1h
    step: 10s
"""


def test_flux_tables_become_streams_and_channels(answers, tmp_path):
    """Tables by tags and field, an empty cell as missing, integers, quoted tags; the token travels in its header."""
    answers.answers = [(200, ANNOTATED.encode())]
    first, second = fetched(tmp_path, FLUX.format(url=answers.url), {"TOKEN": "s3cret"})
    assert (first.name, second.name, first.channels) == ("p,2", "p1", ("flow", "pressure"))
    np.testing.assert_array_equal(first.values, [[7, np.nan]])
    np.testing.assert_array_equal(second.values, [[1.5, 2.5]])  # a row of nothing but missing values is none
    assert second.time_s.tolist() == [START_S + 10]
    path, headers, body = answers.asked[0]
    assert path == "/api/v2/query?org=my+plant"
    assert headers["Authorization"] == "Token s3cret"
    script = json.loads(body)["query"].splitlines()
    assert script[0] == (
        "option v = {timeRangeStart: 2023-11-14T22:13:20.000Z, timeRangeStop: 2023-11-14T23:13:20.000Z, "
        "windowPeriod: 10000ms}"
    )
    assert json.loads(body)["dialect"]["annotations"] == ["datatype", "group", "default"]


def test_a_pivoted_table_has_a_channel_for_each_column(answers, tmp_path):
    answers.answers = [(200, PIVOTED.encode())]
    (one,) = fetched(tmp_path, FLUX.format(url=answers.url), {"TOKEN": "x"})
    assert one.channels == ("flow", "pressure")
    np.testing.assert_array_equal(one.values, [[1.5, 2.5], [1.6, np.nan]])


def test_the_span_stands_behind_imports():
    """Flux wants `import` first, and options before what uses them."""
    text = 'import "math"\nimport "strings"\n\nfrom(bucket: "x")'
    assert influx.with_span(text, 0.0, 10.0, 0.5).splitlines()[2].startswith("option v = ")


@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (200, FLUX_ERROR, ConfigError, "Failed to parse; correct the query: from"),
        (400, '{"code":"invalid","message":"loc 1:1: expected"}', ConfigError, r"answered 400 \(loc 1:1: expected\)"),
        (401, '{"code":"unauthorized","message":"unauthorized access"}', ConfigError, "set token, or username"),
        (404, "404 page not found", ConfigError, r"to /api/v2/query.*url is the base address"),
        (302, "", ConfigError, "answered 302"),
        (200, "<html>a page</html>", ConfigError, "_time|annotated CSV|no points"),
        (503, "overloaded", UnavailableError, r"answered 503 \(overloaded\), 4 times"),
    ],
)  # fmt: skip
def test_each_refusal_of_a_database_says_whose_fault_it_is(answers, tmp_path, status, answer, kind, words):
    """And never shows the token, nor takes it to where a redirection points."""
    elsewhere = Answers()
    answers.location, slept = (elsewhere.url if status == 302 else ""), []
    answers.answers = [(status, answer.encode())]
    with pytest.raises((ConfigError, SeriesError, UnavailableError), match=words) as refused:
        fetched(tmp_path, FLUX.format(url=answers.url), {"TOKEN": "s3cret"}, slept)
    assert isinstance(refused.value, kind | SeriesError)
    assert "s3cret" not in str(refused.value)
    assert slept == ([1.0, 2.0, 4.0] if status == 503 else [])
    assert not elsewhere.asked
    elsewhere.server.shutdown()


def test_a_database_that_stumbles_is_asked_again(answers, tmp_path, caplog):
    """Two failures, then the answer; each pause is logged with its reason, and a smooth fetch says nothing."""
    answers.answers = [(503, b"busy"), (429, b""), (200, PIVOTED.encode())]
    assert len(fetched(tmp_path, FLUX.format(url=answers.url), {"TOKEN": "x"})[0]) == 2
    logged = ["answered 503 (busy); asking again in 1 s", "answered 429; asking again in 2 s"]
    assert [record.getMessage() for record in caplog.records] == [f"{answers.url}: {words}" for words in logged]
    fetched(tmp_path, FLUX.format(url=answers.url), {"TOKEN": "x"})
    assert len(caplog.records) == 2


def test_a_database_that_is_down_is_named(tmp_path):
    with pytest.raises(UnavailableError, match=r"http://127.0.0.1:9: no answer \(.*refused.*is it up"):
        fetched(tmp_path, FLUX.format(url="http://127.0.0.1:9"), {"TOKEN": "x"})


INFLUXQL = """\
sources:
  - type: influxql
    url: {url}
    database: plant
    username: reader
    password: ${{PW}}
    queries:
      flow: SELECT mean("flow") FROM "pump" WHERE $timeFilter GROUP BY time($interval), "pump"
    stream: "{{pump}}"
    start: -2d
    step: 1m
"""


def test_influxql_series_become_streams(answers, tmp_path):
    """Tags name the stream, null is missing; a request for each day, with the span and the step in the query."""
    rows = [[1699913600000, 1.5], [1699913660000, None], [1699913720000, 2]]
    series = [{"name": "pump", "tags": {"pump": p}, "columns": ["time", "mean"], "values": rows} for p in ("p1", "p2")]
    nothing = {"results": [{"statement_id": 0}]}
    answers.answers = [
        (200, json.dumps({"results": [{"statement_id": 0, "series": series}]}).encode()),
        (200, json.dumps(nothing).encode()),
    ]
    first, _ = fetched(tmp_path, INFLUXQL.format(url=answers.url), {"PW": "s3cret"})
    assert (first.name, first.channels) == ("p1", ("flow",))
    assert (first.time_s.tolist(), first.values[:, 0].tolist()) == ([1699913600.0, 1699913720.0], [1.5, 2.0])
    asked = answers.form(0)
    assert (asked["db"], asked["epoch"]) == ("plant", "ms")
    spans = [tuple(map(int, re.findall(r"(\d+)ms AND|< (\d+)ms", answers.form(n)["q"])[0][:1])) for n in range(3)]
    assert len(answers.asked) == len(spans) == 3  # -2d begins within a minute, so there is a third, short part
    assert "GROUP BY time(60000ms)" in asked["q"]
    assert answers.asked[0][1]["Authorization"] == "Basic " + base64.b64encode(b"reader:s3cret").decode()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"results": [{"statement_id": 0, "error": "database not found: plant"}]}, "database not found: plant"),
        ({"results": [{"statement_id": 0, "partial": True, "series": []}]}, "cut its answer short"),
        ({"hello": "world"}, "answers otherwise than InfluxDB does"),
        ([], "answers otherwise than InfluxDB does"),
    ],
)
def test_what_influxql_refuses_is_reported(answers, tmp_path, answer, words):
    answers.answers = [(200, json.dumps(answer).encode())]
    with pytest.raises(ConfigError, match=words):
        fetched(tmp_path, INFLUXQL.format(url=answers.url), {"PW": "x"})


# ---- the block itself


def test_the_example_loads(tmp_path):
    """deploy/train.yaml, as it stands and with every key in force, is accepted by all that read it."""
    example = (HERE.parent / "deploy" / "train.yaml").read_text()
    assert [one.type for one in sources(tmp_path, example)] == ["prometheus"]
    read_config(tmp_path / "train.yaml")
    everything = re.sub(r"(?m)^(\s*)#(?=(- )?[\"a-z_0-9{}]+:|from|\|>)", r"\1", example).replace("file:", "credential:")
    everything = re.sub(r"credential:\S*", "${SECRET}", everything)
    types = [one.type for one in sources(tmp_path, everything, {"SECRET": "x"})]
    assert types == ["prometheus", "influxdb", "influxql"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("step: 10", "sources[0].step: got 10; write a number with its unit"),
        ("start: yesterday", "sources[0].start: got yesterday; write now, a time before now such as -14d"),
        ("token: plain", "sources[0].token: got plain text; keep secrets out"),
        ("headers: {Authorization: x}", "sources[0].headers.Authorization: got plain text; keep Authorization out"),
        ("type: graphite", "sources[0].type: got graphite; write type: prometheus, influxdb or influxql"),
        ("stepp: 1s", "sources[0].stepp: got an unknown key; did you mean step?"),
    ],
)
def test_a_mistake_in_a_source_is_reported_with_its_place(tmp_path, line, words):
    key = line.split(":")[0]
    text = prometheus_yaml("http://localhost:9090", **{key: ""})
    text = re.sub(rf"(?m)^ +(- )?{key}: .*\n", "", text) if key != "type" else text.replace("type: prometheus", line)
    text = text if key == "type" else text + f"    {line}\n"
    with pytest.raises(ConfigError) as caught:
        sources(tmp_path, text)
    assert words in str(caught.value)
    assert re.match(rf"{re.escape(str(tmp_path))}/train.yaml:\d+:\d+: ", str(caught.value))


@pytest.mark.parametrize(
    ("text", "meant"),
    [("now", 1e9), ("-1h", 1e9 - 3600), ("2001-09-09", 999993600.0), ("2001-09-09T01:46:40+00:00", 1e9)],
)
def test_moments(text, meant):
    assert seconds(text, 1e9) == meant


def test_channels_that_a_stream_lacks_are_missing_values():
    """All streams get all channels, in the order of the queries."""

    def ask(query: str, start_s: float, end_s: float) -> list[Points]:
        pumps = ("a", "b") if query == "x" else ("b",)
        return [Points({"pump": p}, np.array([start_s]), np.array([1.0])) for p in pumps]

    first, second = gather(ask, {"one": "x", "two": "y"}, "{pump}", [(0.0, 1.0), (2.0, 3.0)])
    np.testing.assert_array_equal(first.values, [[1, np.nan], [1, np.nan]])
    np.testing.assert_array_equal(second.values, [[1, 1], [1, 1]])


def test_train_without_series_and_sources_says_what_it_wants(tmp_path):
    said = CliRunner().invoke(main, ["train", "-o", str(tmp_path / "x.pt")])
    assert said.exit_code == 2
    assert "name at least one series, or sources in train.yaml" in said.output
