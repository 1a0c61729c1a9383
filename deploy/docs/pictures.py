"""Draws the pictures of how-it-decides.md from a simulated plant and the program's own parts: `make pictures`.

A model is trained on the past of some pumps with the default settings; then the plant goes on, and every row goes
through the daemon's core. Nothing is drawn that the program did not compute. Needs matplotlib; takes some minutes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from streamae.core.alert import AlertRule
from streamae.core.profile import Profile
from streamae.core.types import F64, AlertState
from streamae.daemon.page.detail import overlay
from streamae.history.series import Series
from streamae.model.artifact import profile_of
from streamae.model.runtime import TorchReconstructor
from streamae.model.spec import DetectorSpec
from streamae.tools.simulate.faults import Fault
from streamae.tools.simulate.plants import Pumps
from streamae.training.backtest import offline_group, score_series
from streamae.training.dataset import Stream, build
from streamae.training.train import TrainConfig, train_dataset

__all__ = ["PICTURES", "World", "draw_all", "make_world"]

FOLDER = Path(__file__).parent
PERIOD_S = 1.0
BLUE, GREEN, RED, BLACK, GREY = "#2266aa", "#2c8a2c", "#c0392b", "#222222", "#888888"


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A plant's `values[n, S, C]` after the training, its model, and which rows a fault is at work in."""

    names: tuple[str, ...]
    channels: tuple[str, ...]
    time_s: F64
    values: F64
    profile: Profile
    model: TorchReconstructor
    fault: tuple[int, int]
    drift: tuple[int, int]

    def series(self, pump: int, rows: slice = slice(None)) -> Series:
        """A pump's rows as a series of its name."""
        times = self.time_s[rows]
        return Series(self.names[pump], self.channels, times, [str(t) for t in times], self.values[rows, pump])

    def scored(self, pump: int, false_alarms_per_s: float | None = None) -> Any:
        """A pump's rows through the core."""
        group = offline_group(self.profile, self.model, AlertRule())
        return score_series(self.series(pump), replace(group, false_alarms_per_s=false_alarms_per_s))


