"""What is played for the fault table, part by part: each yields its rows as they end. See `table.py`."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench import storm
from tests.brokers import Mosquitto
from tests.faults import disk, flood, fuzz, plant, seeds, soak
from tests.faults.broker_faults import Outcome, play_all
from tests.faults.kill import torment
from tests.faults.processes import ROOT, Zygote
from tests.faults.simulation import BUGS
from tests.faults.test_supervision import THREADS
from tests.faults.test_supervision import play as play_thread
from tests.model.test_artifact import CASES
from tests.store.test_store_faults import DAMAGED

Row = tuple[object, ...]  # fault, behaviour, cycles, lost, invented, doubled


@dataclass(frozen=True)
class Stage:
    """What the faults are played with."""

    folder: Path
    model: plant.Model
    zygote: Zygote
    sizes: argparse.Namespace


def kills(stage: Stage) -> Iterator[Row]:
    """The daemon is ended again and again under 1,000 messages a second."""
    cycles = stage.sizes.cycles
    said = {
        "slow": ("`kill -9` at 1,000 messages/s, webhook fails 15 %", "windows and open alerts go on", cycles),
        "tidy": ("SIGTERM at 1,000 messages/s", "drains, exit 0", min(cycles, 25)),
        "hasty": ("*control: acknowledged before the commit*", "caught", 10),
    }
    for variant, (fault, behaviour, n) in said.items():
        broker = Mosquitto(stage.folder / f"broker-{variant}").start()
        tidy, patience_s = variant == "tidy", 5 if variant == "hasty" else 90
        try:
            seen = torment(
                stage.folder / variant, broker, stage.model, stage.zygote, cycles=n, seed=1, tidy=tidy,
                variant="slow" if tidy else variant, patience_s=patience_s,
            )  # fmt: skip
        finally:
            broker.kill()
        lost = f"{seen.lost} of {seen.expected} alerts, {seen.messages_lost} of {seen.sent} messages"
        differs = f"; {len(seen.state_differs)} of the state's arrays differ" if seen.state_differs else ""
        yield fault, behaviour + differs, n, lost, seen.spurious, seen.doubled + seen.messages_doubled


def cells(stage: Stage) -> Iterator[Row]:
    """Broker and network misbehave."""
    for name, seen in play_all(stage.folder / "cells", stage.model, stage.zygote, stage.sizes.rounds).items():
        yield _cell(seen) if isinstance(seen, Outcome) else (name, f"FAILED: {seen}", "", "", "", "")


def _cell(seen: Outcome) -> Row:
    heals = f"heals in {median(seen.heals_s):.1f} s, {max(seen.heals_s):.1f} s at most"
    heals += ", exit 69 first" if seen.exits else ""
    lost = f"{seen.true_loss} of {seen.sent} messages"
    if seen.true_loss:
        heals += f"; {seen.sessions_lost} lost sessions counted"
        lost += f", {seen.detected} found missing"
    elif seen.missed or seen.detected:
        lost += f"; {seen.missed} taken by the other, {seen.detected} found missing"
    doubled = f"{seen.doubled} sent twice by the publisher" if seen.doubled else 0
    return seen.cell, heals, len(seen.heals_s), lost, seen.alerts_wrong, doubled


def threads(stage: Stage) -> Iterator[Row]:
    """Each thread of the daemon dies and hangs."""
    broker = Mosquitto(stage.folder / "broker-threads").start()
    try:
        for thread in THREADS:
            for kind in ("dies", "hangs"):
                folder = stage.folder / f"{thread}-{kind}"
                folder.mkdir()
                seen = play_thread(folder, broker, stage.model, stage.zygote, thread, kind)
                after = "/healthz fails, watchdog starves" if seen.code is None else f"exit {seen.code}"
                yield f"thread {thread} {kind}", f"noticed in {seen.after_s} s, {after}", 1, "", "", ""
    finally:
        broker.kill()


def full_disk(stage: Stage) -> Iterator[Row]:
    """The state's file system has no byte left."""
    broker = Mosquitto(stage.folder / "broker-disk").start()
    try:
        how, seen = disk.play(stage.folder / "full", broker, stage.model, stage.zygote, stage.sizes.full)
    finally:
        broker.kill()
    fault = f"disk full ({how}) for {stage.sizes.full:g} s at 1,000 messages/s; the second time killed meanwhile"
    lost = f"{seen.lost} of {seen.expected} alerts, {seen.messages_lost} of {seen.sent} messages"
    behaviour = "not ready, acknowledges nothing, goes on by itself"
    yield fault, behaviour, 2, lost, seen.spurious, seen.doubled + seen.messages_doubled


def tested(_: Stage) -> Iterator[Row]:
    """Faults that are tests as they stand: a row says what they assert, if they pass."""
    backlog, clock = "tests/faults/test_backlog.py", "tests/faults/test_clock.py"
    damaged = "tests/store/test_store_faults.py::test_no_damaged_state_is_loaded_with_another_meaning"
    for fault, behaviour, cycles, invented, nodes in (
        ("clock a day back, ten years forward; samples with and without time", "goes on", 4, 0, [clock]),
        ("overload beyond what can be scored", "scores fewer windows, then counts drops", 3, 0, [backlog]),
        (
            "a message that ends the process",
            "left out and kept after 6 starts at most",
            1,
            0,
            ["tests/store/test_poison.py"],
        ),
        (
            "model raises or gives NaN on one stream",
            "that stream in quarantine",
            1,
            0,
            ["tests/core/test_quarantine.py"],
        ),
        (
            "damaged model files",
            "refused with path and digest, none loaded",
            CASES,
            0,
            ["tests/model/test_artifact.py"],
        ),
        ("damaged state files", "damage said and counted, the rest as written", DAMAGED, 0, [damaged]),
    ):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "pytest", "-n", "0", *nodes],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        failed = f"FAILED: {done.stdout.splitlines()[-1]}" if done.returncode else ""
        yield fault, failed or behaviour, cycles, "" if failed else 0, "" if failed else invented, "" if failed else 0


