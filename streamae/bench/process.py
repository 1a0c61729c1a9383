"""What processes cost: memory and CPU with many streams, and the time to start; each in processes of their own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from streamae.bench.rounds import BenchTable, Line

__all__ = ["main", "start_up", "streams"]

_ROWS = 10  # of each stream, measured; memory is touched from the first
_BATCH = 4096


def streams(rounds: int, quick: bool) -> BenchTable:
    """CPU a message and memory a stream, few streams against many, without a broker."""
    many = 20_000 if quick else 100_000
    section = BenchTable(
        "streams", "Parse and ring, batches of 4,096 JSON messages, windows of 64 rows of one channel."
    )
    found: dict[int, list[dict[str, float]]] = {1000: [], many: []}
    for n in range(rounds):
        for count in list(found) if n % 2 == 0 else list(found)[::-1]:
            command = [sys.executable, "-m", "streamae.bench.process", str(count)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)  # noqa: S603
            found[count].append(json.loads(done.stdout))
    cpu = {count: float(np.median([one["cpu_us"] for one in runs])) for count, runs in found.items()}
    rss = {count: float(np.median([one["rss_a_stream"] for one in runs])) for count, runs in found.items()}
    section.lines.append(Line("1,000 streams", {"CPU, us a message": cpu[1000], "ratio": 1.0}))
    ratio = cpu[many] / cpu[1000]
    figures: dict[str, float | str] = {"CPU, us a message": cpu[many], "ratio": ratio}
    section.lines.append(Line(f"{many:,} streams", figures, "<= 1.3x", ratio <= 1.3))
    memory: dict[str, float | str] = {"RSS, bytes a stream": rss[many]}
    section.lines.append(Line(f"{many:,} streams, memory", memory, "<= 1024 B", rss[many] <= 1024))
    return section


class _Nothing:
    """A model that finds nothing; no window is due in this benchmark."""

    def errors(self, windows: Any) -> Any:
        """[B, T, C] -> [B, 1]."""
        return np.zeros((len(windows), 1), np.float32)


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _many(count: int) -> dict[str, float]:
    """In a process of its own: `_ROWS` rows of each stream (of 1,000 streams, as many messages in all)."""
    from streamae.bench.models import bench_group, spec_named
    from streamae.core.groups import Groups
    from streamae.core.types import Batch
    from streamae.daemon.json_parser import json_loads

    groups = Groups("bench", [bench_group(spec_named("lstm64"), _Nothing(), count, 10**9)], json_loads())
    before, begin_s, cpu_s, messages = _rss(), 1.7e9, 0.0, 0
    rows = max(_ROWS, 200_000 // count)
    for row in range(rows):
        payload = f'{{"t":{begin_s + row!r},"value":{row % 7!r}.5}}'.encode()
        for at in range(0, count, _BATCH):
            part = [f"b/s{i:06d}".encode() for i in range(at, min(at + _BATCH, count))]  # fresh, as from the network
            batch = Batch(part, [payload] * len(part), np.full(len(part), begin_s + row))
            began_s = time.process_time()
            groups.step(batch, begin_s + row)
            if row >= rows // 2:  # streams have appeared, memory has grown
                cpu_s += time.process_time() - began_s
                messages += len(part)
    return {"cpu_us": 1e6 * cpu_s / messages, "rss_a_stream": (_rss() - before) / count}


_FIRST_SCORE = """
import sys, time
from pathlib import Path
import numpy as np
from streamae.bench.models import scripted, spec_named
from streamae.model.export import load_archive
from streamae.model.runtime import TorchReconstructor
spec = spec_named("default")
runner = TorchReconstructor(load_archive(Path(sys.argv[1]).read_bytes(), "cpu"), spec)
runner.errors(np.zeros((1, spec.window, 1), np.float32))
"""


def start_up(rounds: int) -> BenchTable:
    """Wall time of the first answer; what needs no model must not import torch."""
    from streamae.bench.models import scripted, spec_named
    from streamae.model.export import archive

    section = BenchTable("start-up", "Wall milliseconds of a whole process; the floor is `python -c pass`.")
    with tempfile.TemporaryDirectory() as folder:
        model, config = Path(folder) / "model.pt", Path(folder) / "bad.yaml"
        model.write_bytes(archive(scripted(spec_named("default")), {"format": {"kind": "torchscript", "version": 1}}))
        config.write_text("streams: {}\n")
        verbs = {
            "python -c pass": ["-c", "pass"],
            "streamae --help": ["-m", "streamae.cli", "--help"],
            "streamae check, bad config": ["-m", "streamae.cli", "check", "-c", str(config)],
            "streamae inspect": ["-m", "streamae.cli", "inspect", str(model)],
            "time to the first score": ["-c", _FIRST_SCORE, str(model)],
        }
        took: dict[str, list[float]] = {name: [] for name in verbs}
        for _ in range(rounds):
            for name, arguments in verbs.items():
                began_s = time.perf_counter()
                subprocess.run([sys.executable, *arguments], capture_output=True, check=False)  # noqa: S603
                took[name].append(time.perf_counter() - began_s)
        for name, arguments in verbs.items():
            figures: dict[str, float | str] = {"wall, ms": 1e3 * float(np.median(took[name]))}
            line = Line(name, figures)
            if name.startswith("streamae"):
                line.goal, line.met = "without torch", not _imports_torch(arguments)
            section.lines.append(line)
    return section


def _imports_torch(arguments: list[str]) -> bool:
    """Whether the same verb imports torch, by what -X importtime writes to standard error."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())


def main() -> None:
    """One count of streams, in this process."""
    print(json.dumps(_many(int(sys.argv[1]))))  # noqa: T201  this is how the parent hears


if __name__ == "__main__":
    main()
