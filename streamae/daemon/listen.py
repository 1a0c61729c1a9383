"""`check --listen`: what the daemon would read of what the broker sends now, by topic, and why it would not.

Messages take the daemon's own way, from the subscriptions to the models, under a client id of its own and without any
state: nothing is stored, and nobody is notified.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from streamae.config import Settings, load
from streamae.config.units import duration_text
from streamae.core.formats import FORMATS
from streamae.core.groups import Groups
from streamae.core.topics import CHANNEL
from streamae.core.types import Drop, Drops
from streamae.daemon.build import Models, groups_of, subscriptions_of
from streamae.daemon.clock import Clock
from streamae.daemon.intake import GroupIntake
from streamae.daemon.json_parser import json_loads
from streamae.errors import UnavailableError
from streamae.ingest.mqtt import MqttSource
from streamae.mqtt import transient

__all__ = ["listen"]

_END_S = 0.5
_ENOUGH = 10  # messages that carry all channels at once, of which none lacks one by chance


def listen(path: Path, duration_s: float, stopped: Callable[[], bool] = lambda: False) -> tuple[list[str], bool]:
    """Listen for so long from the subscription on; return the lines to print, and whether each group got its values.

    Raises ConfigError, ArtifactError, or UnavailableError where the broker cannot be reached or denies a topic.
    """
    settings = load(path)
    groups = Groups(settings.instance, groups_of(settings, Models().open(settings)), json_loads())
    accounts = {name: GroupIntake(pipeline.group) for name, pipeline in groups.pipelines.items()}
    lost = _listen(settings, groups, accounts, duration_s, stopped)
    lines = [f"listened to {settings.connection.address} for {duration_text(duration_s)}"]
    if lost[Drop.RETAINED]:
        lines.append(f"  {lost[Drop.RETAINED]} retained messages were passed over: `retained: accept` reads them")
    if lost[Drop.TOO_LARGE]:
        lines.append(f"  {lost[Drop.TOO_LARGE]} messages were too long, see inbox.max_payload")
    content = True
    for name, account in accounts.items():
        said, good = _said(account, len(groups.pipelines[name].streams))
        lines += [f"group {name}: {'ok' if good else 'lacks values'}", *(f"  {line}" for line in said)]
        content = content and good
    return lines, content


def _listen(
    settings: Settings,
    groups: Groups,
    accounts: dict[str, GroupIntake],
    duration_s: float,
    stopped: Callable[[], bool],
) -> Drops:
    """Take what comes, and note what becomes of it; returns what was refused before any group."""
    clock, lost = Clock(), Drops()
    connection = transient(settings.connection, "check")
    source = MqttSource(
        connection,
        subscriptions_of(settings),
        replace(settings.inbox, batch_wait_s=0.05),
        now=clock.now,
        monotonic=clock.monotonic,
        jitter=clock.jitter,
    )
    give_up_s, end_s = clock.monotonic() + 3 * connection.connect_timeout_s, None
    source.start()
    try:
        while not stopped() and (end_s is None or clock.monotonic() < end_s):
            accepted = source.take(settings.inbox.batch_max, 0.1)
            report = groups.step(accepted.batch, clock.now())
            source.ack(accepted)
            lost += accepted.batch.lost
            for name, news in report.groups.items():
                accounts[name].note(news)
            status = source.status()
            if end_s is None and status.subscribed:
                end_s = clock.monotonic() + duration_s
            elif end_s is None and clock.monotonic() > give_up_s:
                advice = "check mqtt.host, mqtt.port, the credentials, and the right to read these topics"
                raise UnavailableError(f"broker {connection.address}: {status.error or 'no answer'}; {advice}")
    finally:
        source.close(_END_S)
    return lost


def _said(account: GroupIntake, streams: int) -> tuple[list[str], bool]:
    """Return what a group got, a line for each of its topics and one for its channels, and whether that is enough."""
    group, lines = account.group, []
    for k in account.own:
        n, read = account.messages[k], account.read[k]
        line = f"{group.templates[k].filter}: {read} of {n} messages read"
        if read < n:
            reasons = account.unread[k].most_common()
            counted = ", ".join(f"{count} {reason.value}" for reason, count in reasons)
            passed = n - read - sum(count for _, count in reasons)
            counted = ", ".join(part for part in (counted, f"{passed} passed over" if passed > 0 else "") if part)
            line += f"; {counted}: {account.why(k, account.reason(k))}"
        lines.append(line if n else f"{group.templates[k].filter}: no message")
    values = zip(group.profile.channels, account.values, strict=True)
    lines.append(f"{streams} streams; values: " + ", ".join(f"{count} {channel}" for channel, count in values))
    absent = _absent(account)
    if absent:
        lines.append(account.lacks() or f"no value of {', '.join(absent)}")
    return lines, any(account.read[k] for k in account.own) and not absent


def _absent(account: GroupIntake) -> list[str]:
    """Return the channels that messages lack which should carry all of them at once."""
    group = account.group
    at_once = all(
        not FORMATS[group.payloads[k].kind].on_change and CHANNEL not in group.templates[k].labels for k in account.own
    )
    if not at_once or len(account.own) > 1 or sum(account.read) < _ENOUGH:
        return []
    return [channel for channel, n in zip(group.profile.channels, account.values, strict=True) if not n]
