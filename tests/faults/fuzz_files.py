"""FuzzTarget for the fuzzer (see `fuzz.py`): what is read from files, the configuration and the journal."""

import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from streamae.config import load
from streamae.config.check import fits
from streamae.core.groups import Groups
from streamae.core.types import Batch, Drop, Drops
from streamae.daemon.build import make_source, subscriptions_of
from streamae.daemon.clock import ArrivalClock, Clock
from streamae.daemon.homeassistant import HomeAssistantThread
from streamae.daemon.sinks import make_sink
from streamae.errors import ConfigError
from streamae.store.journal import _DEFLATED, _HEAD, crc_of, decode_batch, encode_batch, read_rows
from streamae.web.view import Snapshot
from tests.faults.fuzz import MEMORY, FuzzTarget
from tests.plants import LevelModel, group
from tests.store_world import numbered

NOW = 1_700_000_000.0
TESTS = Path(__file__).parent.parent


def config() -> FuzzTarget:
    """A file is settings that the other rooms can be made of, or a ConfigError with a place and a remedy."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    (folder / "secret.txt").write_text("secret")
    path = folder / "streamae.yaml"

    def bite(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            settings = load(path, environ={"NAME": "value"})
        except ConfigError as error:
            assert str(error).startswith(str(path)), "a mistake without its file"
            assert "; " in str(error), "a mistake without a remedy"
            return False
        assert settings.connection.client_id
        subscriptions_of(settings)
        profile, model = group().profile, LevelModel()
        fitting = [(name, one) for name, one in settings.streams.items() if not fits(name, one, profile)]
        Groups(settings.instance, [one.with_model(name, profile, model) for name, one in fitting])
        return True

    example = yaml.safe_load((TESTS.parent / "deploy" / "streamae.yaml").read_text())
    parts = [{"streams": example["streams"], name: part} for name, part in example.items()]
    broken = [file.read_bytes() for file in (TESTS / "config").glob("*.yaml")]
    honest = [yaml.safe_dump(part, width=1000).encode() for part in parts]
    words = [b"${NAME}", b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"file:secret.txt", b"1e999", b"0x"]
    return FuzzTarget(bite, honest + broken, [*words, b"- ", b"\t", b"\xef\xbb\xbf"])


_VALUES = ("value", "", " ", "secret\n", "a\r\nb", "\u20ac", "0" * 400, "http://u:p@host/", "127.0.0.1:1", "nan")


def built() -> FuzzTarget:
    """What is accepted can be built whole, whatever the environment puts into it, or is a ConfigError."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    (folder / "secret.txt").write_text("secret\n")
    path, clock = folder / "streamae.yaml", Clock()

    def bite(data: bytes) -> bool:
        path.write_bytes(data[1:])
        value = _VALUES[data[0] % len(_VALUES)] if data else ""
        try:
            settings = load(path, environ={"NAME": value})
            assert settings.web.loopback or (settings.web.token and settings.web.token.get_secret_value().strip())
            if len(settings.sinks) > 4 or len(settings.streams) > 4:
                return False
            for sink in settings.sinks:
                made = make_sink(settings, sink, clock)
                made.close()
            make_source(settings, clock, ArrivalClock(clock), lambda busy_s: None).close()
            HomeAssistantThread(settings, lambda: Snapshot(NOW), clock)
        except ConfigError as error:
            assert str(error)
            return False
        return True

    sinks = [
        {"type": "webhook", "url": "${NAME}", "headers": {"Authorization": "Bearer ${NAME}"}, "timeout": "5s"},
        {"type": "alertmanager", "url": "http://127.0.0.1:1/${NAME}"}, {"type": "mqtt"}, {"type": "log"},
        {"type": "apprise", "urls": ["${NAME}"]}, {"type": "webhook", "url": "https://h/", "ca": "secret.txt"},
    ]  # fmt: skip
    example = yaml.safe_load((TESTS.parent / "deploy" / "streamae.yaml").read_text())
    plain = {"streams": example["streams"]}
    wholes: list[dict[str, Any]] = [{**plain, "sinks": [sink]} for sink in sinks]
    wholes += [{**plain, "web": {"listen": "0.0.0.0:${NAME}", "token": "${NAME}"}}, {**plain, "home_assistant": {}}]
    wholes += [{**plain, "web": {"listen": "${NAME}", "token": "file:secret.txt"}}]
    wholes += [{**plain, "mqtt": {"host": "${NAME}", "username": "u", "password": "${NAME}", "tls": {"ca": "none"}}}]
    honest = [yaml.safe_dump(whole, width=1000).encode() for whole in wholes]
    seeds = [bytes([n]) + text for n in range(len(_VALUES)) for text in honest]
    return FuzzTarget(
        bite, seeds, [b"${NAME}", b"file:secret.txt", b"file:/dev/zero", b"localhost.evil.com:1", b"9" * 400]
    )


def journal() -> FuzzTarget:
    """A row is read as what was written, or named as damaged; past the crc and the packing, too."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE journal (seq INTEGER PRIMARY KEY, now_s, messages, crc, body)")
    packings: Sequence[Callable[[bytes], bytes]] = (
        lambda data: data,
        lambda data: data[: _HEAD.size] + zlib.compress(data[_HEAD.size :], 1),
        _framed,
    )

    def bite(data: bytes) -> bool:
        if not data:
            return False
        body = packings[data[0] % len(packings)](data[1:])
        connection.execute("DELETE FROM journal")
        connection.execute("INSERT INTO journal VALUES (1, ?, 0, ?, ?)", (NOW, crc_of(1, NOW, body), body))
        ((_, batch, _),) = read_rows(connection, 0)
        if not isinstance(batch, Batch):
            with suppress(ValueError):
                decode_batch(body)
                raise AssertionError("the reader refuses what the decoder takes")
            return False
        row = encode_batch(batch)
        assert encode_batch(decode_batch(row)) == row, "what was read is written as something else"
        return True

    rows = [numbered(1), numbered(2, 3, first_mid=7), Batch([b"t"], [bytes(range(256))], np.zeros(1), thinning=4)]
    rows += [Batch([], [], np.zeros(0), lost=Drops({Drop.LATE: 3}), holes=[b"x", b"yz"])]
    plain = [_unpacked(encode_batch(row)) for row in rows]
    return FuzzTarget(bite, [bytes([n]) + body for n in range(3) for body in plain], [b"\xff" * 4, b"\0" * 8])


def _framed(data: bytes) -> bytes:
    """Let the announced length be right, so that what lies behind it is read."""
    if len(data) < _HEAD.size:
        return data
    codec, flags, reasons, n, epoch, _ = _HEAD.unpack_from(data)
    rest = data[_HEAD.size :]
    return _HEAD.pack(codec, flags & ~_DEFLATED, reasons % 4, n % 9, epoch, len(rest)) + rest


def _unpacked(body: bytes) -> bytes:
    codec, flags, reasons, n, epoch, length = _HEAD.unpack_from(body)
    rest = body[_HEAD.size :]
    plain = zlib.decompress(rest) if flags & _DEFLATED else rest
    return _HEAD.pack(codec, flags & ~_DEFLATED, reasons, n, epoch, length) + plain
