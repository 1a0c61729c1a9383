"""The codec of a journal row: exact for what was written, ValueError for everything else."""

import contextlib
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamae.core.types import Batch, Confirmed, Drop, Drops, Maintenance
from streamae.store.journal import _HEAD, _THIN, crc_of, decode_batch, encode_batch

TIMES = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=5)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    n = draw(st.integers(0, 20))
    texts = st.lists(st.binary(max_size=40), min_size=n, max_size=n)
    ids = draw(st.sampled_from([0, n]))
    flags = draw(st.sampled_from([0, n]))
    lost = draw(st.dictionaries(st.sampled_from(list(Drop)), st.integers(0, 2**63)))
    return Batch(
        draw(texts),
        draw(texts),
        draw(arrays.arrays(np.float64, n)),
        draw(arrays.arrays(np.int32, ids)),
        draw(arrays.arrays(np.bool_, flags)),
        draw(st.integers(-(2**63), 2**63 - 1)),
        Drops(lost),
        draw(st.none() | st.lists(st.binary(max_size=40), max_size=5)),
        draw(st.sampled_from([1, 2, 8])),
        draw(st.none() | st.lists(st.builds(Maintenance, NAMES, NAMES, TIMES, TIMES), max_size=2)),
    )


@given(batches())
def test_a_row_gives_back_the_batch_that_was_written(batch: Batch) -> None:
    """Topics, payloads, arrival times (to the bit), ids, flags, epoch and losses come back as they were."""
    again = decode_batch(encode_batch(batch))
    assert (list(again.topics), list(again.payloads)) == (list(batch.topics), list(batch.payloads))
    assert again.arrival_s.tobytes() == batch.arrival_s.tobytes()
    assert (again.mid.dtype, again.dup.dtype) == (np.int32, np.bool_)
    np.testing.assert_array_equal(again.mid, batch.mid)
    np.testing.assert_array_equal(again.dup, batch.dup)
    assert (again.epoch, again.lost, again.thinning) == (batch.epoch, batch.lost, batch.thinning)
    assert again.broken == batch.broken
    assert again.maintenance == batch.maintenance
    assert again.holes is None if batch.holes is None else list(again.holes) == batch.holes
    again.arrival_s[:] = 0  # what was read back belongs to the reader


@given(st.binary(max_size=300))
def test_bytes_that_are_no_row_are_refused(body: bytes) -> None:
    """Whatever stands in the file, the reader raises ValueError and nothing else."""
    with pytest.raises(ValueError):
        decode_batch(body)


@given(batches(), st.data())
def test_a_damaged_row_is_refused_or_means_the_same(batch: Batch, data: st.DataObject) -> None:
    """Past the crc32, a changed byte still raises nothing but ValueError."""
    body = bytearray(encode_batch(batch))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    assert crc_of(1, 2.0, bytes(body)) != crc_of(1, 2.0, encode_batch(batch))
    with contextlib.suppress(ValueError):
        decode_batch(bytes(body))


def test_the_crc_names_the_row_and_its_time() -> None:
    """A row moved to another number or time is a damaged row."""
    assert len({crc_of(1, 2.0, b"x"), crc_of(2, 2.0, b"x"), crc_of(1, 3.0, b"x"), crc_of(1, 2.0, b"y")}) == 4


@pytest.mark.parametrize("confirmed", [(), (Confirmed("pumps", "line1/p\u00fc", "0123abcd"), Confirmed("g", "s", "x"))])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_row_says_what_the_connection_and_people_did(confirmed: tuple[Confirmed, ...], resumed: bool) -> None:
    """The first batch of a connection, and alerts that were called real: a fold of the journal does the same again."""
    batch = Batch([b"t"], [b"p"], np.zeros(1), resumed=resumed, confirmed=confirmed)
    found = decode_batch(encode_batch(batch))
    assert (found.resumed, found.confirmed) == (resumed, confirmed)


def test_a_bomb_is_not_unpacked() -> None:
    """A row that inflates to more than it announces is refused after that much."""
    body = bytearray(encode_batch(Batch([b"t" * 1000], [b"p" * 1000], np.zeros(1))))
    bomb = bytes(body[:24]) + zlib.compress(b"\0" * 50_000_000)
    with pytest.raises(ValueError, match="wrong length"):
        decode_batch(bomb)


def test_a_reason_that_no_longer_exists_is_left_out() -> None:
    """A row of another release may count drops under a reason that has no label here."""
    body = encode_batch(Batch([], [], np.zeros(0), lost=Drops({Drop.LATE: 3})))
    assert decode_batch(body).lost == Drops({Drop.LATE: 3})
    assert decode_batch(body.replace(b"late", b"lame")).lost == Drops()


def test_a_row_that_scores_no_window_or_has_bytes_left_over_is_none_of_ours() -> None:
    """A thinning of zero, and a body longer than it says, are refused as any other damage is."""
    thinned = encode_batch(Batch([b"t"], [bytes(range(256))], np.zeros(1), thinning=4))  # does not compress
    assert decode_batch(thinned).thinning == 4
    assert thinned.count(_THIN.pack(4, 0)) == 1
    with pytest.raises(ValueError, match="0th window"):
        decode_batch(thinned.replace(_THIN.pack(4, 0), _THIN.pack(0, 0)))
    codec, flags, reasons, n, epoch, length = _HEAD.unpack_from(thinned)
    longer = _HEAD.pack(codec, flags, reasons, n, epoch, length + 1) + thinned[_HEAD.size :] + b"x"
    with pytest.raises(ValueError, match="left over"):
        decode_batch(longer)


@pytest.mark.parametrize("plain", [b"1234", bytes(8) + (50).to_bytes(4, "little") + bytes(4) + b"short"])
def test_a_row_that_announces_more_than_it_has_ends_early(plain: bytes) -> None:
    """Neither a number of messages nor the length of a topic is believed beyond what is there."""
    with pytest.raises(ValueError, match="ends early"):
        decode_batch(_HEAD.pack(1, 0, 0, 1, 0, len(plain)) + plain)


@pytest.mark.parametrize("maintenance", [b"5", b"[[1]]", b"[", b"[3]"])
def test_a_row_whose_maintenance_has_another_form_is_none_of_ours(maintenance: bytes) -> None:
    """No list of four values each, no JSON: the row is damaged."""
    plain = np.zeros(0).tobytes() + len(maintenance).to_bytes(4, "little") + maintenance
    with pytest.raises(ValueError):
        decode_batch(_HEAD.pack(1, 16, 0, 0, 0, len(plain)) + plain)


def test_a_batch_at_odds_with_itself_is_not_written() -> None:
    """Arrays of different lengths are our own fault and never reach the file."""
    with pytest.raises(ValueError, match="another length"):
        encode_batch(Batch([b"t"], [b"p"], np.zeros(2)))


def test_repetitive_topics_take_little_room() -> None:
    """A thousand messages of a plant take less than a third of their bytes."""
    topics = [f"plant/line{i % 7}/pump{i}/pressure".encode() for i in range(1000)]
    payloads = [f'{{"value": {i / 7:.4f}, "ts": {1_700_000_000 + i}}}'.encode() for i in range(1000)]
    size = len(encode_batch(Batch(topics, payloads, 1.7e9 + np.arange(1000.0))))
    assert size < sum(map(len, topics + payloads)) / 3
