"""Series and recordings of messages: what is read, what is refused, and that writing and reading are inverse."""

import gzip
import json
import math
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.decode import Decoder, PayloadSpec
from streamae.core.routes import Router, Streams
from streamae.core.topics import Template
from streamae.errors import SeriesError
from streamae.history.encode import MessageEncoder, encoder_for
from streamae.history.recordings import (
    message_line,
    read_batches,
    read_series,
    scan_messages,
    series_messages,
    write_series,
)
from streamae.training.dataset import build, load


def series_file(folder: Path, text: str, name: str = "pump7.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_series_is_read_without_its_label(tmp_path: Path) -> None:
    """Channels keep their order, empty cells and NaN are missing, and the label column is never there."""
    text = "timestamp,flow,label,bar\n2024-05-01 12:00:00,1.5,1,\n2024-05-01T12:00:01Z,nan,0,-2e3\n\n"
    series = read_series(series_file(tmp_path, text))
    assert (series.name, series.channels) == ("pump7", ("flow", "bar"))
    np.testing.assert_array_equal(series.values, [[1.5, np.nan], [np.nan, -2000.0]])
    assert series.time_s.tolist() == [1714564800.0, 1714564801.0]
    assert series.time_text == ["2024-05-01 12:00:00", "2024-05-01T12:00:01Z"]


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["0", "1"], [0.0, 1.0]),
        (["1714564800.5", "1714564801"], [1714564800.5, 1714564801.0]),
        (["1714564800500", "1714564801000"], [1714564800.5, 1714564801.0]),
        (["1714564800500000", "1714564801000000"], [1714564800.5, 1714564801.0]),
        (["1714564800500000000", "1714564801000000000"], [1714564800.5, 1714564801.0]),
        (["2024-05-01T14:00:00.5+02:00", "2024-05-01"], [1714564800.5, 1714521600.0]),
    ],
)
def test_times(tmp_path: Path, cells: list[str], seconds: list[float]) -> None:
    """Times are ISO 8601, naive ones in UTC, or numbers whose unit follows from their magnitude."""
    series = read_series(series_file(tmp_path, "timestamp,v\n" + "".join(f"{cell},1\n" for cell in cells)))
    np.testing.assert_allclose(series.time_s, seconds, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,v\n1,2\n2,oops\n", r"pump7\.csv:3: v: got 'oops'; a channel holds numbers"),
        ("timestamp,v\n1,2\nsoon,3\n", r"pump7\.csv:2: timestamp: got '1'; write ISO 8601"),
        ("timestamp,v\n1,2\n,3\n", r"pump7\.csv:2: timestamp: got '1'"),
        ("timestamp,v\n1,2\nnan,3\n", r"pump7\.csv:3: timestamp: got 'nan'; give every row a time"),
        ("timestamp,v\n1,2\n2\n", r"pump7\.csv:3: 1 cells, the header has 2"),
        ("timestamp,label\n1,2\n", r"pump7\.csv:1: no channel"),
        ("timestamp,v,v\n1,2,3\n", r"pump7\.csv:1: column 'v' without a name of its own"),
        ("timestamp,v\n", r"no rows; a series is timestamp"),
        ("", r"no rows"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    """A file that is no series is refused with file, line, column, value and remedy."""
    with pytest.raises(SeriesError, match=message):
        read_series(series_file(tmp_path, text))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A missing file, a cut archive and bytes that are no text are errors of the operator's, not of ours."""
    with pytest.raises(SeriesError, match=r"nowhere\.csv: cannot be read"):
        read_series(tmp_path / "nowhere.csv")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"timestamp,v\n" + b"1,2\n" * 10_000)[:-20])
    with pytest.raises(SeriesError, match=r"cut\.csv\.gz: cannot be read"):
        read_series(cut)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"timestamp,v\n1,\xff\xfe\n")
    with pytest.raises(SeriesError, match="not UTF-8"):
        read_series(binary)


def test_semicolons_and_byte_order_mark(tmp_path: Path) -> None:
    """A file as spreadsheets write it is read too."""
    series = read_series(series_file(tmp_path, "\ufefftimestamp;v\n1;2.5\n"))
    assert (series.channels, series.values.tolist()) == (("v",), [[2.5]])


