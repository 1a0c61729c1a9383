"""Training data from messages: a recording, or a running installation's journal, gives what scoring sees."""

import json
import math
import sqlite3

import numpy as np
import pytest
from click.testing import CliRunner

from streamae.cli import main
from streamae.config import load
from streamae.core.pipeline import Pipeline
from streamae.core.types import Batch
from streamae.errors import ConfigError, SeriesError, StoreError
from streamae.history.messages import from_journal, from_recordings, series_of_messages
from streamae.history.recordings import message_line
from streamae.store.past import Spell, open_past
from streamae.store.silences import Silence
from streamae.store.store import Store
from tests import sparkplug as sp
from tests.plants import LevelModel, known_stream, profile
from tests.sparkplug import metric, payload
from tests.store_world import report, transition

NOW = 1_700_000_000.0
Z2M = """\
streams:
  rooms:
    topics: [{topic: "zigbee2mqtt/{room}", payload: zigbee2mqtt}]
    model: {path: rooms.pt}
"""
GRID = """\
streams:
  pumps:
    topics: [{topic: "plant/{pump}/{channel}"}]
    align: {every: 1s, lateness: 0s}
    model: {path: pumps.pt}
"""
EDGE = """\
streams:
  edge:
    topics: [{topic: "spBv1.0/{group}/+/{node}/{device}", payload: sparkplug}]
    align: {every: 1s, lateness: 1s, gap_max: 120s}
    counters: {Flow: off}
    model: {path: edge.pt}
"""


def configured(folder, text):
    path = folder / "streamae.yaml"
    path.write_text(text)
    return path


def written(folder, messages):
    path = folder / "messages.jsonl"
    path.write_text("".join(message_line(time_s, topic.encode(), body) for time_s, topic, body in messages))
    return path


def rooms(rows=150, names=("kitchen", "hall")):
    for i in range(rows):
        for r, name in enumerate(names):
            body = {"temperature": 20 + r + math.sin(i / 9), "humidity": 40 + i % 5, "state": "ON", "note": "x"}
            if i % 3 == 0:
                body["battery"] = 90
            yield NOW + 10 * i, f"zigbee2mqtt/{name}", json.dumps(body).encode()
        yield NOW + 10 * i + 1, "zigbee2mqtt/kitchen/availability", b"online"


def test_channels_that_are_not_configured_are_those_that_most_messages_have(tmp_path):
    """Numbers and switches of most messages are channels; what is rare is left out, and said."""
    found = from_recordings(configured(tmp_path, Z2M), None, [written(tmp_path, rooms())])
    assert [one.name for one in found.series] == ["kitchen", "hall"]
    kitchen = found.series[0]
    assert kitchen.channels == ("temperature", "humidity", "state")
    assert kitchen.values[4].tolist() == [20 + math.sin(4 / 9), 44.0, 1.0]
    assert kitchen.time_s[4] == NOW + 40
    assert len(kitchen) == len(kitchen.time_text) == 150
    assert "battery (33%)" in "\n".join(found.notes)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_rows_are_those_of_the_daemon(tmp_path, size, monkeypatch):
    """However it is cut into batches, a recording gives exactly the rows that the daemon's pipeline would score."""
    rng = np.random.default_rng(3)
    messages = []
    for i in range(300):
        for channel in ("flow", "pressure"):
            if rng.random() < 0.8:
                time_s = NOW + i + rng.random() * 0.9
                messages.append((time_s, f"plant/p{i % 2}/{channel}", repr(float(rng.normal())).encode()))
    batches = [messages[i : i + size] for i in range(0, len(messages), size)]
    made = [Batch([t.encode() for _, t, _ in b], [p for _, _, p in b], np.array([s for s, _, _ in b])) for b in batches]
    monkeypatch.setattr("streamae.history.gridding._READINGS_A_STEP", size)
    group = load(configured(tmp_path, GRID)).streams["pumps"]
    found = series_of_messages("pumps", group, lambda: made)
    numbers = known_stream([0.0, 0.0], [1.0, 1.0], weight=[0.5, 0.5], zero=1.4, offset=1.6)
    known = dict.fromkeys(("p0", "p1"), numbers)
    bridged_s = found.series[0].prepared.grid.gap_max_s  # as long as these channels need; training hands it on
    assert bridged_s >= 10.0
    trained = profile(channels=found.series[0].channels, streams=known, gap_max_s=bridged_s)
    pipeline = Pipeline("x", group.with_model("pumps", trained, LevelModel()))
    rows = {"p0": [], "p1": []}
    for batch in made:
        scaled = pipeline.step(batch).groups["pumps"].rows
        stream, time_s, values = scaled.stream, scaled.time_s, scaled.values
        for s, t, v in zip(stream.tolist(), time_s.tolist(), values.tolist(), strict=True):
            rows[pipeline.streams.names[s]].append((t, *v))
    for series in found.series:
        ours = [(t, *v) for t, v in zip(series.time_s.tolist(), series.values.astype(np.float32).tolist(), strict=True)]
        assert ours == rows[series.name]
        assert len(ours) > 200


