"""The broker and the network misbehave; each cell has a broker, a proxy, a daemon and a publisher of its own.

A round is: begin the fault, leave it for a while, end it, and take the time until the daemon is ready again and new
rows are judged. After the rounds everything that was published is held against the journal: what is not there is the
true loss. It must be zero unless the daemon has counted a lost session, and the daemon must have found exactly that
many missing, by the numbers on the messages: `sequence` in its configuration.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.brokers import Mosquitto, Proxy, free_port, wait_until
from tests.faults import plant
from tests.faults.collector import Collector
from tests.faults.processes import Daemon, Publisher, Zygote

PER_S = 100.0
STREAMS = 4
DECIDED_ROWS = 40  # of each stream after the last fault: 32 later ones, and a missing one counts as lost
SECURITY = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cell saw: seconds to heal per round; messages published, lost and twice in the journal; alerts.

    `missed` messages never came to this daemon: those that are lost, and those that a rival took. `detected` is how
    many it found missing by their numbers; `counted` what its metric says, where one process lived through all rounds.
    """

    cell: str
    heals_s: tuple[float, ...]
    sent: int
    true_loss: int
    missed: int
    detected: int
    counted: int | None
    doubled: int
    sessions_lost: int
    alerts_expected: int
    alerts_wrong: int
    exits: tuple[int, ...] = ()
    said: str = ""


@dataclass(slots=True)
class World:
    """What a cell plays with."""

    folder: Path
    broker: Mosquitto
    proxy: Proxy
    daemon: Daemon
    config: Path
    collector: Collector
    zygote: Zygote
    model: plant.Model
    publisher: Publisher | None = None
    rivals: list[Path] = field(default_factory=list)  # who took messages in our place
    exits: list[int] = field(default_factory=list)
    sessions: dict[int, float] = field(default_factory=dict)  # sessions lost, by process
    said: str = ""

    def healthy(self) -> bool:
        return self.daemon.get("/readyz")[0] == 200


Step = Callable[[World], object]


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault: how it begins and ends, how long it lasts, and whether the broker forgets our session by it."""

    name: str
    begin: Step
    end: Step
    lasts_s: float = 2.0
    persistence: bool = False
    loses_session: bool = False
    ruled: bool = False  # by the broker's access rules
    resent_by_publisher: bool = False  # it reconnects too, and QoS 1 lets it repeat itself


def _withhold_connack(world: World) -> None:
    world.proxy.blackhole()
    world.proxy.reset()


def _notice(world: World) -> None:
    """A half-open line is noticed by the keepalive, 5 s in these tests, and a half of it."""
    world.proxy.blackhole()
    wait_until(lambda: not world.healthy(), 20, "the half-open connection is noticed")


def _freeze(world: World) -> None:
    world.broker.freeze()
    wait_until(lambda: not world.healthy(), 20, "the frozen broker is noticed")


def _take_over(world: World) -> None:
    """Another daemon starts with our client id: ours must end and say why."""
    folder = world.folder / f"rival{len(world.exits)}"
    page = free_port()
    config = plant.write_config(folder, world.model, world.proxy.port, world.collector.port, page)
    rival = Daemon(config, page, world.zygote).start()
    world.exits.append(world.daemon.wait())
    world.said = world.daemon.lines().splitlines()[-1]
    rival.kill()
    world.rivals.append(config)


def _deny(world: World) -> None:
    """The broker's rules change under us: it lets us in, and denies the subscription."""
    _rule(world, allow=False)
    world.proxy.reset()
    wait_until(lambda: "denied the subscription" in world.daemon.get("/readyz")[1], 20, "the denial is said")
    assert "subscription denied" in world.daemon.lines()


def _rule(world: World, *, allow: bool) -> None:
    rule = {"acltype": "subscribeLiteral", "topic": "plant/+", "allow": allow}
    command = {"command": "modifyRole", "rolename": "everybody", "acls": [rule]}
    world.broker.publish([("$CONTROL/dynamic-security/v1", json.dumps({"commands": [command]}))])


def _security(folder: Path) -> Sequence[str]:
    """Lines for mosquitto: its own access rules, which can be changed while it runs."""
    roles = [{"rolename": "everybody"}, {"rolename": "ruler"}]
    ruling = [{"acltype": "publishClientSend", "topic": "$CONTROL/#", "allow": True}]
    access = dict.fromkeys(("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"), True)
    rules = {
        "defaultACLAccess": access, "clients": [],
        "roles": [{**roles[0], "acls": []}, {**roles[1], "acls": ruling}],
        "groups": [{"groupname": "anonymous", "roles": roles}], "anonymousGroup": "anonymous",
    }  # fmt: skip
    (folder / "security.json").write_text(json.dumps(rules))
    return ("allow_anonymous true", f"plugin {SECURITY}", f"plugin_opt_config_file {folder / 'security.json'}")


def _away(world: World) -> None:
    """The broker restarts without memory while the daemon is down."""
    world.daemon.kill()
    world.broker.kill()
    world.broker.start()


