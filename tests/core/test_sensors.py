"""The contract of core.sensors: verdicts on sensors, the same however the samples were grouped, and no wolf cried."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.groups import Groups
from streamae.core.sensors.rules import SensorRules
from streamae.core.sensors.stage import SensorRule, Sensors
from streamae.core.standing import standing_rules, stream_marks
from streamae.core.types import Readings
from streamae.daemon.recover import orphans, recover
from streamae.store.store import Store
from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Fleet, Pumps
from streamae.training.calibrate import longest_runs
from tests import plants
from tests.core.test_pipeline import T0, plant
from tests.naive_sensors import NaiveSensors
from tests.quick import examples
from tests.store_world import crash

pytestmark = pytest.mark.quick

CHANNELS = ("a", "b")
NONE = np.zeros(0, np.bool_)


def readings(samples):
    """Samples of (stream, channel, time_s, value, arrival_s), each of an origin of its own."""
    columns = list(zip(*samples, strict=True)) or [()] * 5
    s, c, t, v, arrival = columns
    ids = np.array(s, np.int32), np.array(c, np.int32)
    return Readings(
        *ids, np.array(t, float), np.array(v, float), np.arange(len(s), dtype=np.int32), np.array(arrival, float)
    )


class World:
    """A stage and what it found, sample by sample or in batches."""

    def __init__(self, rule, streams=3, *, apart=False, channels=CHANNELS):
        self.health, self.streams, self.findings = Sensors(rule, channels, apart=apart), streams, []
        self.health.grow(streams)

    def step(self, samples, now_s=0.0, maintenance=()):
        excused = np.isin(np.arange(self.streams), maintenance)
        found = self.health.step(readings(samples), np.zeros(len(samples), np.bool_), excused, now_s)
        self.findings += [(f.stream, f.channel, f.rule, f.fires, f.onset_s, f.time_s) for f in found]
        return found

    def restarted(self, rule, *, apart=False, channels=CHANNELS):
        """The same state in a new stage."""
        other = World(rule, self.streams, apart=apart, channels=channels)
        other.health.restore(self.health.state(self.streams))
        other.findings = self.findings
        return other


def live(world, seconds, *, first=0, silent=(), dead=(), held=(), streams=3, every_s=1.0):
    """Let noisy streams speak, row by row: `silent` streams do not, `held` (stream, channel) show one value."""
    rng = np.random.default_rng(first)
    for k in range(first, first + seconds):
        t = k * every_s
        rows = [
            (s, c, t, 7.0 if (s, c) in held else rng.normal(), t)
            for s in range(streams)
            for c in range(len(CHANNELS))
            if s not in silent and (s, c) not in dead
        ]
        world.step(rows, t)
    return world


RULES = st.sampled_from(
    [
        SensorRule(range={"a": (-1.0, 3.0)}, keep_s=5.0, learn=3),
        SensorRule(stale_after_s=40.0, stuck_after_s=30.0),
        SensorRule(stale_after_s=None),
        SensorRule(stuck_after_s=None, learn=2),
    ]
)


@st.composite
def lives(draw):
    """Samples of three streams over some minutes: steady, silent, frozen, in modes, late, and with ticks between."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    now_s, out = 0.0, []
    mood = {(s, c): 0 for s in range(3) for c in range(2)}
    for phase in range(draw(st.integers(2, 6))):
        for key in mood:
            mood[key] = rng.choice(4, p=[0.55, 0.15, 0.15, 0.15])
        quiet = draw(st.sampled_from([0, 0, 0, 1]))
        for _ in range(draw(st.sampled_from([30, 90, 300 if phase == 0 else 60]))):
            now_s += float(rng.choice([0.5, 1.0, 2.0, 45.0], p=[0.3, 0.5, 0.19, 0.01]))
            if quiet:
                out.append(([], now_s))
                now_s += 9.0
                continue
            batch = []
            for (s, c), how in mood.items():
                if how == 1:
                    continue
                value = {0: round(float(rng.normal()), 2), 2: 0.25, 3: float(rng.integers(0, 2))}[int(how)]
                batch.append((s, c, now_s - (1.5 if rng.random() < 0.02 else 0.0), value, now_s))
            out.append((batch, now_s))
    return out


def flat(steps, sizes):
    """The same samples in other batches, never across a tick."""
    out, carry, carry_s = [], [], 0.0
    sizes = iter(sizes * (1 + sum(len(b) for b, _ in steps)))
    size = next(sizes)
    for batch, now_s in steps:
        if not batch:
            out += [(carry, carry_s), ([], now_s)] if carry else [([], now_s)]
            carry = []
            continue
        for sample in batch:
            carry, carry_s = [*carry, sample], now_s
            if len(carry) >= size:
                out.append((carry, carry_s))
                carry, size = [], next(sizes)
    return [*out, (carry, carry_s)] if carry else out


