"""The verb `bench`: which parts run, the machine that they ran on, and the tables as text, Markdown and JSON."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from streamae.bench.rounds import BenchTable, Line
from streamae.errors import StreamaeError

__all__ = ["PARTS", "as_json", "as_markdown", "bench", "machine"]

PARTS = ("inference", "cores", "cuda", "ingest", "end-to-end", "latency", "streams", "start-up")


def bench(
    only: Sequence[str],
    rounds: int,
    quick: bool,
    console: Console | None = None,
) -> list[BenchTable]:
    """Run the parts named, all of PARTS if none is; a part that cannot run here says why and is left out."""
    console = console or Console(file=sys.stderr)
    found: list[BenchTable] = []
    for part in only or PARTS:
        for run in _runs(part, rounds, quick):
            began_s = time.monotonic()
            with console.status(f"{part} …"):
                try:
                    section = run()
                except StreamaeError as error:
                    section = BenchTable(part, f"not measured: {error}")
            found.append(section)
            console.print(f"{section.title}: {time.monotonic() - began_s:.0f} s", highlight=False)
    return found


def _runs(part: str, rounds: int, quick: bool) -> list[Callable[[], BenchTable]]:
    """The functions of a part; torch is imported by whom it concerns."""
    from streamae.bench import device, inference, process, traffic

    parts: dict[str, list[Callable[[], BenchTable]]] = {
        "inference": [
            lambda: inference.inference("lstm64", rounds, quick),
            lambda: inference.narrow("lstm64", rounds, quick),
            lambda: inference.inference("default", rounds, quick),
            lambda: inference.inference("default4", rounds, quick),
        ],
        "cores": [lambda: inference.cores(rounds)],
        "cuda": [lambda: device.device(rounds)],
        "ingest": [lambda: traffic.ingest(rounds, quick)],
        "end-to-end": [lambda: traffic.end_to_end(rounds, quick)],
        "latency": [lambda: traffic.latency(quick)],
        "streams": [lambda: process.streams(rounds, quick)],
        "start-up": [lambda: process.start_up(rounds)],
    }
    return parts[part]


def machine() -> dict[str, Any]:
    """What the figures were measured on, as far as it matters to them."""
    import torch

    from streamae.model import native

    info = Path("/proc/cpuinfo").read_text(errors="replace") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": cores,
        "load": round(os.getloadavg()[0], 2),
        "torch instruction set": torch.backends.cpu.get_cpu_capability(),
        "native kernel": native.LEVELS[native.best_level()],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy", "paho-mqtt")},
    }


def as_json(sections: Sequence[BenchTable], where: dict[str, Any]) -> str:
    """Everything, as one JSON object."""
    return json.dumps({"machine": where, "sections": [asdict(section) for section in sections]}, indent=1)


def as_markdown(sections: Sequence[BenchTable], where: dict[str, Any]) -> str:
    """A table for each section, and a line for the machine."""
    text = ["Measured on " + ", ".join(f"{key} {value}" for key, value in where.items()) + ".", ""]
    for section in sections:
        columns = list(dict.fromkeys(name for line in section.lines for name in line.figures))
        goals = any(line.goal for line in section.lines)
        text += [f"**{section.title}.** {section.about}", ""]
        if section.lines:
            head = ["", *columns, *(["goal"] if goals else [])]
            text.append("| " + " | ".join(head) + " |")
            text.append("|---|" + "---:|" * len(columns) + ("---|" if goals else ""))
            text += [_row(line, columns, goals) for line in section.lines]
        text.append("")
    return "\n".join(text)


def _row(line: Line, columns: list[str], goals: bool) -> str:
    cells = [line.name, *(_cell(line.figures.get(name, ""), name) for name in columns)]
    if goals:
        cells.append({None: line.goal, True: f"{line.goal}: yes", False: f"{line.goal}: **no**"}[line.met])
    return "| " + " | ".join(cells) + " |"


def _cell(value: float | str, column: str) -> str:
    if isinstance(value, str):
        return value
    if column == "spread":
        return f"±{100 * value:.0f} %"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
