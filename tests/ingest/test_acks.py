"""Acknowledgements go in the order of receipt, behind what they wait for, and to no other session."""

import pytest

from streamae.core.types import Drop
from streamae.ingest.mqtt import MqttSource, ReceiveLimits
from streamae.mqtt import ConnectionOptions, Subscription
from tests.faults.simulation import SimSession


@pytest.fixture
def source() -> MqttSource:
    """A source whose session notes what is acknowledged."""
    made = MqttSource(
        ConnectionOptions(host="sim", port=1, client_id="sim"), [Subscription("t")],
        ReceiveLimits(batch_wait_s=0.0, max_payload_bytes=10),
        now=lambda: 0.0, monotonic=lambda: 0.0, jitter=lambda: 0.0,
    )  # fmt: skip
    made._session.close()
    made._session = SimSession(False, "")  # type: ignore[assignment]
    made._session.connected(True)  # type: ignore[attr-defined]
    return made


def deliver(source: MqttSource, *mids: int, payload: bytes = b"1", qos: int = 1) -> None:
    n = len(mids)
    source._deliver(1, (b"t",) * n, (payload,) * n, (2 * qos,) * n, mids)


def acknowledged(source: MqttSource) -> list[int]:
    return source._session.take_acks()  # type: ignore[attr-defined]


def test_an_acknowledgement_takes_all_that_were_taken_before_it(source: MqttSource) -> None:
    """In the order of receipt; a batch that is not waiting, or not any more, changes nothing."""
    deliver(source, 1, 2)
    first = source.take(10, 0)
    deliver(source, 3)
    second = source.take(10, 0)
    assert acknowledged(source) == []
    source.ack(second)
    assert acknowledged(source) == [1, 2, 3]
    source.ack(first)
    source.ack(second)
    assert acknowledged(source) == []
    deliver(source, 4)
    third = source.take(10, 0)
    source.ack(third)
    assert acknowledged(source) == [4]


def test_a_refusal_is_acknowledged_behind_what_came_before_it(source: MqttSource) -> None:
    """While a batch waits for its commit the refusals after it wait too; where none waits they go at once."""
    deliver(source, 1)
    taken = source.take(10, 0)
    deliver(source, 2, payload=b"x" * 11)
    refused = source.take(10, 0)
    assert (len(refused), refused.batch.lost) == (0, {Drop.TOO_LARGE: 1})
    assert acknowledged(source) == []
    source.ack(taken)
    assert acknowledged(source) == [1, 2]
    deliver(source, 3, payload=b"x" * 11)
    source.take(10, 0)
    assert acknowledged(source) == [3]


def test_a_refusal_at_qos_0_has_nothing_to_acknowledge(source: MqttSource) -> None:
    deliver(source, 0, payload=b"x" * 11, qos=0)
    assert source.take(10, 0).batch.lost == {Drop.TOO_LARGE: 1}
    assert acknowledged(source) == []
