"""kill -9 at random moments under 1,000 messages a second, and the exact account of what became of the alerts."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.brokers import Mosquitto, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector
from tests.faults.processes import Daemon, Publisher, Zygote

PER_S = 1000.0
LIFE_MAX_S = 1.6  # of a daemon that is killed; it needs about half a second to be ready


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of kills did. Alerts are counted as transitions; `doubled` ones are left after dedup by key."""

    cycles: int
    sent: int
    expected: int
    lost: int
    spurious: int
    doubled: int
    out_of_order: int
    messages_lost: int
    messages_doubled: int
    redelivered: int
    state_differs: tuple[str, ...]
    answers: Counter[str]

    @property
    def clean(self) -> bool:
        """Whether every transition came, nothing else, in order, and the state is that of an undisturbed run."""
        bad = self.lost + self.spurious + self.doubled + self.out_of_order + self.messages_lost + self.messages_doubled
        return bad == 0 and not self.state_differs


def torment(
    folder: Path, broker: Mosquitto, model: plant.Model, zygote: Zygote | None,
    *, cycles: int, seed: int, variant: str = "slow", patience_s: float = 90.0, tidy: bool = False,
) -> Outcome:  # fmt: skip
    """Kill a daemon `cycles` times while rows keep coming, then let one live until all is notified, and count."""
    random_ = random.Random(seed)
    collector, page = Collector(seed), free_port()
    config = plant.write_config(folder, model, broker.port, collector.port, page)
    daemon = Daemon(config, page, zygote, variant).start()
    daemon.wait_ready()  # the session exists before the first message
    publisher = Publisher(broker.port, plant.messages(), PER_S).start()
    try:
        for _ in range(cycles):
            time.sleep(random_.uniform(0.0, LIFE_MAX_S))
            if tidy:
                daemon.wait_ready()
                assert daemon.stop() == 0, daemon.lines()[-2000:]
            else:
                daemon.kill()
            daemon.start()
        sent = publisher.stop()
        settle(daemon, collector, sent, patience_s)
        assert daemon.stop() == 0, daemon.lines()[-2000:]
    finally:
        publisher.close()
        daemon.kill()
        collector.close()
    return account(config, collector, sent, cycles)


def account(config: Path, collector: Collector, sent: Sequence[tuple[str, str]], cycles: int) -> Outcome:
    """Hold what a stopped daemon stored and notified against what was sent."""
    truth, found = plant.core(config), plant.recovered(config)
    expected = {t.key: t for t in plant.fold(truth, sent).transitions}
    got, journal = plant.keys_of(collector), Counter(plant.journalled(config))
    differs = plant.differences(found, truth, plant.CLOCKS)
    differs += plant.differences(found, plant.replayed(config, plant.core(config)))
    wrong = [k for k in got & expected.keys() if collector.alerts[k]["onset_s"] != expected[k].onset_s]
    return Outcome(
        cycles=cycles,
        sent=len(sent),
        expected=len(expected),
        lost=len(expected.keys() - got),
        spurious=len(got - expected.keys()) + len(wrong),
        doubled=len(collector.contradictions),
        out_of_order=len(collector.out_of_order()),
        messages_lost=len(set(sent) - journal.keys()),
        messages_doubled=journal.total() - len(journal),
        redelivered=collector.copies.total() - len(collector.copies),
        state_differs=tuple(dict.fromkeys(differs)),
        answers=collector.answers,
    )


def settle(daemon: Daemon, collector: Collector, sent: Sequence[tuple[str, str]], patience_s: float = 90.0) -> None:
    """Wait until everything expected is notified, or nothing has changed for a while: then it never will be."""
    expected = {t.key for t in plant.fold(plant.core(daemon.config), sent).transitions}
    daemon.wait_ready()
    seen, since_s = -1, time.monotonic()
    while not collector.alerts.keys() >= expected and time.monotonic() - since_s < patience_s:
        if len(collector.alerts) != seen:
            seen, since_s = len(collector.alerts), time.monotonic()
        time.sleep(0.1)
    # The broker keeps the order: who has the last row has been given all of them.
    wait_until(lambda: sent[-1] in plant.newest(daemon.config) or patience_s < 10, 600, "all rows are taken")
