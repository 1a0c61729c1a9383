"""Fuzzes what reads bytes from outside: payload decoders, topic templates, configuration, journal, web API.

    python -m tests.faults.fuzz [--only payloads,web] [--seconds 60] [--engine atheris|hypothesis] [--planted]

`fuzz_campaign.py` does the same for hours, and goes on where it was interrupted.

With atheris, where it is installed, the fuzzer follows the coverage of the code (`pip install atheris`); else
hypothesis changes honest inputs blindly. An input that raises is printed, and the exit code is 1. `--planted` is the
control: a mistake that one in fifty of the changed inputs that are accepted reveals, and that must be found.
"""

import argparse
import importlib
import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGETS = {
    "payloads": ("fuzz_messages", "payload decoders, all kinds"), "topics": ("fuzz_messages", "topic templates"),
    "config": ("fuzz_files", "configuration loader"), "journal": ("fuzz_files", "journal reader"),
    "web": ("fuzz_web", "web API"), "wire": ("fuzz_web", "HTTP connections"),
    "manifest": ("fuzz_models", "manifest of a model file"), "model": ("fuzz_models", "model file as a whole"),
    "sniff": ("fuzz_messages", "recognition of formats"), "built": ("fuzz_files", "what a configuration builds"),
}  # fmt: skip
ENGINES = ("atheris", "hypothesis")
ROOT = Path(__file__).parent.parent.parent
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # for a target's files
_BATCH = 100  # inputs of hypothesis between two looks at the clock
_HANGS_AFTER_S = 30


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """One thing to fuzz. `bite` takes any bytes, holds what is read of them against its contract, raises for a fault.

    It returns whether it accepted something. `seeds` are honest inputs, `words` what a blind change hardly hits on.
    """

    bite: Callable[[bytes], bool]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()


def target_of(name: str) -> FuzzTarget:
    """Make one; what it reads with is imported here, so that a fuzzer can watch it."""
    made: FuzzTarget = getattr(importlib.import_module(f"tests.faults.{TARGETS[name][0]}"), name)()
    return made


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target: how many inputs were tried; `fault` is what it raised, and for which input."""

    name: str
    engine: str
    inputs: int
    seconds: float
    fault: str = ""
    coverage: int = 0  # edges of the code that some input has taken; 0: not followed

    def line(self) -> str:
        found = f"FAULT: {self.fault}" if self.fault else "0 uncaught"
        return f"{TARGETS[self.name][1]}: {self.inputs} inputs in {self.seconds:.0f} s by {self.engine}, {found}"


class PlantedError(Exception):
    """The mistake of the control."""


def plant(target: FuzzTarget) -> Callable[[bytes], bool]:
    """The target's bite with a mistake that one in fifty reveals of the inputs that are accepted and are no seeds."""

    def planted(data: bytes) -> bool:
        accepted = target.bite(data)
        if accepted and data not in target.seeds and zlib.crc32(data) % 50 == 0:
            raise PlantedError
        return accepted

    return planted


def best_engine() -> str:
    return "atheris" if importlib.util.find_spec("atheris") else "hypothesis"


def hunt(name: str, seconds: float, engine: str, *, planted: bool = False, seed: int = 1) -> Outcome:
    """Fuzz one target for some seconds, or until it raises."""
    began_s = time.monotonic()
    if engine == "atheris":
        with tempfile.TemporaryDirectory() as folder:
            return hunt_in(Path(folder), name, seconds, planted=planted, seed=seed)
    target = target_of(name)
    inputs, fault = _hunt_blindly(target, plant(target) if planted else target.bite, seconds, seed)
    return Outcome(name, engine, inputs, time.monotonic() - began_s, fault)


# ---- hypothesis