def fuzzed(stage: Stage) -> Iterator[Row]:
    """Any bytes from outside."""
    for planted in (False, True):
        for name, (_, what) in fuzz.TARGETS.items():
            seconds = stage.sizes.fuzz * (2 if planted else 1)
            seen = fuzz.hunt(name, seconds, fuzz.best_engine(), planted=planted)
            if planted:
                caught = "found" if "PlantedError" in seen.fault else f"NOT FOUND {seen.fault}"
                yield f"*control: a mistake planted in the {what}*", caught, f"{seen.inputs} inputs", "", "", ""
                continue
            uncaught = f"FAILED: {seen.fault}" if seen.fault else f"0 uncaught in {seconds:g} s by {seen.engine}"
            yield f"any bytes: {what}", uncaught, f"{seen.inputs} inputs", "", "", ""


def flooded(stage: Stage) -> Iterator[Row]:
    """More distinct topics than there may be streams."""
    cap = min(10_000, stage.sizes.topics // 20)
    seen = flood.play(stage.folder / "flood", stage.model, None, topics=stage.sizes.topics, cap=cap)
    memory = f"{100 * seen.growth:+.1f} % of {seen.full_mb:.0f} MB"
    scrape = f"scrape in {seen.scrape_median_s:.2f} s, {seen.scrape_s:.2f} s at most"
    behaviour = f"{seen.refused} refused and counted, memory {memory}, {scrape}"
    lost = f"{seen.known_missing} of {seen.known_rows} known rows"
    wrong = f"{seen.alerts_wrong} of {seen.alerts_expected} alerts wrong"
    yield f"{seen.topics:,} distinct topics, room for {cap:,} streams", behaviour, 1, lost, wrong, 0
    seen = flood.play(stage.folder / "roomy", stage.model, None, topics=20_000, cap=500, max_streams=30_000)
    yield "*control: room for all of 20,000*", f"memory {100 * seen.growth:+.1f} %", 1, "", "", ""


def stormed(stage: Stage) -> Iterator[Row]:
    """Every stream goes bad in the same second."""
    folder = stage.folder / "storm"
    folder.mkdir()
    seen = storm.storm(folder, stage.sizes.storm, calm_s=5, storm_s=20)
    requests, delivered = len(seen.requests["/webhook"]), sum(seen.requests["/webhook"])
    lag = {name: max(values) for name, values in seen.lag_s.items()}
    behaviour = (
        f"{delivered} transitions in {requests} requests, lag at most {lag['storm']:.2f} s (calm: {lag['calm']:.2f})"
    )
    behaviour += "".join(f"; WRONG: {line}" for line in seen.wrong)
    lost = f"{seen.streams - seen.stored} of {seen.streams} alerts"
    yield f"{seen.streams:,} streams go bad at once", behaviour, 1, lost, 0, 0


def soaked(stage: Stage) -> Iterator[Row]:
    """The same load for minutes."""
    sizes = stage.sizes
    seen = soak.play(stage.folder / "soak", stage.model, stage.zygote, minutes=sizes.minutes, settle_s=sizes.settle)
    slope, files = seen.resident_mb, seen.file_mb.last - seen.file_mb.first
    flat = f"{slope.per_hour:.3f} ± {slope.error_per_hour:.3f} MB/h of {slope.last:.0f} MB; SQLite {files:+.2f} MB"
    more = f"threads {seen.threads.last - seen.threads.first:+.0f}, files {seen.files.last - seen.files.first:+.0f}"
    fault = f"{seen.minutes:g} min at {seen.per_s:.0f} messages/s over {soak.STREAMS} streams"
    yield fault, f"{flat}; {more}", 1, f"{seen.lost} of {seen.sent} messages", seen.alerts_wrong, 0


def simulated(stage: Stage) -> Iterator[Row]:
    """Everything at once, in virtual time."""
    played = seeds.play_all(range(stage.sizes.seeds))
    for fault in seeds.FAULTS:
        yield f"simulated: {fault}", f"in {played.seeds_with[fault]} seeds", played.faults[fault], "", "", ""
    broken = f"{len(played.violations)} promises broken, {played.delivered} transitions delivered"
    yield "simulated: all of these in any order", broken, f"{played.seeds} seeds", "", "", ""
    found = [seeds.first_to_catch(bug) for bug in BUGS]
    caught = [seed for seed in found if seed is not None]
    last = f"all found by seed {max(caught)}" if len(caught) == len(BUGS) else f"only {len(caught)} found"
    yield "*control: mistakes planted around the core*", last, len(BUGS), "", "", ""


PARTS: dict[str, Callable[[Stage], Iterator[Row]]] = {
    "kill": kills, "cells": cells, "threads": threads, "disk": full_disk, "tests": tested, "fuzz": fuzzed,
    "flood": flooded, "storm": stormed, "soak": soaked, "simulator": simulated,
}  # fmt: skip
