"""The publisher's process: PUBLISH frames on a plain socket at a steady rate, so that it costs as little as it can."""

import contextlib
import json
import socket
import sys
import time
from typing import Any

__all__ = ["main"]

_CONNECT = b"\x10\x15\x00\x04MQTT\x04\x02\x00\x00\x00\x09benchfeed"
_DISCONNECT = b"\xe0\x00"
_SLOT_S = 0.005
_END_S = 120.0


def _frame(topic: bytes, payload: bytes, mid: int) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if mid else b"") + payload
    length = len(body)
    size = bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7))
    return (b"\x32" if mid else b"\x30") + size + body


def _send(plan: dict[str, Any], sock: socket.socket) -> None:
    topics = [f"b/s{i:06d}".encode() for i in range(plan["streams"])]
    per_slot = max(1, round(plan["per_s"] * _SLOT_S))
    begin_s, sent = time.monotonic(), 0
    while sent < plan["messages"]:
        wait_s = begin_s + sent / plan["per_s"] - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        now_s = time.time()
        part = range(sent, min(sent + per_slot, plan["messages"]))
        sock.sendall(
            b"".join(
                _frame(
                    topics[i % len(topics)],
                    f'{{"t":{now_s + 1e-6 * (i - sent)!r},"value":{(i * 7919 % 1000) / 500 - 1!r}}}'.encode(),
                    i % 65535 + 1 if plan["qos"] else 0,
                )
                for i in part
            )
        )
        sent += len(part)
        _drain(sock)


def _drain(sock: socket.socket) -> None:
    """Read what the broker acknowledges, and throw it away."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sock.recv(65536):
            pass
    sock.setblocking(True)


def main() -> None:
    """Publish what the plan in the first argument says."""
    plan = json.loads(sys.argv[1])
    with socket.create_connection(("127.0.0.1", plan["port"])) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a slot may wait 40 ms for the last one's ACK
        sock.sendall(_CONNECT)
        sock.recv(4)
        _send(plan, sock)
        sock.sendall(_DISCONNECT)
        sock.settimeout(_END_S)
        while sock.recv(65536):  # to close with acknowledgements unread would reset the line, and lose what is on it
            pass


if __name__ == "__main__":
    main()
