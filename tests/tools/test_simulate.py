"""The simulated plants: deterministic, with channels that hang together and faults where they are labelled."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamae.history.recordings import read_series
from streamae.tools.simulate.faults import KINDS, Fault
from streamae.tools.simulate.plants import Fleet, Plant, Pumps
from streamae.tools.simulate.publish import write_plant


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.booleans())
def test_rows_do_not_depend_on_the_portions(portions: list[int], fleet: bool) -> None:
    """The same seed gives the same plant, in whatever portions its rows are asked for."""
    faults = [Fault(kind, "s00001" if fleet else "line1/pump02", 5.0 + i, 20.0) for i, kind in enumerate(KINDS)]

    def make() -> Plant:
        return Fleet(3, seed=7, faults=faults) if fleet else Pumps(4, seed=7, faults=faults)

    whole, parts = make(), make()
    time_s, values, label = whole.rows(sum(portions))
    pieces = [parts.rows(n) for n in portions]
    np.testing.assert_array_equal(time_s, np.concatenate([piece[0] for piece in pieces]))
    np.testing.assert_allclose(values, np.concatenate([piece[1] for piece in pieces]), rtol=1e-12)
    np.testing.assert_array_equal(label, np.concatenate([piece[2] for piece in pieces]))


def test_another_seed_is_another_plant() -> None:
    """Seeds matter, and no two pumps are alike."""
    one, other = Pumps(5, seed=1).rows(50)[1], Pumps(5, seed=2).rows(50)[1]
    assert np.abs(one - other).max() > 0.1
    assert len(np.unique(one[0, :, 0])) == 5


def test_pump_channels_hang_together() -> None:
    """Pressure, flow, vibration and temperature follow the speed together; values are those of real pumps."""
    _, values, label = Pumps(6, seed=3, day_s=1200).rows(4000)
    assert not label.any()
    for pump in range(6):
        correlation = np.corrcoef(values[:, pump].T)
        assert (correlation[np.triu_indices(4, 1)] > 0.1).all()
    low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    assert (low > [1, 10, 0.5, 20]).all()
    assert (high < [12, 120, 6, 90]).all()


def test_spread_is_how_far_a_channel_wanders() -> None:
    """A channel's standard deviation in normal operation is of the order of its `spread`, in both plants."""
    for plant in (Pumps(6, seed=3, day_s=1200), Fleet(50, seed=3)):
        _, values, _ = plant.rows(3000)
        ratio = values.std(axis=0) / plant.spread
        assert ratio.min() > 0.3 and ratio.max() < 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_fault_changes_only_its_stream_and_time(kind: str) -> None:
    """A fault changes its own stream while it lasts, where the label says so, and nothing else."""
    fault = Fault(kind, "line1/pump02", 100.0, 50.0, magnitude=2.0, channel="flow" if kind == "stuck" else "")
    _, clean, _ = Pumps(4, seed=5).rows(300)
    _, faulty, label = Pumps(4, seed=5, faults=[fault]).rows(300)
    changed = (clean != faulty).any(axis=2)
    assert label.sum() == 50
    assert (label[100:150, 1] == 1).all()
    assert not changed[label == 0].any()
    assert changed[100:150, 1].mean() > 0.9


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "stuck"])
@pytest.mark.parametrize("fleet", [False, True])
def test_larger_magnitude_is_further_from_normal(kind: str, fleet: bool) -> None:
    """The distance from the clean plant grows in proportion to the magnitude, and zero changes nothing."""

    def rows(magnitude: float | None) -> np.ndarray:
        stream = "s00001" if fleet else "line1/pump02"
        faults = [] if magnitude is None else [Fault(kind, stream, 50.0, 40.0, magnitude)]
        return (Fleet(3, seed=1, faults=faults) if fleet else Pumps(3, seed=1, lines=1, faults=faults)).rows(120)[1]

    clean = rows(None)
    distance = [np.abs(rows(m) - clean).sum() for m in (0.0, 1.0, 2.0, 4.0)]
    assert distance[0] == 0
    assert distance[1] > 0
    np.testing.assert_allclose(np.array(distance[2:]) / distance[1], [2.0, 4.0], rtol=1e-6)


def test_stuck_sensor_shows_its_last_value() -> None:
    """A stuck channel keeps the value that it had when the fault began, across portions."""
    plant = Pumps(2, seed=1, faults=[Fault("stuck", "line1/pump01", 10.0, 30.0, channel="flow")])
    values = np.concatenate([plant.rows(15)[1], plant.rows(40)[1]])
    assert len(np.unique(values[10:40, 0, 1])) == 1
    assert len(np.unique(values[40:, 0, 1])) == 15


def test_faults_can_be_injected_live() -> None:
    """A fault that is injected while the plant runs begins at its time, and is an event; wrong names are refused."""
    plant = Pumps(2, seed=1)
    plant.rows(100)
    plant.inject(Fault("leak", "line1/pump01", plant.elapsed_s + 5, 10.0))
    assert plant.rows(30)[2][:, 0].tolist() == [0] * 5 + [1] * 10 + [0] * 15
    assert plant.events()[0] | {"start_s": 1.7e9 + 105, "end_s": 1.7e9 + 115, "kind": "leak"} == plant.events()[0]
    with pytest.raises(ValueError, match="the plant has line1/pump01"):
        plant.inject(Fault("leak", "line9/pump01", 0, 1))
    with pytest.raises(ValueError, match="it is one of spike, drift"):
        Fault("gremlin", "line1/pump01", 0, 1)


def test_fleet_spans_orders_of_magnitude() -> None:
    """The sensors of a fleet differ in scale by at least five orders of magnitude, and share one rhythm."""
    fleet = Fleet(500, seed=0)
    _, values, _ = fleet.rows(300)
    scale = values[:, :, 0].std(axis=0)
    assert scale.max() / scale.min() > 1e5
    assert fleet.names[:2] == ("s00000", "s00001")


def test_written_plant_is_read_again(tmp_path: Path) -> None:
    """A plant becomes one labelled series a stream, of which the label is not read, and a file of events."""
    faults = [Fault("drift", "line2/pump02", 50.0, 20.0, channel="temperature")]
    paths = write_plant(Pumps(2, seed=1, faults=faults), 100, tmp_path / "plant")
    assert [path.name for path in paths] == ["line1_pump01.csv", "line2_pump02.csv"]
    _, values, label = Pumps(2, seed=1, faults=faults).rows(100)
    series = read_series(paths[1])
    assert series.channels == ("pressure", "flow", "vibration", "temperature")
    np.testing.assert_array_equal(series.values, values[:, 1])
    assert series.time_s.tolist() == [1.7e9 + i for i in range(100)]
    header, *lines = paths[1].read_text().splitlines()
    assert header.endswith(",label")
    assert [int(line[-1]) for line in lines] == label[:, 1].tolist()
    (event,) = json.loads((tmp_path / "plant" / "events.json").read_text())
    assert (event["kind"], event["channel"], event["start_s"], event["end_s"]) == (
        "drift",
        "temperature",
        1.7e9 + 50,
        1.7e9 + 70,
    )
