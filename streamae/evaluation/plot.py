"""One picture of one scored series: channels, score against threshold, labels and alarms on a common time axis.

Needs matplotlib (`pip install streamae[evaluate]`); draws without a display.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamae.errors import ConfigError
from streamae.evaluation.metrics import runs
from streamae.evaluation.protocol import LabelledSeries

__all__ = ["plot_series", "require_matplotlib"]

F64 = npt.NDArray[np.float64]

CHANNELS_MAX = 12  # a taller picture cannot be read
LABEL_COLOUR, ALARM_COLOUR = "tab:red", "tab:orange"


def require_matplotlib() -> None:
    """Raise ConfigError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401  (only whether it is there)
    except ImportError as e:
        raise ConfigError("plots need matplotlib: pip install 'streamae[evaluate]', or leave out --plots") from e


def plot_series(
    series: LabelledSeries, score: F64, threshold: F64, path: Path, *, reconstruction: F64 | None = None
) -> None:
    """Write a PNG of `series` with `score[N]` and `threshold[N]`; the first 12 channels are drawn.

    `reconstruction[N, C]`, where given, is drawn over the channels. Labelled events are shaded red, alarms orange, and
    the end of the training rows is a dashed line. Raises ConfigError where matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = min(len(series.channels), CHANNELS_MAX)
    rows = np.arange(len(series))
    figure = Figure(figsize=(14, 1.3 * shown + 2.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(shown + 1, 1, sharex=True, squeeze=False, height_ratios=[1.0] * shown + [1.8])[:, 0]
    for c, ax in enumerate(axes[:shown]):
        ax.plot(rows, series.values[:, c], lw=0.6, color="tab:blue")
        if reconstruction is not None:
            ax.plot(rows, reconstruction[:, c], lw=0.6, color="tab:green", label="reconstruction")
        ax.set_ylabel(series.channels[c][:16], rotation=0, ha="right", fontsize=7)
    axes[-1].plot(rows, score, lw=0.8, color="black", label="score")
    axes[-1].plot(rows, threshold, lw=0.8, color=ALARM_COLOUR, label="threshold")
    axes[-1].legend(loc="upper left", fontsize=7)
    if reconstruction is not None:
        axes[0].legend(loc="upper left", fontsize=7)
    for ax in axes:
        ax.axvline(series.train_rows, ls="--", lw=0.8, color="grey")
        for a, b in runs(series.label):
            ax.axvspan(a - 0.5, b + 0.5, color=LABEL_COLOUR, alpha=0.15, lw=0)
    for a, b in runs((score > threshold) & (rows >= series.train_rows)):
        axes[-1].axvspan(a - 0.5, b + 0.5, color=ALARM_COLOUR, alpha=0.25, lw=0)
    axes[0].set_title(f"{series.dataset}/{series.name}", fontsize=9)
    axes[-1].set_xlabel("row")
    figure.savefig(path, dpi=110, format="png")
