"""`make mutants`: plants small mistakes in `streamae/core`, one at a time, and sees whether the quick tests notice.

Once, the quick tests run under coverage and it is written down which of them reach which line. Then for each mutant of
a sample those run that reach its line, the quickest first, until one fails. A mutant is a fork of this process, in
which an import hook gives the changed source: no file is touched, and nothing is imported twice.

What was found is kept in `build/mutants`, so that a run goes on where it was ended: a mutant that a test killed stays
so while that test's file and the mutated source are the same; one that survived is tried again when any test changes.
Survivors are printed as they would look in a diff. `mutants_accepted.toml` lists those that no test can tell from the
original, each with its reason. The run fails where fewer than 95 % of the others are killed.
"""

import argparse
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mutate import Mutant, of_sources

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "build" / "mutants"
CORE = "streamae/core"
ACCEPTED = Path(__file__).parent / "mutants_accepted.toml"
KILLED_MIN = 0.95
MEMORY_BYTES = 4 << 30
PYTEST = ("-q", "-x", "--quick", "-n", "0", "-p", "no:cacheprovider")


@dataclass
class Reach:
    """Of each quick test its seconds, and which tests reach a line: `lines[file][line]`."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that could notice a mutant, quickest first; what is run at import is reached by all of a file."""
        lines = self.lines.get(mutant.file, {})
        own = [lines.get(n, set()) for n in _lines(mutant)] if mutant.in_function else list(lines.values())
        return sorted(set().union(*own), key=lambda test: self.seconds[test])


def _lines(mutant: Mutant) -> range:
    """The lines of the statement's part that is replaced; coverage counts a statement at any of them."""
    return range(mutant.line, mutant.line + mutant.text.count("\n", mutant.start, mutant.end) + 1)


class _Recorder:
    """A plugin that gives each test a context of its own, and takes its time."""

    def __init__(self, coverage: Any) -> None:
        self._coverage = coverage
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._coverage.switch_context(nodeid)
        self.seconds[nodeid] = -time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] += time.monotonic()
        self._coverage.switch_context("")


def _record(file: Path) -> None:
    """Run the quick tests and write down what each reaches; in a fork."""
    import coverage
    import pytest

    measured = coverage.Coverage(data_file=None, source=[str(ROOT / CORE)], branch=False)
    recorder = _Recorder(measured)
    measured.start()
    code = pytest.main([*(o for o in PYTEST if o != "-x"), str(ROOT / "tests")], plugins=[recorder])
    measured.stop()
    if code:
        raise SystemExit("the quick tests fail without a mutant: make quick")
    data, lines = measured.get_data(), defaultdict(dict)
    for path in data.measured_files():
        found = data.contexts_by_lineno(path)
        lines[str(Path(path).relative_to(ROOT))] = {n: [c for c in found[n] if c] for n in found}
    file.write_text(json.dumps({"seconds": recorder.seconds, "lines": lines}))


def reach() -> Reach:
    """What was recorded for the present sources and tests, or is recorded now."""
    texts = [path.read_bytes() for path in sorted((ROOT / CORE).rglob("*.py"))] + [_hash_of_tests().encode()]
    file = KEPT / f"reach-{hashlib.sha256(b''.join(texts)).hexdigest()[:16]}.json"
    if not file.exists():
        print("recording which tests reach which lines", flush=True)
        _wait(_forked(lambda: _record(file)), 1800)
        if not file.exists():
            raise SystemExit("the quick tests fail without a mutant: make quick")
    kept = json.loads(file.read_text())
    lines = {file: {int(n): set(tests) for n, tests in by.items()} for file, by in kept["lines"].items()}
    return Reach(kept["seconds"], lines)


def _hash_of_tests(path: Path | None = None) -> str:
    """Of one test file, or of all files that tests read."""
    paths = [path] if path else sorted(p for p in (ROOT / "tests").rglob("*") if p.suffix in {".py", ".toml", ".yaml"})
    paths = [p for p in paths if p.name != ACCEPTED.name and "faults" not in p.parts]
    return hashlib.sha256(b"".join(p.read_bytes() for p in paths)).hexdigest()[:16]


class _Mutated(importlib.abc.SourceLoader, importlib.abc.MetaPathFinder):
    """Gives one module another text than its file has."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self._path, self._text = str(ROOT / mutant.file), mutant.mutated

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        inside = [str(Path(self._path).parent)] if self._path.endswith("__init__.py") else None
        spec = importlib.util.spec_from_file_location
        return spec(name, self._path, loader=self, submodule_search_locations=inside)

    def get_filename(self, name: str) -> str:
        return self._path

    def get_data(self, path: str) -> bytes:
        if path != self._path:
            raise OSError(path)  # no compiled file
        return self._text.encode()


class _Killer:
    """A plugin that tells the parent which test failed; a property that fails is not shrunk, which takes minutes."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def pytest_sessionstart(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutant", settings.get_profile("quick"), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutant")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            os.write(self._pipe, report.nodeid.encode())


def _play(mutant: Mutant, tests: list[str], pipe: int) -> None:
    """Run these tests on a mutant; in a fork."""
    import pytest

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sys.meta_path.insert(0, _Mutated(mutant))
    code = pytest.main([*PYTEST, *tests], plugins=[_Killer(pipe)])
    os._exit(int(code))


def _forked(run: Any) -> int:
    """Start a child that is silent, leads a group of its own and ends with the exit code of what it ran."""
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    try:
        run()
        os._exit(0)
    except BaseException:  # whatever a mutant raises while it is imported
        os._exit(1)


