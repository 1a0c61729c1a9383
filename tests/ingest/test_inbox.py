"""The contract of ingest.inbox: bounded, in order, and every loss is a hole at its place."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamae.core.types import Drop
from streamae.ingest.inbox import Chunk, Inbox


def inbox(messages=10, size=10_000):
    return Inbox(max_messages=messages, max_bytes=size, linger_s=0.0, enough=1, monotonic=time.monotonic)


def put(box, topics, *, epoch=1, first=1, qos=1):
    """A chunk of one message for each topic, with packet ids from `first` on."""
    n = len(topics)
    mids = list(range(first, first + n)) if qos else [0] * n
    box.put(Chunk(epoch, 1.0, [t.encode() for t in topics], [b"x"] * n, [2 * qos] * n, mids))


def take(box, limit):
    """The batch, and the packet ids that stand for it."""
    accepted = box.take(limit, 0)
    return accepted.batch, accepted.acknowledgements


def test_what_overflows_is_a_hole_between_the_batches():
    """The batch ends where messages were refused; the next one names their topics; their ids are acknowledged."""
    box = inbox(3)
    put(box, "abcde")
    first, acks = take(box, 100)
    assert (first.topics, first.holes, first.lost) == ([b"a", b"b", b"c"], [], {Drop.OVERFLOW: 2})
    assert acks == [1, 2, 3]
    put(box, "f", first=6)
    second, acks = take(box, 100)
    assert (second.topics, second.holes, acks) == ([b"f"], [b"d", b"e"], [4, 5, 6])
    assert not take(box, 100)[0].broken


def test_a_hole_without_messages_behind_it_is_reported_too():
    """Where nothing follows, a batch of a hole alone comes, with the ids to acknowledge."""
    box = inbox(1)
    put(box, "ab")
    take(box, 100)
    batch, acks = take(box, 100)
    assert (len(batch), batch.holes, acks) == (0, [b"b"], [2])


def test_more_topics_than_a_hole_can_name_are_all_topics():
    """A hole keeps ten thousand topics; beyond, it is one of all."""
    box = inbox(1, 10**9)
    put(box, ["first"])
    put(box, [f"t{i}" for i in range(10_001)], first=2, qos=0)
    take(box, 100)
    assert take(box, 100)[0].holes is None


def test_bytes_bound_it_too_and_a_refusal_keeps_its_place():
    """A chunk is cut where the bytes end; a message refused for another reason is no hole."""
    box = inbox(100, 5)
    put(box, "abc")  # two bytes each
    box.refuse(1, Drop.TOO_LARGE, 9)
    assert box.fill == 0.8
    first, acks = take(box, 100)
    assert (first.topics, acks) == ([b"a", b"b"], [1, 2])
    second, acks = take(box, 100)
    assert (second.holes, acks) == ([b"c"], [3, 9])


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.booleans()), max_size=40), st.integers(1, 7))
def test_every_message_is_taken_or_lies_in_a_hole_at_its_place(steps, limit):
    """For any puts and takes: each message once, in order, as itself or in the hole before the next kept."""
    box, sent, seen, acks, epoch = inbox(5), 0, [], [], 1

    def take_next():
        batch, ids = take(box, limit)
        seen.extend(("hole", t) for t in batch.holes or [])
        seen.extend(("kept", t) for t in batch.topics)
        acks.extend(ids)
        return len(batch) or batch.broken

    for n, taking, again in steps:
        epoch += again
        put(box, [f"{sent + i:04d}" for i in range(n)], first=sent + 1, epoch=epoch)
        sent += n
        if taking:
            take_next()
    while take_next():
        pass
    assert [t for _, t in seen] == [f"{i:04d}".encode() for i in range(sent)]
    assert acks == list(range(1, sent + 1))
    assert box.lost_total[Drop.OVERFLOW] == sum(kind == "hole" for kind, _ in seen)
    assert (box.messages, box.bytes) == (0, 0)


def test_arrival_times_go_with_their_messages():
    """Each message keeps the arrival of its chunk and a microsecond for its place, also where the chunk was cut."""
    box = inbox(3)
    box.put(Chunk(1, 5.0, [b"a", b"b"], [b"", b""], [0, 0], [0, 0]))
    box.put(Chunk(1, 6.0, [b"c", b"d"], [b"", b""], [0, 0], [0, 0]))
    found = [take(box, 1)[0].arrival_s, take(box, 100)[0].arrival_s]
    np.testing.assert_allclose(np.concatenate(found), [5.0, 5.000001, 6.0], rtol=1e-12)