@settings(max_examples=examples(30))
@given(lives(), RULES, st.booleans(), st.lists(st.integers(1, 200), min_size=1, max_size=4))
def test_every_verdict_is_that_of_the_naive_oracle_in_any_batches(steps, rule, apart, sizes):
    """Findings equal those of the rules written down once more, sample by sample, for any batches."""
    oracle, world = NaiveSensors(rule, CHANNELS, apart=apart), World(rule, apart=apart)
    for batch, now_s in flat(steps, sizes):
        oracle.step(batch, now_s)
        world.step(batch, now_s)
    assert sorted(world.findings) == sorted(oracle.findings)


@settings(max_examples=examples(25))
@given(lives(), RULES, st.booleans(), st.integers(0, 400))
def test_a_restart_in_the_middle_changes_nothing(steps, rule, apart, cut):
    """State and restore at any step give the findings of an undisturbed stage."""
    whole, parts = World(rule, apart=apart), World(rule, apart=apart)
    for i, (batch, now_s) in enumerate(steps):
        whole.step(batch, now_s)
        parts = parts.restarted(rule, apart=apart) if i == cut else parts
        parts.step(batch, now_s)
    assert parts.findings == whole.findings
    a, b = whole.health.state(3), parts.health.state(3)
    assert all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


def test_a_stream_that_learns_is_taken_in_arrays(monkeypatch):
    """New streams and new extremes are learnt without walking a stream; only what may be a verdict is walked."""
    walked, walk = [], SensorRules.walk
    monkeypatch.setattr(
        SensorRules, "walk", lambda self, s, *rest, **how: walked.append(s) or walk(self, s, *rest, **how)
    )
    world, jitter = World(SensorRule()), np.random.default_rng(0)
    for k in range(400):
        t = k + jitter.uniform(0, 0.5)
        world.step([(s, c, t, jitter.normal(), t) for s in range(3) for c in range(2)], t)
    assert world.health.state_of_sensors.kinds.min() == 5
    assert walked == []
    live(world, 61, first=400, held={(1, 0)})
    assert set(walked) == {1}


def test_a_stuck_sensor_is_reported_with_its_channel_and_resolved_when_it_moves():
    """Sixty equal values of a channel that never repeats are one verdict, of the first of them on; the next ends it."""
    world = live(World(SensorRule()), 300)
    assert world.findings == []
    live(world, 61, first=300, held={(1, 0)})
    assert world.findings == [(1, 0, "stuck", True, 300.0, 360.0)]
    live(world, 50, first=361, held={(1, 0)})
    assert len(world.findings) == 1
    live(world, 5, first=411)
    assert world.findings[1:] == [(1, 0, "stuck", False, 300.0, 411.0)]


@pytest.mark.parametrize("kinds", [1, 2, 4])
def test_modes_and_constants_are_never_stuck(kinds):
    """A channel that shows fewer than five values may stay constant for any time, even if it moved a lot before."""
    world = World(SensorRule(stale_after_s=None), 1, channels=("a",))
    rng = np.random.default_rng(kinds)
    values = [float(x) for x in rng.integers(0, kinds, 600)] + [0.0] * 5000
    world.step([(0, 0, float(t), v, float(t)) for t, v in enumerate(values)])
    assert world.findings == []
    lively = [*map(float, rng.integers(0, 5, 600)), *values[600:]]
    control = World(SensorRule(stale_after_s=None), 1, channels=("a",))
    control.step([(0, 0, float(t), v, float(t)) for t, v in enumerate(lively)])
    assert len(control.findings) == 1, "with five values it is"


def test_a_stream_is_stale_when_the_others_were_heard_and_it_was_not():
    """One verdict a minute after the last sample, with that sample's time as its onset; its next sample ends it."""
    world = live(World(SensorRule()), 100)
    live(world, 90, first=100, silent={2})
    assert world.findings == [(2, -1, "stale", True, 99.0, 159.0)]
    live(world, 3, first=190)
    assert world.findings[1:] == [(2, -1, "stale", False, 99.0, 190.0)]


