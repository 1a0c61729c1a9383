"""An alert that people call real teaches its stream's threshold nothing; the journal knows that they did."""

import json

import numpy as np
import pytest

from streamae.core.groups import Groups
from streamae.core.types import Batch, Confirmed
from tests.plants import group, known_stream, profile

pytestmark = pytest.mark.quick

KNOWN = {"p1": known_stream((0.0, 0.0), (1.0, 1.0), weight=(0.5, 0.5), zero=1.0)}


def made():
    return Groups("here", [group(profile=profile(window=4, streams=KNOWN))])


def rows(first, n, value):
    said = [(float(t), {"t": float(t), "a": value + (t % 5) / 50, "b": value}) for t in range(first, first + n)]
    payloads = [json.dumps(one).encode() for _, one in said]
    return Batch([b"plant/p1"] * n, payloads, np.array([t for t, _ in said]))


def played(*, confirmed=None, when=400):
    """Normal rows, an alarm of two hundred, normal rows; people say what they say before the row `when`."""
    groups, learnt = made(), []
    for first, n, value in ((0, 200, 0.1), (200, 200, 40.0), (400, 300, 0.1)):
        for at in range(first, first + n, 50):
            batch = rows(at, 50, value)
            if confirmed is not None and at == when:
                object.__setattr__(batch, "confirmed", [confirmed])
            report = groups.step(batch, 0.0)
            learnt += [t.id for t in report.transitions if t.state == "firing"]
        if first == 0:
            before = groups.pipelines["pumps"].threshold.state()
    state = groups.pipelines["pumps"].threshold.state()
    return learnt[0], float(state["theta"][0] - before["theta"][0]), float(state["mean"][0] - before["mean"][0])


@pytest.mark.parametrize("when", [300, 450])
def test_an_alert_that_was_real_leaves_the_threshold_where_it_was(when):
    """While it lasts or afterwards; what nobody confirmed has raised it, and so has one of another id or stream."""
    alert, raised, _ = played()
    assert raised > 0.3
    assert played(confirmed=Confirmed("pumps", "p1", alert), when=when)[1] < 0.01
    for other in (Confirmed("pumps", "p1", "0" * 24), Confirmed("pumps", "p2", alert), Confirmed("other", "p1", alert)):
        assert played(confirmed=other, when=when)[1] == raised
