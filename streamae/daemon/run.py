"""The process around a daemon: signals, and an end even where it hangs. See daemon.py for what it does meanwhile."""

import faulthandler
import logging
import signal
import sys
from pathlib import Path

from streamae import logs
from streamae.daemon.daemon import Daemon
from streamae.stopping import Stopped, finishing, listening

__all__ = ["run"]

log = logging.getLogger(__name__)
_DISK_S = 10.0  # what a stop may take with a slow disk: then it ends where it stands, as safe as any crash
_SWITCH_S = 0.001  # a fifth of Python's own: so long may each busy thread of the page hold up a step of the pipeline
_HANG_ENDS_S = 120.0  # longer than a slow disk or the opening of many models at a reload should take


def run(path: Path) -> int:
    """The verb `run`: live until a signal; returns the exit code."""
    daemon = Daemon(path)
    logs.set_up(daemon.settings.log.level, daemon.settings.log.format)
    sys.setswitchinterval(_SWITCH_S)
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload_asked.set())
    with listening():
        try:
            daemon.start()
        except Stopped:
            log.info("stopped while it started")
            return 0
        _live(daemon)
    return 0


def _live(daemon: Daemon) -> None:
    with finishing(daemon.stop_asked, grace_s=_DISK_S):
        try:
            while not daemon.stop_asked.is_set():
                _end_where_it_hangs()
                daemon.turn()
        finally:
            faulthandler.cancel_dump_traceback_later()
            daemon.stop()


def _end_where_it_hangs() -> None:
    """Let the process end, saying where each thread stands, if this is not called again in time.

    systemd's watchdog does that sooner; elsewhere nobody would. A model that holds the interpreter's lock is no excuse.
    """
    faulthandler.dump_traceback_later(_HANG_ENDS_S, exit=True)
