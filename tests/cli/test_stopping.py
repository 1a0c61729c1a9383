"""Every verb ends on SIGTERM and on SIGINT, whatever it waits for, and leaves no process and no rubbish behind.

The verbs come from click's registry: a new one is in this test by itself, and fails it until `WAITS` says how it is
brought to wait. `streamae.stopping` ends each within 2 s; here it has `ENOUGH_S`, for the machine may be busy.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streamae import stopping
from streamae.cli import main
from tests.brokers import Mosquitto, free_port, wait_until
from tests.services import CONFIG, ROOT

ENOUGH_S = 20.0
PIPE_BYTES = 4096
CONFIG_OF_BROKER = """\
instance: stopping
state: {{dir: state}}
mqtt: {{host: 127.0.0.1, port: {port}, protocol: "5"}}
streams:
  pumps:
    topics: [{{topic: "plant/{{line}}/{{pump}}", payload: json, time: t}}]
    model: {{path: model.pt}}
sinks: [{{type: mqtt}}]
"""


@dataclass
class World:
    """A folder, what a verb may wait for in it, and the verb as a process (group) of its own."""

    folder: Path
    broker: Callable[[], Mosquitto]
    trained: Callable[[], object]
    closing: contextlib.ExitStack
    process: subprocess.Popen[bytes] | None = None
    mess: list[Path] = field(default_factory=list)  # what must be gone afterwards

    def launch(self, *arguments: object, stdout: int | None = None) -> None:
        """Start a verb; its words go to `words`."""
        with (self.folder / "words").open("wb") as words:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamae.cli", *map(str, arguments)],
                stdout=stdout or words, stderr=words, cwd=ROOT, start_new_session=True,
                env={**os.environ, "XDG_STATE_HOME": str(self.folder), "TMPDIR": str(self.folder)},
            )  # fmt: skip

    def filled(self, arguments: tuple[object, ...], **places: Path) -> list[object]:
        """Put files in the place of words; OUT is one to write."""
        return [({"OUT": self.folder / "out.csv"} | places).get(str(one), one) for one in arguments]

    def words(self) -> str:
        return (self.folder / "words").read_text(errors="replace")

    def wait_for(self, condition: Callable[[], object], timeout_s: float = 120.0) -> None:
        """Wait until the verb waits for what it is to wait for."""
        wait_until(lambda: condition() or self.process.poll() is not None, timeout_s, self.words())
        assert self.process.poll() is None, f"it ended by itself: {self.words()}"

    def said(self, word: str) -> None:
        self.wait_for(lambda: word in self.words())

    def pipe(self, name: str) -> Path:
        """A file that never ends: a reader waits for more."""
        path = self.folder / name
        os.mkfifo(path)
        return path

    def read(self, path: Path) -> None:
        """Wait until somebody reads the pipe at `path`, and keep it open."""

        def opened() -> bool:
            with contextlib.suppress(OSError):  # ENXIO: nobody reads
                self.closing.callback(os.close, os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                return True
            return False

        self.wait_for(opened)

    def silent(self) -> tuple[int, Callable[[], object]]:
        """A port that accepts and never answers, and whether somebody has come."""
        server = self.closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        come: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    come.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        self.closing.callback(lambda: [one.close() for one in come])
        return server.getsockname()[1], lambda: come

    def config(self, port: int) -> Path:
        path = self.folder / "streamae.yaml"
        path.write_text(CONFIG_OF_BROKER.format(port=port))
        return path

    def gone(self) -> bool:
        """Whether no process of the verb's group is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


def reads(*arguments: object) -> Callable[[World], None]:
    """The verb waits for a file that never ends, `FILE` in its arguments."""

    def a_file_that_never_ends(world: World) -> None:
        path = world.pipe("file.csv")
        world.launch(*world.filled(arguments, FILE=path))
        world.read(path)

    return a_file_that_never_ends


def writes(verb: str, *arguments: object) -> Callable[[World], None]:
    """Whoever reads the verb's output reads no further; MODEL in its arguments is a trained one."""

    def a_full_pipe(world: World) -> None:
        filled = world.filled(arguments, **({"MODEL": world.trained().path} if "MODEL" in arguments else {}))
        ours, theirs = os.pipe()
        world.closing.callback(os.close, ours)
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        world.launch(verb, *filled, stdout=theirs)
        os.close(theirs)

        def full() -> bool:
            waiting = fcntl.ioctl(ours, termios.FIONREAD, b"\0" * 4)
            return int.from_bytes(waiting, sys.byteorder) == PIPE_BYTES

        world.wait_for(full)

    return a_full_pipe


def a_silent_broker(verb: str, *arguments: object) -> Callable[[World], None]:
    """The broker accepts the connection and never says a word."""

    def silent_broker(world: World) -> None:
        port, come = world.silent()
        path = world.config(port)
        rows = world.folder / "line1_pump01.csv"
        rows.write_text("timestamp,flow\n" + "".join(f"{i},1\n" for i in range(10)))
        world.launch(
            verb,
            "-c",
            path,
            *world.filled(arguments, ROWS=rows),
        )
        world.wait_for(come)

    return silent_broker