def test_a_channel_that_arrives_apart_is_stale_alone():
    """Where channels have topics of their own, one that falls silent is named; in one message they come together."""
    world = live(World(SensorRule(), apart=True), 100)
    live(world, 90, first=100, dead={(1, 1)})
    assert world.findings == [(1, 1, "stale", True, 99.0, 159.0)]
    together = live(World(SensorRule()), 100)
    live(together, 90, first=100, dead={(1, 1)})
    assert together.findings == []


@pytest.mark.full
def test_a_dead_gateway_is_one_verdict_and_its_return_none():
    """Ten thousand streams that fall silent together are one verdict of the group, from ticks, and no stream is stale
    when they come back one after another.
    """
    S = 10_000
    world = World(SensorRule(), S, channels=("a",))
    rng = np.random.default_rng(0)
    for t in range(30):
        world.step([(s, 0, float(t), v, t + s / S) for s, v in enumerate(rng.normal(size=S))], t + 1.0)
    for k in range(12):
        world.step([], 30.0 + 10 * k)
    assert [t[:4] for t in world.findings] == [(-1, -1, "stale", True)]
    assert world.findings[0][4:] == (29.0, 89.0)
    for t in range(200, 220):
        step = S // 20
        world.step(
            [(s, 0, float(t), rng.normal(), float(t)) for s in range((t - 200) * step, (t - 199) * step)], t + 0.5
        )
    assert [t[:4] for t in world.findings[1:]] == [(-1, -1, "stale", False)]


@pytest.mark.parametrize("away_s", [3600.0, -86_400.0, 10 * 365 * 86_400.0])
def test_time_without_a_connection_is_no_silence_of_a_stream(away_s):
    """A broker that was away, a restart, a clock that jumps either way: no verdict, with no tick while we are deaf."""
    world = live(World(SensorRule()), 100)
    world = world.restarted(SensorRule())
    rng = np.random.default_rng(1)
    for k in range(40):
        t = 100 + away_s + k
        world.step([(s, c, t, rng.normal(), t) for s in range(3) for c in range(2)], t)
    assert world.findings == []
    deaf = live(World(SensorRule()), 100)
    for k in range(100):
        deaf.step([], 100.0 + k)
    assert [t[:4] for t in deaf.findings] == [(-1, -1, "stale", True)], "with ticks it is reported: the control"


@pytest.mark.full
def test_a_silence_that_comes_every_night_is_reported_some_nights_and_then_known():
    """A reported silence teaches up to the limit it broke, so a sensor that sleeps is reported on some nights only."""
    world = live(World(SensorRule()), 1000)
    for night in range(12):
        begin = 1000 * (night + 1)
        live(world, 500, first=begin, silent={2})
        live(world, 100, first=begin + 500)
    assert 1 <= sum(t[3] for t in world.findings) <= 3


def test_a_value_out_of_range_is_reported_at_once_and_ends_after_a_while_within():
    """A value beyond its declared range fires, further ones do not, and it ends `keep_s` after the last of them."""
    world = World(SensorRule(stale_after_s=None, range={"b": (0.0, 10.0)}, keep_s=5.0), 1)
    values = [5, 11, 5, -1, 5, 5, 5, 5, 5, 5]
    world.step([(0, 1, float(t), float(v), float(t)) for t, v in enumerate(values)])
    assert world.findings == [(0, 1, "out_of_range", True, 1.0, 1.0), (0, 1, "out_of_range", False, 1.0, 8.0)]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["pumps", "fleet"])
def test_a_day_of_a_normal_plant_gives_no_verdict_and_a_stuck_sensor_does(kind):
    """Simulated plants raise no verdict over a day of theirs; with one sensor stuck, that one and no other."""
    plant = Pumps(6, 2, seed=4, day_s=3600.0) if kind == "pumps" else Fleet(40, seed=4, day_s=3600.0)
    C = len(plant.channels)
    world = World(SensorRule(), len(plant.names), channels=plant.channels)

    def run(rows):
        time_s, values, _ = plant.rows(rows)
        for i, t in enumerate(time_s.tolist()):
            world.step([(s, c, t, float(values[i, s, c]), t) for s in range(len(plant.names)) for c in range(C)], t)

    run(3600)
    assert world.findings == []
    plant.inject(Fault("stuck", plant.names[2], plant.elapsed_s, 200.0, channel=plant.channels[-1]))
    run(260)
    assert [t[:4] for t in world.findings] == [(2, C - 1, "stuck", True), (2, C - 1, "stuck", False)]


