"""The contract of store.dedup: a redelivered message is distinguished from a new one with the same bytes."""

import numpy as np

from streamae.core.types import Batch
from streamae.store.dedup import CommittedMessages


def batch(mids, *, dup=False, payload=b"1"):
    n = len(mids)
    return Batch([b"t"] * n, [payload] * n, np.zeros(n), np.array(mids, np.int32), np.full(n, dup), 1)


def test_what_is_committed_and_in_flight_is_known_again():
    """A redelivery of a committed message is seen; another payload under its id, or no DUP flag, is not."""
    taken = CommittedMessages(in_flight_max=10)
    taken.record(1, batch([1, 2, 3]))
    assert taken.seen(batch([1, 2, 3, 4], dup=True)).tolist() == [True, True, True, False]
    assert taken.seen(batch([1], dup=True, payload=b"2")).tolist() == [False]
    assert taken.seen(batch([1])).tolist() == [False]


def test_an_old_message_under_the_same_id_is_not_taken_for_a_new_one():
    """Once more messages were committed than can be in flight, the same bytes under an old id are a new message."""
    taken = CommittedMessages(in_flight_max=10)
    taken.record(1, batch([1]))
    taken.record(2, batch(range(2, 11)))
    assert taken.seen(batch([1], dup=True)).tolist() == [True], "the tenth newest may still be in flight"
    taken.record(3, batch([11]))
    assert taken.seen(batch([1], dup=True)).tolist() == [False]
    careless = CommittedMessages()
    for row in range(3):
        careless.record(row, batch([1] if row == 0 else [row + 100]))
    assert careless.seen(batch([1], dup=True)).tolist() == [True], "the control loses the new message"


def test_what_stands_earlier_in_the_batch_ages_what_is_known():
    """Messages redelivered together: those taken again from the batch push an old one under a later id out of play."""
    taken = CommittedMessages(in_flight_max=10)
    taken.record(1, batch(range(1, 11)))
    again = batch([11, 12, 2], dup=True)
    assert taken.seen(again).tolist() == [False, False, False], "id 2 is twelve messages old by then"
    assert taken.seen(batch([2], dup=True)).tolist() == [True], "the control: alone it may still be in flight"
