"""Memory of a stream, by part, and CPU a message, at several numbers of streams; each in a process of its own.

    python -m tests.bench.memory [--streams 1000,10000,100000] [--window 64]

Univariate streams that bring their time; three windows' rows of each are taken, so that every ring is full, and a
model that costs nothing scores every row. RSS is what the process grew by; parts are the arrays that each stage holds
(`nbytes`), names and routes are what `sys.getsizeof` says of their objects and tables. The last line is the increase of
RSS a stream from the least to the greatest number: what one more stream costs.
"""

import argparse
import gc
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np

from streamae.core.groups import Groups
from streamae.core.types import Batch
from streamae.daemon.json_parser import json_loads
from streamae.daemon.page.memory import GroupHistory
from tests import plants

T0, BATCH = 1.7e9, 4096
PARTS = ("_align", "scale", "rings", "scoring", "threshold", "alerts", "latest", "quarantine", "health")


class Nothing:
    """A model that finds no error."""

    def errors(self, windows):
        return np.full((len(windows), windows.shape[2]), 0.1, np.float32)


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def arrays(thing: object, depth: int = 3) -> int:
    """Bytes of all arrays that an object holds, directly or in mappings and objects of ours."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if depth == 0:
        return 0
    if isinstance(thing, dict):
        return sum(arrays(x, depth - 1) for x in thing.values())
    slots = getattr(type(thing), "__slots__", ())
    inner = [getattr(thing, s, None) for s in slots] + list(getattr(thing, "__dict__", {}).values())
    ours = [x for x in inner if isinstance(x, np.ndarray | dict) or type(x).__module__.startswith("streamae.")]
    return sum(arrays(x, depth - 1) for x in ours)


def measure(streams: int, window: int, history: bool) -> dict[str, float]:
    """Fill the core with this many streams; bytes a stream and microseconds a message."""
    profile = plants.profile(("value",), window=window, warmup_rows=8)
    group = plants.group(profile=profile, max_streams=streams, template="plant/line/{pump}")
    object.__setattr__(group, "reconstructor", Nothing())
    groups = Groups("bench", [group], json_loads())
    pipeline = groups.pipelines["pumps"]
    names = [f"plant/line/pump-{i:06d}" for i in range(streams)]
    gc.collect()
    before, rows, cpu_s, messages = rss(), 3 * window, 0.0, 0
    view = None
    for row in range(rows):
        payload = f'{{"t":{T0 + row!r},"value":{row % 7 + 0.5!r}}}'.encode()
        for at in range(0, streams, BATCH):
            topics = [name.encode() for name in names[at : at + BATCH]]  # fresh bytes, as the network gives them
            batch = Batch(topics, [payload] * len(topics), np.full(len(topics), T0 + row))
            began_s = time.process_time()
            report = groups.step(batch, T0 + row)
            if row >= 2 * window:  # every stream is known, every row scored
                cpu_s, messages = cpu_s + time.process_time() - began_s, messages + len(topics)
            if history:
                view = view or GroupHistory(pipeline, 0.0)
                view.note(report.groups["pumps"])
    del batch, report
    gc.collect()
    grown = rss() - before
    found = {part.lstrip("_"): arrays(getattr(pipeline, part, None)) for part in PARTS}
    ids, routes = pipeline.streams._ids, pipeline.router._routes
    names = [*ids, *ids.values()]
    codes = {id(code): code for code in routes.values()}
    found["names"] = sys.getsizeof(ids) + sys.getsizeof(pipeline.streams.names) + sum(map(sys.getsizeof, names))
    own = set(codes) - set(map(id, ids.values()))  # most are the very numbers of the streams
    found["routes"] = (
        sys.getsizeof(routes) + sum(map(sys.getsizeof, routes)) + sum(sys.getsizeof(codes[i]) for i in own)
    )
    found["history"] = view.nbytes if view is not None else 0
    figures = {name: size / streams for name, size in found.items()}
    return figures | {"RSS": grown / streams, "RSS MB": grown / 1e6, "us a message": 1e6 * cpu_s / max(messages, 1)}


def main() -> int:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--streams", default="1000,10000,100000")
    arguments.add_argument("--window", type=int, default=64)
    arguments.add_argument("--history", action="store_true", help="with what the page looks back on, too")
    arguments.add_argument("--json", type=Path, help="write the figures there, too")
    chosen = arguments.parse_args()
    counts = [int(n) for n in chosen.streams.split(",")]
    context, found = multiprocessing.get_context("spawn"), {}
    for count in counts:
        with context.Pool(1) as pool:
            found[count] = pool.apply(measure, (count, chosen.window, chosen.history))
    print("bytes a stream".ljust(16) + "".join(f"{count:>12,}" for count in counts))
    for part in found[counts[0]]:
        print(part.ljust(16) + "".join(f"{found[count][part]:12.1f}" for count in counts))
    first, last = counts[0], counts[-1]
    if last > first:
        more = 1e6 * (found[last]["RSS MB"] - found[first]["RSS MB"]) / (last - first)
        ratio = found[last]["us a message"] / found[first]["us a message"]
        print(f"one more stream: {more:.0f} bytes; CPU a message at {last:,} against {first:,}: {ratio:.2f}x")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