def test_the_runs_of_training_are_those_of_a_series_and_none_of_its_modes():
    """`longest_runs` gives the longest run of equal values of a channel, and 0 for modes and constant channels."""
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=4000)
    noisy[700:709] = noisy[700]
    steps = np.repeat(rng.normal(size=40), 100)
    rows = np.stack([noisy, rng.integers(0, 3, 4000), np.full(4000, 2.0), steps], axis=1)
    assert longest_runs(rows).tolist() == [9, 0, 0, 0]


def test_a_stream_of_the_artifact_is_judged_at_once_and_by_its_own_runs():
    """With the runs of its training a stream can be stuck from its first samples on; a new one has to learn."""
    frozen = [(0, 0, float(t), 1.5, float(t)) for t in range(400)]
    for runs, known, onset in ((30, True, 300.0), (0, True, None), (30, False, None)):
        world = World(SensorRule(stale_after_s=None), 1, channels=("a",))
        world.health.begin(0, np.array([runs]), known=known)
        found = world.step(frozen)
        assert [f.time_s for f in found] == ([onset] if onset else []), (runs, known)


def test_ticks_are_journalled_and_the_group_s_silence_survives_a_crash(tmp_path):
    """The state that a start folds from the journal has a silence that only ticks found, and the alert stays open."""
    store = Store.open(tmp_path, "process", lambda: 0.0)
    groups = Groups("i", [plants.group()])
    for first in range(0, 180, 30):
        messages = plant(60)[first : first + 30]
        batch = plants.batch(messages)
        store.commit(batch, groups.step(batch, messages[-1][2]), messages[-1][2])
    now_s = messages[-1][2]
    while groups.listening and now_s < messages[-1][2] + 600:
        now_s += 10.0
        report = groups.step(plants.batch([]), now_s)
        store.commit(plants.batch([]), report, now_s)
    (stale,) = report.transitions
    assert (stale.stream, stale.rule, stale.state) == ("*", "stale", "firing")
    crash(store)
    store = Store.open(tmp_path, "process", lambda: 0.0)
    again = Groups("i", [plants.group()])
    recover(store, again)
    assert again.snapshot() == groups.snapshot()
    assert orphans(store, again) == []
    report = again.step(plants.batch([(topic, payload, now_s + 5) for topic, payload, _ in messages]), now_s)
    assert [(t.id, t.sequence, t.state) for t in report.transitions if t.rule == "stale"] == [(stale.id, 1, "resolved")]
    store.close()


def test_a_snapshot_from_before_sensor_health_is_taken_over():
    """Without the parts of health and quarantine a snapshot restores the rest, and these start again."""
    groups = Groups("i", [plants.group()])
    groups.step(plants.batch(plant(60)), 0.0)
    with np.load(io.BytesIO(groups.snapshot())) as kept:
        arrays = {n: kept[n] for n in kept.files if "/health." not in n and "/quarantine." not in n}
    old = io.BytesIO()
    np.savez(old, **arrays)
    again = Groups("i", [plants.group()])
    assert again.restore(old.getvalue()) == []
    assert again.pipelines["pumps"].streams.names == groups.pipelines["pumps"].streams.names
    more = [m for m in plant(90) if m[2] >= T0 + 60]
    lines = [p.step(plants.batch(more), 0.0).groups["pumps"].verdicts.score.tolist() for p in (groups, again)]
    assert lines[0] == lines[1]


def lively(rng, rows):
    return [float(x) for x in rng.normal(size=rows)]


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_run_before_a_channel_is_known_teaches_its_whole_length(one_by_one):
    """A hundred equal values among the first ones: later a thousand are usual, and one more is stuck."""
    world, rng = World(SensorRule(stale_after_s=None), 1, channels=("a",)), np.random.default_rng(0)
    values = [*lively(rng, 20), *[7.0] * 100, *lively(rng, 300), *[8.0] * 1001]
    samples = [(0, 0, float(t), v, float(t)) for t, v in enumerate(values)]
    for part in [[one] for one in samples] if one_by_one else [samples]:
        world.step(part)
    assert [t[:6] for t in world.findings] == [(0, 0, "stuck", True, 420.0, 1420.0)]


def test_a_channel_that_training_saw_at_rest_has_shown_nothing_yet():
    """With a longest run of 0 it may show four values and then stay constant: it is a mode, for any values."""
    world, rng = World(SensorRule(stale_after_s=None), 1, channels=("a",)), np.random.default_rng(0)
    world.health.begin(0, np.array([0]), known=True)
    values = [float(x) for x in rng.integers(1, 5, 600)] + [1.0] * 2000
    world.step([(0, 0, float(t), v, float(t)) for t, v in enumerate(values)])
    assert world.findings == []