def _wait(child: int, timeout_s: float) -> int | None:
    """Exit code of a child; None where it had to be ended."""
    due_s = time.monotonic() + timeout_s
    pid = os.pidfd_open(child)
    done = select.select([pid], [], [], max(0.0, due_s - time.monotonic()))[0]
    os.close(pid)
    if not done:
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if done else (os.waitpid(child, 0), None)[1]


def judge(mutant: Mutant, known: Reach, slack: float) -> dict[str, Any]:
    """What became of a mutant: `outcome` killed, survived, timeout or unreached, `by` the test that killed it."""
    tests = known.of(mutant)
    if not tests:
        return {"outcome": "unreached"}
    heard, pipe = os.pipe()
    limit_s = 20.0 + slack * sum(known.seconds[test] for test in tests)
    code = _wait(_forked(lambda: _play(mutant, tests, pipe)), limit_s)
    os.close(pipe)
    by = os.read(heard, 4096).decode()
    os.close(heard)
    if code is None:
        return {"outcome": "timeout"}
    return {"outcome": "survived" if code == 0 else "killed", "by": by}


class Results:
    """What is known of mutants, in a file that is added to."""

    def __init__(self) -> None:
        self._file = KEPT / "results.jsonl"
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self._known = {one["mutant"]: one for one in map(json.loads, lines)}
        self._tests = _hash_of_tests()

    @staticmethod
    def _id(mutant: Mutant) -> str:
        return hashlib.sha256(f"{mutant.file}\0{mutant.mutated}".encode()).hexdigest()[:24]

    def find(self, mutant: Mutant) -> dict[str, Any] | None:
        one = self._known.get(self._id(mutant))
        if one is None:
            return None
        path = ROOT / one.get("by", "").split("::")[0]
        same = one["tests"] == self._tests or (path.is_file() and one.get("file") == _hash_of_tests(path))
        return one if same else None

    def keep(self, mutant: Mutant, verdict: dict[str, Any]) -> None:
        path = ROOT / verdict.get("by", "").split("::")[0]
        one = {"mutant": self._id(mutant), "tests": self._tests, **verdict}
        if path.is_file():
            one["file"] = _hash_of_tests(path)
        self._known[one["mutant"]] = one
        with self._file.open("a") as file:
            file.write(json.dumps(one) + "\n")


def every_mutant() -> list[Mutant]:
    """All mutants of the core, in the order in which a sample takes them."""
    paths = sorted((ROOT / CORE).rglob("*.py"))
    found = of_sources((str(path.relative_to(ROOT)), path.read_text()) for path in paths)
    return sorted(found, key=lambda one: (one.rank, one.file, one.start))


def accepted() -> dict[tuple[str, str], str]:
    """The reviewed list: (line, what it becomes) -> why nothing can tell them apart."""
    accepted = tomllib.loads(ACCEPTED.read_text()).get("mutant", []) if ACCEPTED.exists() else []
    return {(one["line"], one["becomes"]): one["reason"] for one in accepted}


def run_all(sample: list[Mutant], slack: float) -> Iterator[tuple[Mutant, dict[str, Any]]]:
    """Judge the mutants one after another, or say what is known of them."""
    known, results = reach(), Results()
    for n, mutant in enumerate(sample, 1):
        verdict = results.find(mutant)
        if verdict is None:
            verdict = judge(mutant, known, slack)
            results.keep(mutant, verdict)
            place = f"{mutant.file.removeprefix(CORE + '/')}:{mutant.line}"
            print(f"{n:4d}/{len(sample)} {verdict['outcome']:9s} {place} {mutant.lines[1][:90]}", flush=True)
        yield mutant, verdict


def main() -> int:
    """Play a sample; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="how many mutants (300)")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first of the sample")
    parser.add_argument("--file", default="", help="only of files whose path contains this")
    parser.add_argument("--slack", type=float, default=20.0, help="time-out, in a test's usual times (20)")
    given = parser.parse_args()
    for name in ("pytest", "numpy", "hypothesis"):  # once, for all that are forked
        importlib.import_module(name)
    KEPT.mkdir(parents=True, exist_ok=True)
    everything, reasons = every_mutant(), accepted()
    stale = set(reasons) - {one.lines for one in everything}
    sample = [one for one in everything if given.file in one.file][given.skip :][: given.count]
    verdicts = list(run_all([one for one in sample if one.lines not in reasons], given.slack))
    count = Counter(verdict["outcome"] for _, verdict in verdicts)
    print()
    for mutant, verdict in verdicts:
        if verdict["outcome"] in {"survived", "unreached"}:
            before, after = mutant.lines
            why = "  # no quick test reaches it" if verdict["outcome"] == "unreached" else ""
            print(f"{mutant.file}:{mutant.line} in {mutant.within or 'the module'}{why}\n- {before}\n+ {after}")
    caught = count["killed"] + count["timeout"]
    share = caught / max(len(verdicts), 1)
    print(f"\n{len(everything)} mutants, {len(sample)} sampled, {len(sample) - len(verdicts)} accepted as equal")
    print(
        ", ".join(f"{count[outcome]} {outcome}" for outcome in ("killed", "timeout", "survived", "unreached")), end=""
    )
    print(f": {share:.1%} of {len(verdicts)} noticed, {KILLED_MIN:.0%} wanted")
    for line, becomes in sorted(stale):
        print(f"{ACCEPTED.name} lists what there is no more: {line} -> {becomes}")
    return 0 if share >= KILLED_MIN and not stale else 1


if __name__ == "__main__":
    sys.exit(main())