def a_broker_that_goes(verb: str, how: str, *arguments: object) -> Callable[[World], None]:
    """The broker vanishes, or freezes, while the verb talks to it."""

    def broker_that_goes(world: World) -> None:
        broker = world.broker()
        rows = world.folder / "line1_pump01.csv"
        rows.write_text("timestamp,flow\n" + "".join(f"{i},1\n" for i in range(200_000)))
        world.launch(verb, "-c", world.config(broker.port), *world.filled(arguments, ROWS=rows))
        world.wait_for(lambda: broker.log().count("Received PUBLISH") > 100)
        broker.kill() if how == "kill" else broker.freeze()

    broker_that_goes.__name__ = {"kill": "a_broker_that_vanishes", "freeze": "a_broker_that_freezes"}[how]
    return broker_that_goes


def the_next_message(world: World) -> None:
    """The recording's next message comes in an hour."""
    broker = world.broker()
    rows = world.folder / "line1_pump01.csv"
    rows.write_text("timestamp,flow\n0,1\n3600,1\n")
    world.launch("replay", "-c", world.config(broker.port), rows)
    world.wait_for(lambda: "Received PUBLISH" in broker.log())


def messages(verb: str, *arguments: object) -> Callable[[World], None]:
    """The broker is well, and nothing comes."""

    def messages_to_come(world: World) -> None:
        broker = world.broker()
        world.launch(verb, "-c", world.config(broker.port), *world.filled(arguments))
        world.wait_for(lambda: "Received SUBSCRIBE" in broker.log())

    return messages_to_come


def a_database(verb: str) -> Callable[[World], None]:
    """The database accepts the question and never answers."""

    def database(world: World) -> None:
        port, come = world.silent()
        path = world.folder / "train.yaml"
        path.write_text(
            f"sources:\n  - {{type: prometheus, url: 'http://127.0.0.1:{port}', start: -1h, step: 10s,\n"
            "     queries: {flow: up}, stream: '{instance}'}\n"
        )
        world.launch(verb, "-c", path, "-o", world.folder / "out")
        world.wait_for(come)

    return database


def a_silent_page(world: World) -> None:
    """The daemon's page accepts the question and never answers."""
    port, come = world.silent()
    path = world.config(free_port())
    (world.folder / "token").write_text("demo\n")
    path.write_text(f'{path.read_text()}web: {{listen: "127.0.0.1:{port}", token: "file:token"}}\n')
    world.launch("stream", "relearn", "line1/pump01", "--group", "pumps", "-c", path)
    world.wait_for(come)


def a_silent_receiver(world: World) -> None:
    """The receiver of a sink accepts the notification and never answers."""
    port, come = world.silent()
    path = world.config(free_port())
    sink = f"{{type: webhook, url: 'http://127.0.0.1:{port}/', timeout: 5m, group_wait: 0s}}"
    path.write_text(path.read_text().replace("{type: mqtt}", sink))
    world.launch("notify-test", "webhook", "-c", path)
    world.wait_for(come)


def a_silent_service(world: World) -> None:
    """The same with a library that sends in threads of its own."""
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'streamae[notify]'")
    port, come = world.silent()
    path = world.config(free_port())
    (world.folder / "address").write_text(f"json://127.0.0.1:{port}/\n")
    sink = '{type: apprise, urls: ["file:address"], timeout: 5m, group_wait: 0s}'
    path.write_text(path.read_text().replace("{type: mqtt}", sink))
    world.launch("notify-test", "apprise", "-c", path)
    world.wait_for(come)


def the_fit(world: World) -> None:
    """Steps of training without end."""
    rows = world.folder / "rows.csv"
    rows.write_text("timestamp,flow\n" + "".join(f"{i},{i % 7}\n" for i in range(400)))
    path = world.folder / "train.yaml"
    path.write_text("recipe: {steps: 1000000, patience: 1000000}\n")
    world.launch("train", rows, "-c", path, "-o", world.folder / "model.pt")
    world.said("rows, a row every")


def the_broker(world: World) -> None:
    """The daemon runs, its broker is silent, and so is a sink that has something to deliver."""
    port, come = world.silent()
    trained, page = world.trained(), free_port()
    config = CONFIG.format(broker=port, page=page, silent=300, keep=5, model=trained.path, sha256=trained.sha256)
    sink, _ = world.silent()
    (world.folder / "streamae.yaml").write_text(
        f"{config}  - {{type: webhook, url: 'http://127.0.0.1:{sink}/', timeout: 60s, group_wait: 0s}}\n"
        "home_assistant: {}\n"
    )
    world.launch("run", "-c", world.folder / "streamae.yaml")
    world.wait_for(come)


def demo(word: str) -> Callable[[World], None]:
    """The demo has come as far as `word`."""

    def demo_until(world: World) -> None:
        world.launch("demo", "--port", 0)
        world.said(word)
        found = list(world.folder.glob("streamae-*"))
        assert len(found) == 2, "the demo's and its broker's"
        world.mess += found

    demo_until.__name__ = f"demo_until_{word}"
    return demo_until