def test_a_silence_within_one_batch_is_reported_with_its_end_and_both_give_their_limits():
    """Where all comes at once, nothing is left out: the stream is stale and back, the channel by its own limit."""
    rule = SensorRule(stale_after_s=10.0, stuck_after_s=None)
    for apart, dead in ((False, {(1, 0), (1, 1)}), (True, {(1, 1)})):
        world = World(rule, 2, apart=apart)
        samples = [
            (s, c, float(t), float(t + c), float(t))
            for t in range(40)
            for s in range(2)
            for c in range(2)
            if (s, c) not in dead or not 5 < t < 30
        ]
        found = [f for f in world.step(samples, 40.0) if f.rule == "stale"]
        channel = 1 if apart else -1
        assert [(f.stream, f.channel, f.fires, f.onset_s, f.time_s) for f in found] == [
            (1, channel, True, 5.0, 15.0), (1, channel, False, 5.0, 30.0),
        ]  # fmt: skip
        assert [(f.score, f.threshold) for f in found] == [(10.0, 10.0), (25.0, 10.0)]


def test_what_is_usual_is_learnt_alike_in_arrays_and_sample_by_sample():
    """A stream with an open verdict is walked: what it learns of its other channel is what one without would learn."""
    rng = np.random.default_rng(0)
    values = [*lively(rng, 10), *[3.0] * 30, *lively(rng, 200), *[4.0, 5.0] * 20, *[6.0] * 50, *lively(rng, 100)]
    kept = []
    for bounds in ({}, {"b": (0.0, 1.0)}):
        world = World(SensorRule(range=bounds), 1)
        for t, value in enumerate(values):
            at = t + 7.0 * (t > 50) + 3.0 * (t > 90)
            world.step([(0, 0, at, value, at), (0, 1, at, 2.0 + t, at)])
        assert len(world.findings) == len(bounds)
        kept.append({name: array[0, 0].tolist() for name, array in world.health.state_of_sensors.state(1).items()})
    assert kept[0] == kept[1]
    assert (kept[0]["seen"], kept[0]["kinds"], kept[0]["longest"]) == (430, 5, 50)


def test_the_page_gets_the_channel_and_the_stream_of_a_verdict():
    """Marks name the verdict in words with its channel, that on a whole stream without one, and end with it."""
    rule = SensorRule(stale_after_s=5.0, stuck_after_s=None, range={"b": (-50.0, 50.0)}, keep_s=1e6)
    groups, messages = Groups("i", [plants.group(health=rule)]), plant(40)
    pipeline = groups.pipelines["pumps"]
    mute = [m for m in messages if m[0] != b"plant/p0" or not T0 + 10 <= m[2] < T0 + 20]
    at = {}
    for message in mute:
        groups.step(plants.batch([message]), message[2])
        at[int(message[2] - T0)] = stream_marks(pipeline)
    far = {1: ["out of range: b"], 2: ["out of range: b"]}
    assert at[9] == far
    assert at[18] == far | {0: ["stale"]}
    assert at[30] == far
    assert sorted(standing_rules(pipeline)) == ["out_of_range"] * 2


@pytest.mark.parametrize(("length", "findings"), [(21, 1), (22, 0)])
def test_a_channel_that_changes_every_twenty_samples_can_just_be_stuck(length, findings):
    """Twenty-one changes in 420 samples are enough, in 440 they are those of one that is normally constant."""
    world = World(SensorRule(stale_after_s=None), 1, channels=("a",))
    values = [float(k) for k in range(20) for _ in range(length)] + [99.0] * (10 * length + 1)
    world.step([(0, 0, float(t), v, float(t)) for t, v in enumerate(values)])
    assert len(world.findings) == findings


def test_what_ends_bears_the_limit_that_it_broke():
    """A stream's is that of its liveliest channel, a channel's its own: five times their longest silences."""
    world = World(SensorRule(stuck_after_s=None, stale_min_s=2.0, learn=5), 2, apart=True)
    found = []
    for t in range(120):
        speaks = {(0, 0), (1, 0) if not 90 < t < 111 else (0, 0)} | ({(0, 1), (1, 1)} if t % 3 == 0 else set())
        speaks -= {(1, 1)} if 40 < t < 80 or 90 < t < 111 else set()
        found += world.step([(s, c, float(t), float(t), float(t)) for s, c in sorted(speaks)], float(t))
    found = [f for f in found if f.rule == "stale" and not f.fires]
    assert [(f.stream, f.channel, f.time_s, f.threshold) for f in found] == [(1, 1, 81.0, 15.0), (1, -1, 111.0, 5.0)]
