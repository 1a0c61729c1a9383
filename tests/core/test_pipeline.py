"""The contract of the whole core: one fold over messages."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.core.alert import AlertRule
from streamae.core.align_rule import GridAlign
from streamae.core.decode import PayloadSpec
from streamae.core.groups import Groups
from streamae.core.pipeline import alert_id
from streamae.core.types import AlertState, Drop, Drops, Rows
from streamae.store.journal import decode_batch, encode_batch
from tests import plants
from tests.quick import examples

pytestmark = pytest.mark.quick

T0 = 1_700_000_000.0


def plant(seconds, *, pumps=3, bad=(), seed=0):
    """Messages of some pumps, one row a second each; `bad` is {(pump, second)} where both channels jump."""
    rng = np.random.default_rng(seed)
    out = []
    for t in range(seconds):
        for pump in range(pumps):
            jump = 40.0 if (pump, t) in bad else 0.0
            a, b = rng.normal(0, 1, 2) + pump * 100 + jump
            document = {"a": float(a), "b": float(b), "t": T0 + t}
            out.append((b"plant/p%d" % pump, json.dumps(document).encode(), T0 + t + 0.1))
    return out


def play(groups, messages, edges=()):
    """Step through the messages, cut at these places; returns all verdict lines by stream, transitions and drops."""
    cuts = sorted({0, len(messages), *(e % (len(messages) + 1) for e in edges)})
    lines, transitions, drops = {}, [], {}
    for a, b in zip(cuts, cuts[1:], strict=False):
        report = groups.step(plants.batch(messages[a:b]), 0.0)
        for name, news in report.groups.items():
            v = news.verdicts
            for i in range(len(v)):
                line = (v.time_s[i], v.start_s[i], v.score[i], v.threshold[i], v.share[i].tolist(), int(v.state[i]))
                lines.setdefault((name, int(v.stream[i])), []).append(repr(line))
        transitions += report.transitions
        for reason, n in report.drops.items():
            drops[reason] = drops.get(reason, 0) + n
    return lines, sorted(transitions, key=lambda t: (t.time_s, t.key)), drops


BAD = {(1, t) for t in range(40, 46)}


@settings(max_examples=examples(30))
@given(st.lists(st.integers(0, 500), max_size=12))
def test_reports_do_not_depend_on_the_batches(edges):
    """Any partition of the same messages gives identical verdicts, transitions and drops."""
    messages = [*plant(60, bad=BAD), (b"other/x", b"1", T0), (b"plant/p0", b"{", T0)]
    rule = AlertRule(for_s=2, keep_firing_for_s=3)
    whole = play(Groups("i", [plants.group(alert=rule)]), messages)
    assert play(Groups("i", [plants.group(alert=rule)]), messages, edges) == whole
    assert [t.stream for t in whole[1]] == ["p1"] * len(whole[1]) != []


@settings(max_examples=examples(20))
@given(st.integers(0, 200))
def test_a_restored_pipeline_goes_on_as_if_nothing_had_happened(cut):
    """Snapshot and restore at any message, in the middle of warm-up, window or alert, change nothing."""
    messages = plant(60, bad=BAD)
    groups = [plants.group(alert=AlertRule(keep_firing_for_s=3))]
    whole = play(Groups("i", groups), messages)
    first, second = Groups("i", groups), Groups("i", groups)
    lines, transitions, _ = play(first, messages[:cut])
    assert second.restore(first.snapshot()) == []
    more_lines, more, _ = play(second, messages[cut:])
    for key, late in more_lines.items():
        lines.setdefault(key, []).extend(late)
    assert (lines, transitions + more) == whole[:2]


def test_a_new_stream_learns_before_it_judges():
    """A stream yields no verdict during its warm-up, LEARNING while it learns its level, then its scores."""
    groups = [plants.group(profile=plants.profile(warmup_rows=8, learn_windows=5, window=4))]
    groups = Groups("i", groups)
    lines, _, _ = play(groups, plant(30, pumps=1))
    states = [int(line.rsplit(", ", 1)[1][:-1]) for line in lines["pumps", 0]]
    # 8 rows of warm-up, 3 more until the first window is full, 5 windows of learning
    assert states == [AlertState.LEARNING] * 5 + [AlertState.INACTIVE] * (30 - 8 - 3 - 5)


def test_a_stream_of_the_artifact_is_judged_at_once():
    """A stream that the model was trained on has no warm-up."""
    known = {"p0": plants.known_stream([0.0, 0.0], [1.0, 1.0], weight=[0.5, 0.5], zero=1.4, offset=1.6)}
    lines, _, _ = play(Groups("i", [plants.group(profile=plants.profile(streams=known))]), plant(10, pumps=1))
    assert len(lines["pumps", 0]) == 10 - 3


def test_an_alert_says_what_it_saw():
    """A transition carries labels, shares that sum to 1, the window, score, threshold, model digest and a stable id."""
    _, transitions, _ = play(Groups("plant-1", [plants.group()]), plant(60, bad=BAD))
    fired = transitions[0]
    assert (fired.state, fired.stream, fired.labels, fired.model_digest) == ("firing", "p1", {"pump": "p1"}, "0" * 64)
    assert fired.id == alert_id("plant-1", "pumps", "p1", "anomaly", fired.onset_s)
    assert fired.score > fired.threshold
    assert fired.time_s - fired.window_start_s == 3.0
    assert sum(fired.shares.values()) == pytest.approx(1.0, abs=1e-3)
    assert T0 + 40 <= fired.onset_s <= T0 + 42


def test_every_refused_message_is_in_a_counter():
    """What is refused is counted under its reason, by the group that would have had it, or under its topic."""
    groups = [plants.group("pumps"), plants.group("valves", template="valve/{pump}", max_streams=1)]
    messages = [
        (b"plant/p0", b"{", T0),
        (b"plant/p0", b"", T0),
        (b"valve/v0", json.dumps({"a": 1, "b": 2, "t": T0}).encode(), T0),
        (b"valve/v1", json.dumps({"a": 1, "b": 2, "t": T0}).encode(), T0),
        (b"valve/v0", json.dumps({"a": 1, "b": 2, "t": T0}).encode(), T0),
        (b"elsewhere", b"1", T0),
        (b"\xff", b"1", T0),
    ]
    _, _, drops = play(Groups("i", groups), messages)
    assert drops == {Drop.MALFORMED: 1, Drop.EMPTY: 1, Drop.MAX_STREAMS: 1, Drop.DUPLICATE: 1, Drop.TOPIC: 2}


def test_a_topic_without_labels_finds_its_group():
    """Where there are several groups, a template that is one full topic is found as any other is."""
    groups = [plants.group("one", template="plant/main", stream="one"), plants.group("rest")]
    document = json.dumps({"a": 1, "b": 2, "t": T0}).encode()
    groups = Groups("i", groups)
    _, _, drops = play(groups, [(b"plant/main", document, T0), (b"plant/p0", document, T0)])
    assert not drops
    assert [pipeline.streams.names for pipeline in groups.pipelines.values()] == [["one"], ["main", "p0"]]


def test_channels_that_arrive_apart_give_the_alerts_of_a_clean_plant():
    """Four channels on topics of their own, at 1, 1, 5 s and irregular periods, with 3 % duplicates, 3 % out of order
    within the lateness, and two gaps, give the alerts of the clean, ordered plant.
    """
    rng = np.random.default_rng(3)
    channels = ("pressure", "flow", "temp", "level")
    times = {
        "pressure": np.arange(0, 600, 1.0),
        "flow": np.arange(0.5, 600, 1.0),
        "temp": np.arange(0, 600, 5.0),
        "level": np.cumsum(rng.uniform(0.3, 2.5, 420)),
    }
    samples = sorted(
        (T0 + t, c, rng.normal(0, 1) + (30.0 if 500 <= t < 520 and c in ("pressure", "flow") else 0.0))
        for c in channels
        for t in times[c]
        if not (200 <= t < 230 or 300 <= t < 340)
    )
    clean = [(s, s[0]) for s in samples]
    messy = []
    for i, (s, sent_s) in enumerate(clean):
        late_s = 3.0 * rng.random() if rng.random() < 0.03 else 0.0
        messy.append((s, sent_s + late_s, i))
        if rng.random() < 0.03:
            messy.append((s, sent_s + 2.0 * rng.random(), i))
    messy.sort(key=lambda m: (m[1], m[2]))

    def run(order):
        spec = PayloadSpec("json", value="v", time="t")
        profile = plants.profile(channels, warmup_rows=100, window=8)
        group = plants.group(
            template="plant/{pump}/{channel}",
            payload=spec,
            profile=profile,
            align=GridAlign(1.0, lateness_s=4.0, gap_max_s=8.0),
            alert=AlertRule(keep_firing_for_s=30, critical_ratio=1e9),
        )
        messages = [(f"plant/p0/{c}".encode(), json.dumps({"v": v, "t": t}).encode(), t) for (t, c, v) in order]
        return play(Groups("i", [group]), messages, range(0, len(messages), 97))

    lines, transitions, drops = run([s for s, _ in clean])
    messy_lines, messy_transitions, messy_drops = run([m[0] for m in messy])
    assert messy_transitions == transitions
    assert [t.state for t in transitions] == ["firing", "resolved"]
    assert T0 + 500 <= transitions[0].onset_s <= T0 + 505
    assert messy_lines == lines
    assert drops == {}
    assert set(messy_drops) <= {Drop.DUPLICATE, Drop.LATE}
    assert sum(messy_drops.values()) == len(messy) - len(clean)


def test_a_gap_empties_the_window():
    """No window spans a gap that is longer than allowed: after it, T rows must come before the next verdict."""
    messages = [m for m in plant(60, pumps=1) if not T0 + 30 <= json.loads(m[1])["t"] < T0 + 37]
    lines, _, _ = play(Groups("i", [plants.group()]), messages)
    ends = [float(line[1:].split(",")[0].removeprefix("np.float64(").rstrip(")")) - T0 for line in lines["pumps", 0]]
    assert [e for e in ends if 25 <= e < 45] == [25, 26, 27, 28, 29, 40, 41, 42, 43, 44]


def test_rows_of_a_series_take_the_same_way():
    """`step_rows` gives for a series what the same rows give as messages."""
    messages = plant(60, pumps=1, bad={(0, 50)})
    documents = [json.loads(m[1]) for m in messages]
    by_message = Groups("i", [plants.group()])
    lines, transitions, _ = play(by_message, messages)
    pipeline = Groups("i", [plants.group()]).pipelines["pumps"]
    values = np.array([[d["a"], d["b"]] for d in documents])
    report = pipeline.step_rows(["p0"], Rows(np.zeros(60, np.int32), np.array([d["t"] for d in documents]), values))
    assert report.transitions == transitions
    assert len(report.groups["pumps"].verdicts) == len(lines["pumps", 0])


@pytest.mark.parametrize("damage", [b"", b"x" * 50, None])
def test_what_is_no_snapshot_is_refused(damage):
    """Restore raises ValueError for bytes that are not a snapshot."""
    snapshot = Groups("i", [plants.group()]).snapshot()
    with pytest.raises(ValueError):
        Groups("i", [plants.group()]).restore(snapshot[:100] if damage is None else damage)


def test_a_snapshot_of_another_model_is_skipped():
    """State that was built under another model is not taken over, and the group is named."""
    groups = Groups("i", [plants.group()])
    play(groups, plant(20))
    other = plants.profile(window=5)
    object.__setattr__(other, "digest", "1" * 64)
    fresh = Groups("i", [plants.group(profile=other)])
    assert fresh.restore(groups.snapshot()) == ["pumps"]
    assert len(fresh.pipelines["pumps"].streams) == 0


def test_a_state_of_another_form_is_not_taken_over_in_part():
    """A group whose arrays do not fit begins without any of it, and is named; the other groups do not notice."""
    profiles = plants.profile(), plants.profile(window=7)
    first, second = (
        Groups("i", [plants.group(profile=one), plants.group("fans", template="fan/{pump}")]) for one in profiles
    )
    messages = [*plant(30), *((topic.replace(b"plant", b"fan"), *rest) for topic, *rest in plant(30))]
    play(first, messages)
    assert second.restore(first.snapshot()) == ["pumps"]
    empty, pipeline = (
        Groups("i", [plants.group(profile=profiles[1])]).pipelines["pumps"].state(),
        second.pipelines["pumps"],
    )
    kept = pipeline.state()
    assert [name for name in empty if not np.array_equal(empty[name], kept[name], equal_nan=True)] == []
    assert second.pipelines["fans"].streams.names == ["p0", "p1", "p2"]


def broken(messages, holes, thinning=1):
    """A batch before which messages of some topics were lost."""
    return replace(plants.batch(messages), holes=holes, thinning=thinning)


def test_a_loss_interrupts_exactly_the_streams_of_its_topics():
    """Streams of the lost topics have no verdict until their windows are full again; the others do not notice."""
    groups = Groups("i", [plants.group()])
    messages = plant(40)
    groups.step(plants.batch(messages[:90]), 0.0)
    report = groups.step(broken(messages[90:96], [b"plant/p1", b"plant/unknown", b"\xff"]), 0.0)
    assert report.interrupted == 1
    assert report.groups["pumps"].verdicts.stream.tolist() == [0, 2, 0, 2]
    report = groups.step(plants.batch(messages[96:]), 0.0)
    first = report.groups["pumps"].verdicts.time_s[report.groups["pumps"].verdicts.stream == 1][0]
    assert first == T0 + 30 + 3  # a window of four rows after the loss
    assert len(groups.pipelines["pumps"].streams) == 3  # a lost message of an unknown stream makes none


def test_a_loss_of_any_topic_interrupts_all_streams_of_all_groups():
    """Where it is not known what was lost, every window restarts."""
    groups = Groups("i", [plants.group("pumps"), plants.group("valves", template="valve/{pump}")])
    groups.step(plants.batch(plant(40)), 0.0)
    assert groups.step(broken([], None), 0.0).interrupted == 3
    assert groups.step(broken([], None), 0.0).interrupted == 0


def test_a_grid_bridges_no_loss_with_held_values():
    """Rows on a grid restart too: neither a held value nor an open tick reaches over the loss."""
    align = GridAlign(every_s=1.0, lateness_s=2.0, gap_max_s=5.0)
    groups = Groups("i", [plants.group(align=align)])
    messages = plant(60, pumps=1)
    groups.step(plants.batch(messages[:40]), 0.0)
    report = groups.step(broken(messages[42:], [b"plant/p0"]), 0.0)
    assert report.rows == 60 - 42 - 2  # two ticks are still open
    assert report.groups["pumps"].verdicts.start_s.min() == T0 + 42


def test_thinning_scores_some_of_the_windows_with_the_same_results():
    """Every stream is scored in its turns, the rest is counted, and what is scored has its usual score."""
    messages = plant(100, pumps=4)
    every = Groups("i", [plants.group()]).step(plants.batch(messages), 0.0)
    some = Groups("i", [plants.group()]).step(broken(messages, (), 4), 0.0)
    assert some.windows + some.skipped == every.windows
    known = {(s, t): x for s, t, x in columns(every)}
    assert {(s, t): x for s, t, x in columns(some)}.items() <= known.items()
    counts = np.bincount(some.groups["pumps"].verdicts.stream)
    assert counts.min() >= counts.max() - 1 >= 15
    turns = {t % 4 for s, t, _ in columns(some) if s == 0} & {t % 4 for s, t, _ in columns(some) if s == 1}
    assert not turns  # the streams' turns are staggered


def columns(report):
    v = report.groups["pumps"].verdicts
    return list(zip(v.stream.tolist(), v.time_s.tolist(), v.score.tolist(), strict=True))


@settings(max_examples=examples(20))
@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from([1, 2, 4]), st.booleans()), max_size=12))
def test_the_journal_has_all_that_a_replay_needs(steps):
    """Batches with thinning and losses, written to the journal's form and read back, fold to the same verdicts."""
    messages, at, journal = plant(60, bad=BAD), 0, []
    first, second = Groups("i", [plants.group()]), Groups("i", [plants.group()])
    reports = []
    for count, thinning, loss in steps:
        batch = broken(messages[at : at + count], [b"plant/p1"] if loss else (), thinning)
        reports.append(columns(first.step(batch, 0.0)))
        journal.append(encode_batch(batch))
        at += count
    assert [columns(second.step(decode_batch(body), 0.0)) for body in journal] == reports
    assert first.snapshot() == second.snapshot()


def test_only_a_step_without_messages_is_a_tick():
    """The journal must know of a step that took nothing while somebody listened, and of no other."""
    groups, messages = Groups("i", [plants.group()]), plant(30)
    assert not groups.step(plants.batch(messages), messages[-1][2]).ticked
    assert groups.step(plants.batch([]), messages[-1][2] + 5.0).ticked
    lossy = replace(plants.batch([]), lost=Drops({Drop.OVERFLOW: 2}))
    assert not groups.step(lossy, messages[-1][2] + 10.0).ticked