_CELLS: Sequence[Cell] = (
    Cell("broker killed, no persistence", lambda w: w.broker.kill(), lambda w: w.broker.start(),
         loses_session=True, resent_by_publisher=True),
    Cell("broker restarted, no persistence", lambda w: w.broker.stop(), lambda w: w.broker.start(),
         loses_session=True, resent_by_publisher=True),
    Cell("broker restarted, with persistence", lambda w: w.broker.stop(), lambda w: w.broker.start(),
         persistence=True, resent_by_publisher=True),
    Cell("broker restarted while the daemon is down", _away, lambda w: w.daemon.start(), lasts_s=0.5,
         loses_session=True, resent_by_publisher=True),
    Cell("broker frozen", _freeze, lambda w: w.broker.thaw(), lasts_s=1.0),
    Cell("network cut", lambda w: w.proxy.cut(), lambda w: w.proxy.heal()),
    Cell("half-open connection", _notice, lambda w: w.proxy.heal(), lasts_s=1.0),
    Cell("CONNACK withheld", _withhold_connack, lambda w: w.proxy.heal(), lasts_s=4.0),
    Cell("subscription denied", _deny, lambda w: _rule(w, allow=True), lasts_s=1.0,
         ruled=True, resent_by_publisher=True),
    Cell("session taken over", _take_over, lambda w: w.daemon.start(), lasts_s=0.0),
)  # fmt: skip

# Debian's mosquitto brings the plugin that the ruled cell needs; others may not.
CELLS = tuple(cell for cell in _CELLS if SECURITY or not cell.ruled)


def play(cell: Cell, folder: Path, model: plant.Model, zygote: Zygote, rounds: int) -> Outcome:
    """Play all rounds of a cell and account for every message."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = _security(folder) if cell.ruled else ("allow_anonymous true",)
    broker = Mosquitto(folder / "broker", persistence=cell.persistence, listener=rules).start()
    proxy, collector, page = Proxy(broker.port), Collector(refuse=0, vanish=0), free_port()
    config = plant.write_config(folder, model, proxy.port, collector.port, page)
    config.write_text(config.read_text().replace(", time: t}", ", time: t, sequence: n}"))
    world = World(folder, broker, proxy, Daemon(config, page, zygote).start(), config, collector, zygote, model)
    try:
        world.daemon.wait_ready()
        world.publisher = Publisher(broker.port, plant.messages(streams=STREAMS), PER_S).start()
        wait_until(lambda: world.daemon.metric("streamae_rows_total") > 0, 20, "rows are judged")
        heals_s = [_round(cell, world) for _ in range(rounds)]
        return _account(cell, world, heals_s)
    finally:
        if world.publisher:
            world.publisher.close()
        world.daemon.kill()
        broker.thaw() if broker.process else None
        broker.kill()
        proxy.close()
        collector.close()


def _round(cell: Cell, world: World) -> float:
    cell.begin(world)
    time.sleep(cell.lasts_s)
    cell.end(world)
    began_s = time.monotonic()
    rows: list[float] = []

    def healed() -> bool:
        if not world.healthy():
            return False
        rows.append(world.daemon.metric("streamae_rows_total"))
        return len(rows) > 1 and rows[-1] > rows[0]

    wait_until(healed, 60, f"{cell.name}: healed; {world.daemon.log}")
    healed_s = round(time.monotonic() - began_s, 2)
    world.sessions[world.daemon.pid or 0] = world.daemon.metric('streamae_messages_lost_total{cause="session"}')
    return healed_s


def _account(cell: Cell, world: World, heals_s: Sequence[float]) -> Outcome:
    assert world.publisher
    decided = len(world.publisher.sent) + STREAMS * DECIDED_ROWS
    wait_until(lambda: len(world.publisher.sent) > decided, 60, "what is missing is known to be")
    sent = world.publisher.stop()
    wait_until(lambda: sent[-1] in plant.newest(world.config), 60, f"{cell.name}: the last row is taken")
    counted = world.daemon.metric('streamae_messages_lost_total{cause="sequence"}')
    assert world.daemon.stop() == 0, world.daemon.lines()[-2000:]
    journal = plant.journalled(world.config)
    counts, taken, notified = Counter(journal), set(journal), set()
    for config in world.rivals:
        theirs = plant.journalled(config)
        taken |= set(theirs)
        notified |= plant.refolded(config)[0]
    expected, detected = plant.refolded(world.config)
    got = plant.keys_of(world.collector)
    return Outcome(
        cell=cell.name,
        heals_s=tuple(heals_s),
        sent=len(sent),
        true_loss=len(set(sent) - taken),
        missed=len(set(sent) - counts.keys()),
        detected=detected,
        counted=int(counted) if len(world.sessions) == 1 else None,
        doubled=counts.total() - len(counts),
        sessions_lost=int(sum(n for n in world.sessions.values() if not math.isnan(n))),
        alerts_expected=len(expected),
        alerts_wrong=len(expected - got) + len(got - expected - notified),
        exits=tuple(world.exits),
        said=world.said,
    )


def play_all(folder: Path, model: plant.Model, zygote: Zygote, rounds: int) -> dict[str, Outcome | Exception]:
    """Play all cells side by side: they mostly wait."""

    def one(cell: Cell) -> Outcome | Exception:
        try:
            return play(cell, folder / cell.name.replace(" ", "-").replace(",", ""), model, zygote, rounds)
        except BaseException as error:  # pytest's failures are not exceptions of the ordinary kind
            return RuntimeError(f"{cell.name}: {error}")

    with ThreadPoolExecutor(len(CELLS)) as pool:
        return {cell.name: outcome for cell, outcome in zip(CELLS, pool.map(one, CELLS), strict=True)}