def make_world(config: TrainConfig, *, train_rows: int = 6000, rows: int = 20_000) -> World:
    """Train on five pumps; a sixth is new. The first gets a fault, the second drifts slowly."""
    plant = Pumps(6, 2, seed=7, day_s=1800.0, period_s=PERIOD_S)
    past_s, past, _ = plant.rows(train_rows)
    learnt = [Stream(name, plant.channels, past_s, past[:, s]) for s, name in enumerate(plant.names[:-1])]
    trained = train_dataset(build(learnt), 0, config)
    fault, drift = (rows // 10, rows // 10 + 120), (rows // 5, rows // 5 + 6 * rows // 20)
    start_s = plant.elapsed_s
    plant.inject(Fault("drift", plant.names[0], start_s + fault[0], fault[1] - fault[0], 6.0, "pressure"))
    plant.inject(
        Fault("drift", plant.names[1], start_s + drift[0], rows, 3.0 * rows / (drift[1] - drift[0]), "temperature")
    )
    time_s, values, _ = plant.rows(rows)
    spec = DetectorSpec.from_mapping(trained.manifest["network"])
    model = TorchReconstructor(trained.scripted, spec)
    return World(plant.names, plant.channels, time_s, values, profile_of(trained.manifest, ""), model, fault, drift)


def fault_picture(world: World) -> Figure:
    """A pump with a fault: its channels with the network's reconstruction over them, its score and its threshold."""
    first, last = world.fault
    rows = slice(first - 240, last + 240)
    known = world.profile.streams[world.names[0]]
    location, scale = known.location, known.scale
    scaled = ((world.values[rows, 0] - location) / scale).astype(np.float32)
    rebuilt, _ = overlay(world.model, world.time_s[rows], scaled, world.profile.window, world.profile.gap_max_s)
    scored = world.scored(0)
    at = np.arange(rows.start, rows.stop) - first
    figure, axes = _figure(len(world.channels) + 1, 7.0)
    for c, name in enumerate(world.channels):
        axes[c].plot(at, world.values[rows, 0, c], color=BLUE, lw=0.9, label="measured")
        axes[c].plot(at, rebuilt[:, c] * scale[c] + location[c], color=GREEN, lw=0.9, label="reconstruction")
        axes[c].set_ylabel(name, fontsize=8)
    axes[0].legend(loc="upper left", fontsize=7, ncols=2)
    _score(axes[-1], at, scored.score[rows], scored.threshold[rows], scored.state[rows])
    for axis in axes:
        axis.axvspan(0, last - first, color=RED, alpha=0.08, lw=0)
    axes[-1].set_xlabel("seconds since the fault began (shaded: the fault is at work)")
    return figure


def drift_picture(world: World) -> Figure:
    """A pump whose temperature drifts for hours: the score rises, and the threshold goes after it."""
    scored = world.scored(1)
    rows = slice(world.drift[0] - 2000, None)
    at = (np.arange(len(world.time_s))[rows] - world.drift[0]) / 60
    figure, axes = _figure(2, 4.2)
    axes[0].plot(at, world.values[rows, 1, world.channels.index("temperature")], color=BLUE, lw=0.6)
    axes[0].set_ylabel("temperature", fontsize=8)
    _score(axes[1], at, scored.score[rows], scored.threshold[rows], scored.state[rows], log=True)
    axes[0].axvline(0, color=GREY, lw=0.8, ls="--")
    axes[1].axvline(0, color=GREY, lw=0.8, ls="--")
    axes[1].set_xlabel("minutes since the drift began")
    return figure


def budget_picture(world: World) -> Figure:
    """False alarms on normal pumps, added up, under three budgets."""
    figure, axes = _figure(1, 3.4)
    pumps = (2, 3, 4)
    hours = (world.time_s - world.time_s[0]) / 3600
    for text, per_hour, colour in (("2/hour", 2.0, RED), ("12/day", 0.5, BLUE), ("1/day", 1 / 24, GREEN)):
        onsets = np.zeros(len(hours))
        for pump in pumps:
            for one in world.scored(pump, per_hour / 3600).transitions:
                if one.state == "firing" and one.sequence == 0:
                    onsets[np.searchsorted(world.time_s, one.time_s)] += 1
        axes[0].step(hours, np.cumsum(onsets), color=colour, lw=1.4, where="post", label=f"raised under {text}")
        axes[0].plot(hours, len(pumps) * per_hour * hours, color=colour, lw=0.9, ls=":")
    axes[0].legend(loc="upper left", fontsize=8)
    axes[0].set_ylabel(f"alarms of {len(pumps)} pumps", fontsize=8)
    axes[0].set_xlabel("hours of normal operation (dotted: what the budget allows)")
    return figure


def cold_picture(world: World) -> Figure:
    """A pump that the model never saw: it learns its own level and scale first, then it is judged."""
    scored = world.scored(5)
    warm = int(np.flatnonzero(np.isfinite(scored.score))[0])
    rows = slice(0, 3 * warm)
    at = np.arange(len(world.time_s))[rows] / 60
    figure, axes = _figure(2, 4.2)
    axes[0].plot(at, world.values[rows, 5, 1], color=BLUE, lw=0.6)
    axes[0].set_ylabel(world.channels[1], fontsize=8)
    _score(axes[1], at, scored.score[rows], scored.threshold[rows], scored.state[rows], log=True)
    for axis in axes:
        axis.axvspan(0, warm / 60, color=GREY, alpha=0.15, lw=0)
    axes[0].text(warm / 120, axes[0].get_ylim()[1], "learning: no score, no alarm", ha="center", va="top", fontsize=8)
    axes[1].set_xlabel("minutes since its first message")
    return figure


PICTURES: dict[str, Callable[[World], Figure]] = {
    "fault.png": fault_picture,
    "drift.png": drift_picture,
    "budget.png": budget_picture,
    "cold.png": cold_picture,
}


def draw_all(world: World, folder: Path = FOLDER) -> None:
    """Write every picture."""
    for name, draw in PICTURES.items():
        draw(world).savefig(folder / name, dpi=80, format="png", metadata={"Software": None})


def _figure(count: int, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(10, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axis in axes:
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _score(axis: Any, at: F64, score: F64, threshold: F64, state: Any, *, log: bool = False) -> None:
    if log:
        axis.set_yscale("log")
    axis.plot(at, score, color=BLACK, lw=0.7, label="score")
    axis.plot(at, threshold, color=RED, lw=1.2, label="threshold")
    low, high = axis.get_ylim()
    firing, everywhere = state == AlertState.FIRING, axis.get_xaxis_transform()
    axis.fill_between(at, 0, 1, where=firing, transform=everywhere, color=RED, alpha=0.2, lw=0, label="alert")
    axis.set_ylim(max(low, 1e-2) if log else low, high)
    axis.set_ylabel("score", fontsize=8)
    axis.legend(loc="upper left", fontsize=7, ncols=3)


if __name__ == "__main__":
    draw_all(make_world(TrainConfig()))