def test_sparkplug_is_read_by_its_births(tmp_path):
    """Metric names of the births are the channels, aliases and holds are those of the daemon."""
    messages = [
        (
            NOW,
            "spBv1.0/g/DBIRTH/n/p1",
            payload(
                metric("Flow", alias=1, datatype=sp.DOUBLE, double_value=1.0),
                metric("Speed", alias=2, datatype=sp.INT16, int_value=7),
                metric("Serial", datatype=sp.STRING, string_value=b"x"),
                metric("Node Control/Rebirth", datatype=sp.BOOLEAN, boolean_value=False),
                seq=1,
                time_s=NOW,
            ),
        )
    ]
    for i in range(1, 200):
        messages.append(
            (
                NOW + i,
                "spBv1.0/g/DDATA/n/p1",
                payload(metric(alias=1, double_value=float(i)), seq=(i + 1) % 256, time_s=NOW + i),
            )
        )
    (series,) = from_recordings(configured(tmp_path, EDGE), "edge", [written(tmp_path, messages)]).series
    assert series.channels == ("Flow", "Speed")
    assert series.values[30].tolist() == [30.0, 7.0]
    assert len(series) == 121, "a value is held for gap_max, and Speed was sent once"


def test_what_cannot_be_learnt_from_is_said(tmp_path):
    """No message of the group, too few rows, a group that is not there: each says what to do."""
    path = configured(tmp_path, Z2M)
    with pytest.raises(SeriesError, match=r"1 unmatched_topic.*check its topics"):
        from_recordings(path, None, [written(tmp_path, [(NOW, "other/x", b"1")])])
    with pytest.raises(SeriesError, match=r"kitchen \(9\).*record for longer"):
        from_recordings(path, None, [written(tmp_path, rooms(9))])
    with pytest.raises(ConfigError, match="has rooms"):
        from_recordings(path, "halls", [tmp_path / "x"])
    found = from_recordings(
        path, None, [written(tmp_path, [*rooms(), (NOW, "zigbee2mqtt/new", b'{"temperature": 1}')])]
    )
    assert "new (0)" in "\n".join(found.notes)


@pytest.mark.parametrize("kind", ["zigbee2mqtt", "json"])
def test_devices_of_another_group_are_no_streams_of_this_one(tmp_path, kind):
    """As in the daemon: climate sensors have a battery voltage, and are no plugs; alone, nobody could know."""
    homes = f"""\
streams:
  plugs:
    topics: [{{topic: "z/{{device}}", payload: {kind}, values: {{power: power, voltage: voltage}}}}]
    align: {{every: 1s}}
    model: {{path: a.pt}}
"""
    climate = f"""\
  climate:
    topics: [{{topic: "z/{{device}}", payload: {kind}, values: {{temperature: temperature}}}}]
    align: {{every: 1s}}
    model: {{path: b.pt}}
  anything:
    topics: [{{topic: "z/{{device}}", payload: {kind}}}]
    model: {{path: c.pt}}
"""
    sent = [(NOW + i, "z/tv", b'{"power": %d, "voltage": 230}' % i) for i in range(150)]
    sent += [(NOW + i, f"z/room{i % 5}", b'{"temperature": 21, "voltage": 3005}') for i in range(150)]
    recording = written(tmp_path, sent)
    found = from_recordings(configured(tmp_path, homes + climate), "plugs", [recording])
    assert [(one.name, one.channels) for one in found.series] == [("tv", ("power", "voltage"))]
    assert not any("room" in note for note in found.notes)
    alone = from_recordings(configured(tmp_path, homes), "plugs", [recording])
    assert any("left out" in note for note in alone.notes)