def test_parquet(tmp_path: Path) -> None:
    """Parquet gives the same series as CSV."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional extra")
    pq = pytest.importorskip("pyarrow.parquet")
    times = np.array(["2024-05-01T12:00:00", "2024-05-01T12:00:01"], "datetime64[ms]")
    pq.write_table(pa.table({"timestamp": times, "v": [1.5, None], "label": [0, 1]}), tmp_path / "p.parquet")
    series = read_series(tmp_path / "p.parquet")
    assert (series.name, series.channels) == ("p", ("v",))
    assert series.time_s.tolist() == [1714564800.0, 1714564801.0]
    np.testing.assert_array_equal(series.values, [[1.5], [np.nan]])


@pytest.mark.parametrize("kind", ["timestamp[ns, tz=Europe/Berlin]", "seconds", "text"])
def test_a_model_learns_the_same_from_parquet_as_from_csv(tmp_path: Path, kind: str) -> None:
    """For any type of the times; numbers may be whole, or narrow."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional extra")
    pq = pytest.importorskip("pyarrow.parquet")
    time_s, values = 1714564800.0 + 0.5 * np.arange(200), np.arange(200) % 7
    text = [datetime.fromtimestamp(t, UTC).isoformat() for t in time_s.tolist()]
    write_series(tmp_path / "p.csv", ["whole", "narrow"], text, np.column_stack([values, 0.25 * values]))
    moments = pa.array((time_s * 1e9).astype("datetime64[ns]")).cast(pa.timestamp("ns", tz="Europe/Berlin"))
    column = {"seconds": pa.array(time_s), "text": pa.array(text)}.get(kind, moments)
    table = {"timestamp": column, "whole": pa.array(values), "narrow": pa.array((0.25 * values).astype(np.float32))}
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    wanted, found = (build(load([tmp_path / name], None)) for name in ("p.csv", "p.parquet"))
    for field in fields(wanted):
        np.testing.assert_equal(getattr(found, field.name), getattr(wanted, field.name))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"timestamp": [1.0, 2.0], "v": ["a", "b"]}, "v: .*; a channel holds numbers"),
        ({"timestamp": [], "v": []}, "no rows"),
    ],
)
def test_a_parquet_file_that_is_no_series_is_refused(tmp_path: Path, columns: dict[str, list], said: str) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional extra")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(SeriesError, match=said):
        read_series(tmp_path / "p.parquet")
    (tmp_path / "p.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(SeriesError, match=r"p\.parquet: cannot be read"):
        read_series(tmp_path / "p.parquet")


numbers = st.floats(allow_infinity=False, width=64)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20), ending=st.sampled_from([".csv", ".csv.gz"]))
def test_written_series_is_read_again_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float]], ending: str
) -> None:
    """`write_series` and `read_series` are inverse; a label that is written is not read."""
    path = tmp_path_factory.mktemp("series") / f"s{ending}"
    values = np.array(rows)
    write_series(path, ["a", "b"], [str(i) for i in range(len(rows))], values, [1] * len(rows))
    series = read_series(path)
    np.testing.assert_array_equal(series.values, values)
    assert series.channels == ("a", "b")
    assert series.time_s.tolist() == list(range(len(rows)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 4e9), st.text(min_size=1, max_size=9), st.binary(max_size=30)), max_size=20))