def a_round(world: World) -> None:
    """A round through the broker, with a publisher and subscribers of its own."""
    world.launch("bench", "--only", "ingest", "--rounds", "1000")
    children = Path(f"/proc/{world.process.pid}/task/{world.process.pid}/children")
    world.wait_for(lambda: len(children.read_text().split()) > 1)


PUBLISH = ("--streams", "3", "--speed", "max")
WAITS: dict[str, tuple[Callable[[World], None], ...]] = {
    "run": (the_broker, reads("run", "-c", "FILE")),
    "check": (reads("check", "-c", "FILE"),),
    "notify-test": (a_silent_receiver, a_silent_service, a_silent_broker("notify-test", "mqtt")),
    "schema": (writes("schema"),),
    "inspect": (writes("inspect", "MODEL"),),
    "demo": (demo("plant "), demo("calm ")),
    "train": (the_fit, a_database("train"), reads("train", "FILE", "-o", "OUT")),
    "fetch": (a_database("fetch"),),
    "score": (reads("score", "x.pt", "FILE", "-o", "OUT"),),
    "embed": (reads("embed", "x.pt", "FILE", "-o", "OUT"),),
    "classify": (reads("classify", "x.pt", "FILE", "-o", "OUT"),),
    "stream": (a_silent_page,),
    "evaluate": (reads("evaluate", "x.csv", "-c", "FILE"),),
    "bench": (a_round,),
    "simulate": (
        a_broker_that_goes("simulate", "kill", *PUBLISH),
        a_broker_that_goes("simulate", "freeze", *PUBLISH),
        a_silent_broker("simulate"),
    ),
    "replay": (
        the_next_message,
        a_broker_that_goes("replay", "kill", "ROWS", "--speed", "max"),
        a_silent_broker("replay", "ROWS"),
    ),
    "record": (messages("record", "OUT"), a_silent_broker("record", "OUT")),
    "sniff": (messages("sniff", "--duration", "1h"), a_silent_broker("sniff", "--duration", "1h")),
}
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Both signals for each verb: in its one state, or by turns where it has several.
CASES = [
    (verb, state, number)
    for verb in sorted(main.commands)
    for states in [WAITS.get(verb, (None,))]
    for k, state in enumerate(states)
    for number in (SIGNALS if len(states) == 1 else SIGNALS[k % 2 : k % 2 + 1])
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], object]:
    """A model, trained when it is wanted."""
    made: list[object] = []

    def get() -> object:
        if not made:
            from tests.models import train_pumps

            made.append(train_pumps(tmp_path_factory.mktemp("model")))
        return made[0]

    return get


@pytest.fixture
def world(tmp_path: Path, make_mosquitto: Callable[..., Mosquitto], trained: Callable[[], object]) -> Iterator[World]:
    with contextlib.ExitStack() as closing:
        world = World(tmp_path, make_mosquitto, trained, closing)
        yield world
        if world.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(world.process.pid, signal.SIGKILL)
            world.process.wait(10)


def ended(world: World, number: int) -> int | None:
    """Send the signal; return the exit code, None where the verb goes on."""
    world.process.send_signal(number)
    try:
        return world.process.wait(ENOUGH_S)
    except subprocess.TimeoutExpired:
        return None


@pytest.mark.parametrize(
    ("verb", "state", "number"), CASES, ids=lambda part: str(getattr(part, "__name__", getattr(part, "name", part)))
)
def test_every_verb_ends_on_a_signal(
    world: World, verb: str, state: Callable[[World], None] | None, number: signal.Signals
) -> None:
    """It ends, says so by its exit code, shows no trace, and leaves neither a child nor a temporary folder."""
    assert state is not None, f"say in WAITS what `{verb}` can wait for, and how it is brought to"
    state(world)
    code = ended(world, number)
    assert code in (0, stopping.exit_code(number)), world.words()
    assert "Traceback" not in world.words()
    wait_until(world.gone, ENOUGH_S, "a process of the verb goes on")
    assert [path for path in world.mess if path.exists()] == []


def test_a_program_that_does_not_end_is_seen(world: World) -> None:
    """The control: what ignores the signal, as a verb of old did, is not taken for ended."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(1000)"
    world.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert world.process.stdout is not None
    world.process.stdout.readline()
    world.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        world.process.wait(1.0)
    assert not world.gone()


STUBBORN = """
import ctypes, socket, sys, threading, time
from streamae import stopping
how = sys.argv[1]
with stopping.listening():
    print("waits", flush=True)
    if how == "swallows":
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass
    elif how == "compiled":
        ctypes.CDLL(None).sleep(1000), ctypes.CDLL(None).sleep(1000), ctypes.CDLL(None).sleep(1000)
    else:
        with stopping.finishing():
            threading.Event().wait(1000)  # and looks at nothing
"""


@pytest.mark.parametrize("how", ["swallows", "compiled", "forgets"])
def test_not_even_a_stubborn_verb_goes_on(world: World, how: str) -> None:
    """Neither one that keeps the exception, nor one inside a library, nor one that does not look at its event."""
    world.process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, how], stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    assert world.process.stdout is not None
    world.process.stdout.readline()
    assert ended(world, signal.SIGTERM) not in (None, 0)
