"""The contract of ingest.receive_window: a broker's window shows in its timing, and only there."""

import logging
import time

import pytest

from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.ingest.receive_window import ReceiveWindow
from streamae.mqtt import ConnectionOptions, Subscription

WAIT_S = 0.05


def test_ten_vain_waits_at_one_number_show_the_window():
    """Always as many, waited for in vain, and more at once after the acknowledgement: that is the window."""
    flow = ReceiveWindow(4096, WAIT_S)
    found = [flow.note(20, WAIT_S, 0.001) for _ in range(12)]
    assert found == [False] * 10 + [True, False]
    assert (flow.limit, flow.enough) == (20, 20)


def test_a_burst_of_as_many_sensors_is_no_window():
    """Twenty sensors that speak once a second are always twenty too, but nothing comes right after them."""
    flow = ReceiveWindow(4096, WAIT_S)
    assert not any(flow.note(20, WAIT_S, 0.9) for _ in range(100))
    assert (flow.limit, flow.enough) == (4096, 2048)


def test_one_more_than_the_window_refutes_it():
    """What was taken for the window and is exceeded was none; a new one can be found out."""
    flow = ReceiveWindow(4096, WAIT_S)
    for _ in range(12):
        flow.note(20, WAIT_S, 0.001)
    flow.note(21, WAIT_S, 0.001)
    assert (flow.limited, flow.limit) == (False, 4096)
    for _ in range(12):
        flow.note(21, WAIT_S, 0.001)
    assert flow.limit == 21
    flow.begin()
    assert flow.enough == 2048


def test_a_steady_trickle_is_no_window():
    """Numbers that vary, or takes that end early, prove nothing."""
    flow = ReceiveWindow(4096, WAIT_S)
    assert not any(flow.note(5 + i % 3, WAIT_S, 0.001) for i in range(100))
    assert not any(flow.note(30, 0.0, 0.001) for _ in range(100))


def test_the_takes_of_a_source_end_at_the_window_once_it_is_found_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A broker that keeps strictly to 20 unacknowledged messages: takes stop waiting in vain, and it is said once."""
    source = MqttSource(
        ConnectionOptions(), [Subscription("t")], ReceiveLimits(batch_wait_s=0.04),
        now=time.time, monotonic=time.monotonic, jitter=lambda: 0.5,
    )  # fmt: skip
    mids = iter(range(1, 10_000))

    def send(count: int) -> None:
        source._deliver(1, [b"t"] * count, [b"1"] * count, [2] * count, [next(mids) for _ in range(count)])

    monkeypatch.setattr(source._session, "acknowledge", lambda _, acknowledged: send(len(acknowledged)))
    send(20)
    with caplog.at_level(logging.WARNING):
        for _ in range(40):
            batch = source.take(4096, 1.0)
            assert len(batch) == 20
            source.ack(batch)
    status = source.status()
    assert (status.window, sum("max_inflight_messages" in r.getMessage() for r in caplog.records)) == (20, 1)
    assert status.window_limited >= 25
    assert source._inbox.enough == 20, "a batch of so many no longer waits to be filled"
