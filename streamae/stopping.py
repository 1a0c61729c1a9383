"""SIGTERM and SIGINT end every verb within `GRACE_S`, whatever it waits for.

Three steps, each for what the one before does not reach:

1. The signal raises `Stopped` in the main thread, so that every `with` and `finally` on the way tidies up. A verb that
   has something to finish says so by `finishing`: there the signal sets an event, which the verb looks at.
2. A verb that does not look at its event, because it waits inside a library, gets the exception after all.
3. What still runs then is ended from another thread: no signal reaches a name lookup, a join of a thread, or a long
   call into compiled code. Processes that were started as `child` end with it.

The kernel wakes the thread of a signal by a socket (`signal.set_wakeup_fd`), for Python's own handlers wait for the
main thread to come back from whatever it does.
"""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar
from weakref import WeakSet

__all__ = ["GRACE_S", "Stopped", "child", "exit_code", "finishing", "grace", "leave", "listening"]

GRACE_S = 1.8
_RAISES_AT = 0.55  # of the grace: from here on an event is not waited for
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_P = TypeVar("_P", bytes, str)


class Stopped(BaseException):
    """A signal asked the process to end; no `except Exception` on its way keeps it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(number: int) -> int:
    """Return what a shell calls the end by a signal: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + number


class _Ending:
    """Who is to hear of a signal, and how long the end may take. One a process; read by the thread that ends it."""

    def __init__(self) -> None:
        self.event: threading.Event | None = None
        self.grace_s = GRACE_S
        self.listens = self.noted = self.raised = False
        self.children: WeakSet[subprocess.Popen[bytes] | subprocess.Popen[str]] = WeakSet()

    def note(self, number: int, _: FrameType | None) -> None:
        """The handler of both signals, in the main thread."""
        self.noted = True
        if self.event is not None and not self.event.is_set():
            self.event.set()
        elif not self.raised:  # once: a second one would end the tidying up
            self.raised = True
            raise Stopped(number)

    def watch(self, ear: socket.socket) -> None:
        """Wait for the first signal, and see to it that it is the end."""
        while (signals := ear.recv(1)) and signals[0] not in _SIGNALS:
            pass
        if not signals:
            return
        over = threading.Event()  # never set: the process ends sooner, or this ends it
        over.wait(_RAISES_AT * self.grace_s)
        if self.listens:
            signal.pthread_kill(threading.main_thread().ident or 0, signals[0])
        over.wait((1.0 - _RAISES_AT) * self.grace_s)
        self.end_children()
        os._exit(exit_code(signals[0]))

    def end_children(self) -> None:
        """Leave no process behind."""
        for process in list(self.children):
            if process.returncode is None:
                with suppress(OSError):
                    process.kill()


_ending = _Ending()


@contextmanager
def listening() -> Iterator[None]:
    """Let both signals end what runs within, in the main thread; elsewhere, and within another, this does nothing."""
    if _ending.listens or threading.current_thread() is not threading.main_thread():
        yield
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    _ending.event, _ending.grace_s, _ending.listens, _ending.noted, _ending.raised = None, GRACE_S, True, False, False
    before = [signal.signal(number, _ending.note) for number in _SIGNALS]
    before_fd = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    watching = threading.Thread(target=_ending.watch, args=(ear,), name="stopping", daemon=True)
    watching.start()
    try:
        yield
    except Stopped:
        _ending.end_children()
        raise
    finally:
        _ending.listens = False
        signal.set_wakeup_fd(before_fd)
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
        mouth.close()  # a thread that waits for a signal ends; one that has heard one goes on until the process ends


def leave(code: object) -> None:
    """End the process at once where a signal asked for it: to take the interpreter apart costs seconds with torch."""
    if _ending.noted and isinstance(code, int):
        os._exit(code)


@contextmanager
def finishing(asked: threading.Event | None = None, *, grace_s: float = GRACE_S) -> Iterator[threading.Event]:
    """Give an event that a signal sets instead of raising: what runs within looks at it, and finishes."""
    event, before = asked or threading.Event(), (_ending.event, _ending.grace_s)
    _ending.event, _ending.grace_s = event, grace_s
    try:
        yield event
    finally:
        _ending.event, _ending.grace_s = before


@contextmanager
def grace(seconds: float) -> Iterator[None]:
    """Let the tidying up of what runs within take so long."""
    before, _ending.grace_s = _ending.grace_s, seconds
    try:
        yield
    finally:
        _ending.grace_s = before


def child(process: "subprocess.Popen[_P]") -> "subprocess.Popen[_P]":
    """Let a process end with this one."""
    _ending.children.add(process)
    return process
