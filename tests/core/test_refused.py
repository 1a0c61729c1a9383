"""The contract of core.refused: a clock that has fallen back is believed, what is sent again is not."""

import numpy as np
import pytest

from streamae.core.align import align_stage
from streamae.core.align_rule import GridAlign, RowAlign
from streamae.core.refused import AGAIN
from streamae.core.types import Drop, Drops, Readings

pytestmark = pytest.mark.quick

START_S = 1_000_000.0
GRID = GridAlign(1.0, lateness_s=2.0, gap_max_s=5.0)
SETTINGS = pytest.mark.parametrize("setting", [RowAlign(), GRID], ids=["row", "grid"])


def readings(event_s, arrival_s, *, streams=1, channels=2, first=0):
    """A message a row of each stream, with all channels; values count on from `first`."""
    n = len(event_s)
    each = streams * channels
    return Readings(
        stream=np.tile(np.repeat(np.arange(streams, dtype=np.int32), channels), n),
        channel=np.tile(np.arange(channels, dtype=np.int32), n * streams),
        time_s=np.repeat(np.asarray(event_s, float), each),
        value=np.arange(first * each, (first + n) * each, dtype=float),
        origin=np.repeat(np.arange(n * streams, dtype=np.int32), channels),
        arrival_s=np.repeat(np.asarray(arrival_s, float), each),
    )


def run(setting, event_s, arrival_s, cut, *, restart=False, streams=1):
    """Rows `(stream, time, values)` and drops, in batches of `cut` messages, with a snapshot between if `restart`."""
    stage, rows, drops = align_stage(setting, 2), [], Drops()
    stage.grow(streams)
    for a in range(0, len(event_s), cut):
        if restart:
            kept, stage = stage.state(streams), align_stage(setting, 2)
            stage.restore(kept)
        out, refused = stage.step(readings(event_s[a : a + cut], arrival_s[a : a + cut], streams=streams, first=a))
        rows += zip(out.stream.tolist(), out.time_s.tolist(), map(tuple, out.values.tolist()), strict=True)
        drops += refused
    return rows, drops


@SETTINGS
@pytest.mark.parametrize("back_s", [120.0, 3600.0, 1e6])
def test_time_begins_again_where_a_clock_has_fallen_back(setting, back_s):
    """By minutes, an hour or days: after some samples in order rows come again, by the clock as it is now."""
    arrival_s = START_S + np.arange(60.0)
    event_s = np.where(np.arange(60) < 30, arrival_s, arrival_s - back_s)
    rows, drops = run(setting, event_s, arrival_s, 60)
    times = [row[1] for row in rows]
    assert times[-1] >= event_s[-1] - 2.0
    assert sum(t < START_S for t in times) >= 30 - AGAIN - 2
    assert drops[Drop.LATE] <= AGAIN * 2
    assert len(set(times)) == len(times)


@SETTINGS
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("cut", [1, 7, 31])
def test_it_does_not_depend_on_batches_nor_on_a_restart(setting, cut, restart):
    """The rows and the refusals are the same however the messages were batched, also over a snapshot in any place."""
    arrival_s = START_S + np.arange(90.0)
    event_s = arrival_s - np.select([np.arange(90) < 25, np.arange(90) < 60], [0.0, 500.0], 1e6)
    whole = run(setting, event_s, arrival_s, 90, streams=2)
    parts = run(setting, event_s, arrival_s, cut, restart=restart, streams=2)
    assert sorted(parts[0]) == sorted(whole[0])
    assert parts[1] == whole[1]


@SETTINGS
def test_what_is_stored_and_sent_again_stays_late(setting):
    """A gateway sends its last hundred rows once more, within a second or so: none of them is taken."""
    event_s = np.r_[START_S + np.arange(200.0), START_S + 100 + np.arange(100.0), START_S + 200 + np.arange(5.0)]
    arrival_s = np.r_[
        START_S + np.arange(200.0), np.linspace(START_S + 200, START_S + 202, 100), START_S + 203 + np.arange(5)
    ]
    rows, drops = run(setting, event_s, arrival_s, 50)
    assert [row[1] for row in rows] == sorted({row[1] for row in rows})
    assert len(rows) >= 200
    assert drops[Drop.LATE] + drops[Drop.DUPLICATE] >= 100


@SETTINGS
def test_one_message_moves_no_clock(setting):
    """However many samples in order one message carries, its stream's time does not begin again within it."""
    event_s = np.r_[START_S + np.arange(50.0), START_S - 1000 + np.arange(200) * 0.001]
    arrival_s = np.r_[START_S + np.arange(50.0), np.full(200, START_S + 50)]
    rows, _ = run(setting, event_s, arrival_s, 250)
    assert min(row[1] for row in rows) >= START_S


@SETTINGS
def test_without_arrivals_nobody_knows(setting):
    """Where it is unknown when samples arrived, late ones stay late for ever."""
    stage = align_stage(setting, 2)
    stage.grow(1)
    event_s = np.r_[START_S + np.arange(20.0), np.arange(50.0)]
    known = readings(event_s, event_s)
    rows, _ = stage.step(Readings(known.stream, known.channel, known.time_s, known.value, known.origin))
    assert rows.time_s.min() >= START_S


@SETTINGS
def test_a_second_sender_on_time_keeps_the_time(setting):
    """Late samples between others that are on time move nothing: only what is late one after another does."""
    arrival_s = START_S + np.arange(100) * 0.5
    event_s = np.where(np.arange(100) % 2, arrival_s - 5000, arrival_s)
    rows, _ = run(setting, event_s, arrival_s, 100)
    assert min(row[1] for row in rows) >= START_S


@SETTINGS
def test_a_forged_stamp_costs_some_rows_and_no_more(setting):
    """One message a minute ahead, every 54 s: the time begins again after each, and most rows are there."""
    arrival_s = START_S + np.arange(540.0)
    event_s = np.where(np.arange(540) % 54 == 53, arrival_s + 59, arrival_s)
    rows, _ = run(setting, event_s, arrival_s, 100)
    assert len(rows) > 0.75 * 540


@SETTINGS
def test_runs_of_refusals_end_with_what_is_taken(setting):
    """Late, of a clock that stands still, or in want of a channel: each is counted until something is taken again."""
    stage = align_stage(setting, 2)
    stage.grow(1)
    stage.step(readings(START_S + np.arange(10.0), START_S + np.arange(10.0)))
    stage.step(readings(np.full(12, START_S - 50), START_S + 10 + np.arange(12.0)))
    late = 12 if isinstance(setting, RowAlign) else 24
    assert stage.refused.late[0] == late
    stage.step(readings(np.full(12, START_S + 9), START_S + 22 + np.arange(12.0)))
    assert stage.refused.still[0] >= 11
    stage.step(readings(START_S + 40 + np.arange(3.0), START_S + 40 + np.arange(3.0)))
    assert stage.refused.late[0] == stage.refused.still[0] == 0
    part = readings(START_S + 50 + np.arange(30.0), START_S + 50 + np.arange(30.0))
    half = part.channel == 0
    stage.step(
        Readings(*(getattr(part, x)[half] for x in ("stream", "channel", "time_s", "value", "origin", "arrival_s")))
    )
    assert stage.refused.short[0] + stage.refused.bare[0] >= 20
    assert stage.dead(0) == [1]
    stage.step(readings(START_S + 90 + np.arange(5.0), START_S + 90 + np.arange(5.0)))
    assert stage.refused.short[0] == stage.refused.bare[0] == 0