def test_spells_are_left_out(tmp_path):
    group = load(configured(tmp_path, Z2M)).streams["rooms"]
    batch = Batch(
        *map(list, zip(*((t.encode(), p) for _, t, p in rooms()), strict=True)), np.array([s for s, _, _ in rooms()])
    )
    found = series_of_messages("rooms", group, lambda: [batch], [Spell("hall", NOW + 100, NOW + 200)], since_s=NOW + 50)
    kitchen, hall = found.series
    assert kitchen.time_s[0] == NOW + 50
    assert len(kitchen) - len(hall) == 10
    assert not ((hall.time_s >= NOW + 100) & (hall.time_s < NOW + 200)).any()


def commit(store, messages, transitions=()):
    batch = Batch(
        [t.encode() for _, t, _ in messages], [p for _, _, p in messages], np.array([s for s, _, _ in messages])
    )
    store.commit(batch, report(*transitions, rows=len(messages)), messages[-1][0])


def test_the_journal_of_a_running_installation(tmp_path):
    """Read while the daemon writes it, from `since` on, without the time of alerts that were no false alarms."""
    path, state = configured(tmp_path, Z2M), tmp_path / "state"
    messages = list(rooms(400))
    store = Store.open(state, "process", lambda: NOW)
    try:
        fired = transition(
            1, stream="kitchen", group="rooms", onset_s=NOW + 1000, window_start_s=NOW + 900, time_s=NOW + 1000
        )
        over = transition(
            1,
            stream="kitchen",
            group="rooms",
            onset_s=NOW + 1000,
            window_start_s=NOW + 1000,
            time_s=NOW + 1200,
            state="resolved",
            sequence=2,
        )
        wrong = transition(
            2, stream="hall", group="rooms", onset_s=NOW + 500, window_start_s=NOW + 400, time_s=NOW + 500
        )
        for i in range(0, len(messages), 30):
            commit(store, messages[i : i + 30], [fired, over, wrong] if i == 900 else [])
        assert store.alerts.give_feedback(wrong.id, "false-alarm", NOW)
        store.silences.create(Silence(NOW + 2000, NOW + 2100, stream="h*", created_by="me", comment="service"), NOW)
        before = (state / "state.db").stat().st_size
        found = from_journal(path, None, state, since_s=NOW + 200)
        kitchen, hall = found.series
        assert (state / "state.db").stat().st_size == before
        commit(store, messages[-30:])
    finally:
        store.close()
    assert kitchen.time_s[0] >= NOW + 200
    assert not ((kitchen.time_s >= NOW + 900) & (kitchen.time_s < NOW + 1200)).any()
    assert ((kitchen.time_s >= NOW + 1200) & (kitchen.time_s < NOW + 1300)).sum() == 10
    assert ((hall.time_s >= NOW + 400) & (hall.time_s < NOW + 600)).sum() == 20
    assert not ((hall.time_s >= NOW + 2000) & (hall.time_s < NOW + 2100)).any()
    assert ((kitchen.time_s >= NOW + 2000) & (kitchen.time_s < NOW + 2100)).sum() == 10
    with pytest.raises(StoreError, match=r"has no state\.db"):
        from_journal(path, None, tmp_path, since_s=0.0)


def test_a_file_of_another_kind_is_no_past(tmp_path):
    """What another program or a newer release wrote is refused in words; what an older one wrote is read."""
    state = tmp_path / "state.db"
    Store.open(tmp_path, "process", lambda: NOW).close()

    def changed(statement):
        with sqlite3.connect(state) as connection:
            connection.execute(statement)

    for table in ("silence", "poison"):
        changed(f"DROP TABLE {table}")
    with open_past(tmp_path) as past:
        assert (past.silences("rooms"), list(past.batches(0.0)), past.span()) == ([], [], None)
    changed("PRAGMA user_version = 999")
    with pytest.raises(StoreError, match="not a state file of this release"), open_past(tmp_path):
        pass
    changed("PRAGMA application_id = 7")
    with pytest.raises(StoreError, match="not a state file of this release"), open_past(tmp_path):
        pass
    state.unlink()
    state.mkdir()
    with pytest.raises(StoreError, match="cannot be read"), open_past(tmp_path):
        pass


def test_the_verb_wants_what_it_needs(tmp_path):
    """Messages without a configuration, and nothing at all, are mistakes of the command line."""
    for arguments, words in (
        (["--recording", "x.jsonl", "-o", "m.pt"], "want --streams"),
        (["-o", "m.pt"], "name at least one series"),
        (["--journal", "x", "--streams", str(configured(tmp_path, Z2M)), "--since", "soon"], "--since: got soon"),
    ):
        done = CliRunner().invoke(main, ["train", *arguments])
        assert done.exit_code == 2
        assert words in done.output