def _hunt_blindly(target: FuzzTarget, bite: Callable[[bytes], bool], seconds: float, seed: int) -> tuple[int, str]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    tried, until_s = 0, time.monotonic() + seconds

    def one(data: bytes) -> None:
        nonlocal tried
        tried += 1
        bite(data)

    quietly = settings(
        max_examples=_BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False,
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    for batch in range(1_000_000):
        if time.monotonic() > until_s:
            break
        try:
            seeded(seed * 1_000_003 + batch)(quietly(given(changed(target.seeds, target.words))(one)))()
        except Exception as error:  # whatever the target raises is what is looked for
            said = "; ".join(getattr(error, "__notes__", ()))
            return tried, f"{type(error).__name__}: {error} {said}"
    return tried, ""


def changed(seeds: Sequence[bytes], words: Sequence[bytes]) -> Any:
    """A strategy of honest inputs with a few changes: bytes flipped, cut, doubled, replaced, words put in, spliced."""
    from hypothesis import strategies as st

    places = st.floats(0, 1, exclude_max=True)
    pieces = st.sampled_from([*words, b""]) | st.binary(min_size=1, max_size=4)
    edits = st.lists(st.tuples(st.integers(0, 4), places, places, pieces), max_size=4)
    return st.builds(_edit, st.sampled_from(seeds), st.sampled_from(seeds), edits)


def _edit(text: bytes, other: bytes, edits: Sequence[tuple[int, float, float, bytes]]) -> bytes:
    for kind, place, size, piece in edits:
        at = int(place * (len(text) + 1))
        end = min(len(text), at + 1 + int(size**3 * 40))
        match kind:
            case 0:
                text = text[:at] + piece + text[at:]
            case 1:
                text = text[:at] + piece + text[end:]
            case 2:
                text = text[:end] + text[at:]
            case 3:
                text = text[:at] + other[int(size * len(other)) :]
            case _:
                text = text[:at] + bytes([(b ^ (1 << int(size * 8))) for b in text[at : at + 1]]) + text[at + 1 :]
    return text


# ---- atheris, in a process of its own: libFuzzer does not return


def hunt_in(folder: Path, name: str, seconds: float, *, planted: bool = False, seed: int = 1) -> Outcome:
    """Follow the coverage of one target for some seconds; what was found interesting is kept in `folder`, for later."""
    began_s, note = time.monotonic(), folder / "fault"
    note.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", "--child", name, "--seconds", str(seconds),
         "--seed", str(seed), *(["--planted"] if planted else [])],
        cwd=ROOT, capture_output=True, text=True, errors="replace", check=False, timeout=3 * seconds + 300,
        env={**os.environ, "STREAMAE_FUZZ_FOLDER": str(folder)},
    )  # fmt: skip
    fault = note.read_text() if note.exists() else ""
    said = done.stdout + done.stderr
    inputs = [int(n) for n in re.findall(r"(?:stat::number_of_executed_units: |Done |^#)(\d+)", said, re.MULTILINE)]
    coverage = [int(n) for n in re.findall(r"\bcov: (\d+)", said)]
    if done.returncode != 0 and not fault:
        fault = f"exit {done.returncode}: {said[-500:]}"
    seconds = time.monotonic() - began_s
    return Outcome(name, "atheris", max(inputs, default=0), seconds, fault, max(coverage, default=0))


def _child(name: str, seconds: float, planted: bool, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["streamae"]):
        target = target_of(name)
    bite = plant(target) if planted else target.bite
    folder = Path(os.environ["STREAMAE_FUZZ_FOLDER"])
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for n, text in enumerate(target.seeds):
        (corpus / f"seed{n}").write_bytes(text)
    (folder / "words").write_text("".join(_quoted(word) + "\n" for word in target.words if len(word) <= 64))
    options = {
        "max_total_time": int(seconds), "seed": seed, "dict": folder / "words", "artifact_prefix": f"{folder}/",
        "timeout": _HANGS_AFTER_S, "rss_limit_mb": 4096, "max_len": 8192, "print_final_stats": 1, "verbosity": 1,
    }  # fmt: skip
    arguments = [sys.argv[0], str(corpus), *(f"-{option}={value}" for option, value in options.items())]

    def one(data: bytes) -> None:
        try:
            bite(data)
        except BaseException as error:
            (folder / "fault").write_text(f"{type(error).__name__}: {error}, from {data!r}")
            raise

    atheris.Setup(arguments, one)
    atheris.Fuzz()


def _quoted(word: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(TARGETS), help="what to fuzz: %(default)s")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each: %(default)s")
    parser.add_argument("--engine", choices=ENGINES, default=best_engine(), help="here: %(default)s")
    parser.add_argument("--planted", action="store_true", help="the control")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**31), help="default: another each time")
    parser.add_argument("--child", choices=list(TARGETS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child, asked.seconds, asked.planted, asked.seed)
    outcomes = []
    for name in asked.only.split(","):
        outcomes.append(hunt(name, asked.seconds, asked.engine, planted=asked.planted, seed=asked.seed))
        print(outcomes[-1].line(), flush=True)
    return 1 if any(outcome.fault for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
