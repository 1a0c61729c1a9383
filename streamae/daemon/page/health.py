"""Health, in words, at the moment of asking: a loop that hangs makes no new pictures.

/healthz fails when the loop has made no progress for `HANGS_AFTER_S` or a thread is dead; /readyz also when we are not
connected and subscribed, when nothing has arrived for `silent_after_s`, or when the store cannot be written.
"""

from collections.abc import Mapping, Sequence

from streamae.core.pipeline import Group
from streamae.daemon.heartbeat import HANGS_AFTER_S
from streamae.daemon.loop import Loop
from streamae.web.view import StreamTable

__all__ = ["silence_s", "unhealthy", "unready"]

_SILENCE_S = 300.0


def unhealthy(loop: Loop, thread_faults: Sequence[str], now_s: float) -> list[str]:
    """Return why the process should be restarted; `now_s` is of the loop's monotonic clock."""
    reasons = list(thread_faults)
    stuck_s = now_s - loop.progress_s
    if stuck_s > HANGS_AFTER_S:
        reasons.append(f"thread {loop.thread} hangs: no progress for {stuck_s:.0f} s while it {loop.doing}")
    return reasons


def silence_s(given_s: float | None, groups: Mapping[str, Group]) -> float:
    """Return the longest silence that is fine: as given, else five minutes, or as long as all models bridge."""
    bridged_s = min((one.profile.gap_max_s for one in groups.values()), default=0.0)
    return max(_SILENCE_S, bridged_s) if given_s is None else given_s


def unready(loop: Loop, tables: Mapping[str, StreamTable], up_s: float, silent_after_s: float) -> list[str]:
    """Return why nothing, or not everything, is judged at present; `up_s` is how long the process has been running."""
    status = loop.source.status()
    reasons = [f"the model of group {n} judges nothing: {one.broken}" for n, one in tables.items() if one.broken]
    if status.fatal or not status.connected:
        return [*reasons, f"not connected: {status.fatal or status.error or 'still connecting'}"]
    if not status.subscribed:
        denied = ", ".join(status.denied)
        reasons.append(f"the broker denied the subscription of {denied}" if denied else "not subscribed yet")
    age_s = status.last_message_age_s
    silent_s = up_s if age_s is None else age_s
    if silent_s > silent_after_s:
        reasons.append(f"connected, but no message has arrived for {silent_s:.0f} s")
    if not loop.writable:
        storing = loop.storing.failing
        why = f": {storing.reason}" if storing else ""
        reasons.append(f"the state directory cannot be written: intake is paused{why}")
    return reasons