def test_recorded_messages_are_read_again(tmp_path_factory: pytest.TempPathFactory, messages: list) -> None:
    """Every message comes back with its time, topic and payload, for any bytes."""
    path = tmp_path_factory.mktemp("recording") / "r.jsonl"
    expected = [(time_s, topic.encode(errors="replace"), payload) for time_s, topic, payload in messages]
    path.write_text("".join(message_line(*message) for message in expected), newline="")
    assert list(scan_messages(path)) == expected
    parts = [len(expected[n : n + 4]) for n in range(0, len(expected), 4)]
    assert [len(batch) for batch in read_batches(path, 4)] == parts


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"r\.jsonl:2: "),
        ('{"time_s": 1, "topic": "a"}', r"r\.jsonl:2: no 'payload'; a line of a recording is"),
        ('{"time_s": "x", "topic": "a", "payload": ""}', r"r\.jsonl:2: could not convert"),
        ('{"time_s": 1, "topic": 5, "payload": ""}', r"r\.jsonl:2: "),
        ('{"time_s": 1, "topic": "a", "payload_b64": "?"}', r"r\.jsonl:2: "),
        ("[]", r"r\.jsonl:2: "),
        ("[" * 100_000, r"r\.jsonl:2: "),
    ],
)
def test_damaged_recordings_are_named(tmp_path: Path, line: str, message: str) -> None:
    """A line that is no message is refused with file and line."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"time_s": 1, "topic": "a", "payload": "1"}\n' + line + "\n")
    with pytest.raises(SeriesError, match=message):
        list(read_batches(path))


SPECS = [
    ("plant/{line}/{pump}", PayloadSpec("json", time="timestamp")),
    ("plant/{line}/{pump}", PayloadSpec("json", time="t.at", time_unit="rfc3339", values={"a": "v.a", "b": "v.b[1]"})),
    ("plant/{line}/{pump}", PayloadSpec("json", time="ts", time_unit="ms", samples="readings")),
    ("plant/{line}/{pump}/{channel}", PayloadSpec("json", time="time", value="reading.value")),
    ("plant/{line}/{pump}/{channel}", PayloadSpec("number")),
    ("plant/{line}/{pump}/{channel}", PayloadSpec("number", decimal=",")),
]


@pytest.mark.parametrize(("topic", "spec"), SPECS)
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(*[st.floats(-1e30, 1e30) | st.just(math.nan)] * 2), min_size=1, max_size=5))
def test_encoding_is_decoding_read_backwards(topic: str, spec: PayloadSpec, rows: list[tuple[float, float]]) -> None:
    """A row encoded for a group's topic is decoded to the same numbers, to the last bit; NaN is left out."""
    template, channels = Template.parse(topic), ("a", "b")
    encoder = encoder_for([(template, spec)], channels, {"line": "l1"}, "p7")
    times = [1.7e9 + i for i in range(len(rows))]
    messages = [(t, m) for t, row in zip(times, rows, strict=True) for m in encoder.encode(t, row)]
    streams = Streams("{line}/{pump}", 10)
    decoder = Decoder(Router([template], channels, streams), [spec], channels)
    arrival_s = np.array([t for t, _ in messages])
    readings, _ = decoder.decode([m[0].encode() for _, m in messages], [m[1].encode() for _, m in messages], arrival_s)
    found = sorted(zip(readings.time_s, readings.channel, readings.value, strict=True))
    wanted = [(t, c, v) for t, row in zip(times, rows, strict=True) for c, v in enumerate(row) if not math.isnan(v)]
    assert [(c, v) for _, c, v in found] == [(c, v) for _, c, v in wanted]
    np.testing.assert_allclose([f[0] for f in found], [w[0] for w in wanted], rtol=0, atol=1e-5)
    assert streams.names in (["l1/p7"], [])


def test_series_that_a_topic_cannot_carry_is_refused(tmp_path: Path) -> None:
    """A channel that the payload needs and the series lacks is named."""
    series = read_series(series_file(tmp_path, "timestamp,a\n1,2\n"))
    spec = PayloadSpec("json", values={"a": "a", "b": "b"})
    with pytest.raises(SeriesError, match=r"needs channel 'b'; the series has \['a'\]"):
        encoder_for([(Template.parse("t/{stream}"), spec)], series.channels, {}, series.name)
    for spec in (
        PayloadSpec("json", labels={"p": "id"}),
        PayloadSpec("json", id="n"),
        PayloadSpec("json", name="{channel}"),
    ):
        with pytest.raises(SeriesError, match="say whose they are"):
            encoder_for([(Template.parse("t/{stream}"), spec)], series.channels, {}, series.name)
    encoder = MessageEncoder(
        Template.parse("t/{stream}"), PayloadSpec("json", time="timestamp"), ("a",), {"stream": "s"}
    )
    ((time_s, topic, payload),) = series_messages(series, encoder)
    assert (time_s, topic, json.loads(payload)) == (1.0, b"t/s", {"timestamp": 1.0, "a": 2.0})
