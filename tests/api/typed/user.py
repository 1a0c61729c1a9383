"""What a user writes, with types: `mypy --strict` must find nothing here, and it runs: see test_api_typing.py."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import streamae
from streamae.api import Reconstruction, RowScore, Scores


def alerts(detector: streamae.Detector, series: streamae.Series) -> Iterator[str]:
    """Go through a series row by row, as if it came in now."""
    for row, now_s in zip(series.values, series.time_s.tolist(), strict=True):
        scores: Scores = detector.score(row, now_s, stream=series.name)
        for alert in scores.transitions:
            yield f"{alert.stream} {alert.state} {alert.worst_channel}"


def main(file: Path, model: Path, registry: Path) -> int:
    """Train, load, score."""
    series = streamae.Series.read(file)
    try:
        trained = streamae.train(series, model, rows=400, config={"recipe": {"steps": 10}}, registry=registry)
        detector = streamae.load(model, trained.digest, for_s=1.0)
    except (streamae.ArtifactError, streamae.ConfigError, streamae.SeriesError) as error:
        print(error)
        return error.exit_code
    scores = detector.score(series)
    high: npt.NDArray[np.float64] = scores.score[scores.state == "firing"]
    newest: RowScore = scores[-1]
    worst = max(newest.shares, key=lambda channel: newest.shares[channel])
    window: Reconstruction = detector.reconstruct(series.name)
    apart = float(np.abs(window.values - window.reconstruction).max())
    made = streamae.Series.of("mine", detector.channels, [0.0, 1.0], [[1.0, 2, 3, 4]] * 2)
    filling = [row.state for row in detector.score(made.values.tolist(), stream=made.name)]
    detector.reset()
    print(streamae.__version__, len(high), worst, apart >= 0, filling, len(list(alerts(detector, series))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*(Path(name) for name in sys.argv[1:4])))
