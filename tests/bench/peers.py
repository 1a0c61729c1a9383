"""Points scored per core-second, ours beside those of the field: each as its users call it, and no MQTT.

    python -m tests.bench.peers --python OTHER/bin/python --update deploy/docs/benchmarks.md

Every peer runs in a process of its own (`tests.bench.foreign`), by the first interpreter that has it: ours, then those
that `--python` names. All are run by turns. A peer that does another kind of work for a point is named as such.
Beside them stands what a step of the recurrence costs at least (`tests.bench.bounds`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from streamae.bench.models import noise, scripted, spec_named
from streamae.bench.rounds import BenchTable, Elapsed, Line, by_turns
from streamae.bench.run import as_markdown, machine
from streamae.marked import replace_block
from streamae.model.detector import DetectorNetwork
from streamae.model.runtime import TorchReconstructor
from streamae.stopping import child
from tests.bench import bounds, foreign

__all__ = ["Peer", "main", "peers"]

_BATCH = 256
_EAGER = 128  # windows


class Peer:
    """One peer in its process. Raises LookupError, with what was said last, where no interpreter has it."""

    def __init__(self, name: str, pythons: Sequence[str]) -> None:
        said = ""
        for python in pythons:
            command = [python, str(Path(foreign.__file__)), name]
            with tempfile.TemporaryFile("w+") as errors:
                self._process = child(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
                )
                answer = self._answer()
                if answer is not None:
                    self.version: str = answer["version"]
                    return
                self._process.wait()
                errors.seek(0)
                said = errors.read().strip().rpartition("\n")[2]
        raise LookupError(said)

    def __call__(self) -> Elapsed:
        """Score a round's points."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._answer()
        if answer is None:
            raise RuntimeError(f"{self._process.args!r} has ended")
        return Elapsed(*answer)

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None


def peers(rounds: int, quick: bool, pythons: Sequence[str] = ()) -> BenchTable:
    """Ours in batches of 256, as the daemon scores, and one eager call a window; then whoever is installed."""
    section = BenchTable(
        "peers",
        "Points scored per core-second, one channel, every point scored, by turns; no MQTT. Equal work is an LSTM "
        "autoencoder of hidden 64 over 64 rows for each point; trees do another, lighter kind.",
    )
    ways: dict[str, Callable[[], object]] = {}
    units: dict[str, float] = {}
    work = dict.fromkeys(("streamae, lstm64", "eager PyTorch, a call a window"), "equal")
    work["streamae, default"] = "a composite of hidden 16, and banks"
    for name in ("lstm64", "default"):
        spec = spec_named(name)
        runner = TorchReconstructor(scripted(spec), spec)
        x = noise(spec, _BATCH)
        ways[f"streamae, {name}"], units[f"streamae, {name}"] = _scored(runner, x), _BATCH
    spec = spec_named("lstm64")
    points = 32 if quick else _EAGER
    ways["eager PyTorch, a call a window"], units["eager PyTorch, a call a window"] = _eager(spec, points), points
    found: list[Peer] = []
    for title, (distribution, _, count, equal) in foreign.PEERS.items():
        try:
            peer = Peer(title, [sys.executable, *pythons])
        except LookupError as error:
            section.lines.append(Line(title, {"work": f"not to be had here: {error}"}))
            continue
        found.append(peer)
        named = f"{title} ({distribution} {peer.version})"
        ways[named], units[named], work[named] = peer, count, "equal" if equal else "another method"
    took = by_turns(ways, units, rounds)
    for peer in found:
        peer.close()
    ours = 1e6 / took["streamae, lstm64"].cpu_us
    lines = []
    for title, timing in took.items():
        rate = 1e6 / timing.cpu_us
        figures: dict[str, float | str] = {"points/s": rate, "spread": timing.spread, "work": work[title]}
        line = Line(title, figures)
        if work[title] == "equal" and not title.startswith("streamae"):
            figures["ours over it, x"] = ours / rate
            line.goal, line.met = "behind at equal work", rate < ours
        elif rate > ours and not title.startswith("streamae"):
            figures["work"] = f"{work[title]}; ahead of lstm64"
        lines.append(line)
    section.lines[:0] = lines
    return section


def _scored(runner: TorchReconstructor, x: Any) -> Callable[[], object]:
    return lambda: runner.errors(x)


def _eager(spec: Any, points: int) -> Callable[[], object]:
    torch.manual_seed(0)
    network, x = DetectorNetwork(spec).eval(), noise(spec, points)

    def run() -> None:
        with torch.no_grad():
            for window in x:
                network.errors(torch.from_numpy(window[None]))

    return run


def main(argv: Sequence[str] | None = None, say: Callable[[str], Any] = sys.stdout.write) -> int:
    """Print the tables, and put them between the text's markers."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--quick", action="store_true", help="fewer points: a look, not a result")
    parser.add_argument(
        "--python", action="append", default=[], help="interpreter with peers that want an environment of their own"
    )
    parser.add_argument("--update", type=Path, help="replace the tables between the markers `peers` of this file")
    given = parser.parse_args(argv)
    where = machine()
    text = as_markdown([bounds.steps(given.rounds), peers(given.rounds, given.quick, given.python)], where)
    say(text + "\n")
    if given.update is not None:
        replace_block(given.update, "peers", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
