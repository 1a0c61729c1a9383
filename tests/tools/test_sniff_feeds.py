"""`sniff` on the golden feeds of tests/golden/feeds: what it proposes is pinned, passes `check`, and reads the feed.

The whole way, with `train` and a simulated week, is `python -m tests.bench.feeds`.
"""

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from streamae.cli.sniff import sniff
from streamae.config.check import check
from streamae.config.load import load
from streamae.history.messages import from_recordings
from streamae.tools.feeds import sniff_recorded
from tests.bench.feeds import run
from tests.feeds.catalogue import FEEDS
from tests.feeds.write import FOLDER, excerpt_of

EXPECTED = yaml.safe_load((FOLDER / "expected.yaml").read_text())
ABOUT = "instance: x\nstate: {dir: state}\nmqtt: {host: localhost}\n"


@pytest.mark.parametrize("feed", FEEDS.values(), ids=lambda feed: feed.name)
def test_the_golden_excerpt_is_what_the_generator_says(feed):
    """The simulated week is of the same make as the excerpt that everybody can read."""
    assert (FOLDER / feed.name / "messages.jsonl").read_text() == excerpt_of(feed)


@pytest.mark.parametrize("name", FEEDS)
def test_the_block_is_pinned_and_passes_check(name, tmp_path):
    """The block for a feed is the golden one, and `check` takes it as it is."""
    block = sniff_recorded([FOLDER / name / "messages.jsonl"])
    assert block == (FOLDER / name / "streams.yaml").read_text(), "look at it, then: python -m tests.feeds.write"
    (tmp_path / "streamae.yaml").write_text(ABOUT + block)
    assert check(tmp_path / "streamae.yaml")


def rows_of(name, tmp_path, monkeypatch) -> dict[str, dict[str, object]]:
    """What training would see of the golden excerpt, group by group: streams, channels, and what was refused."""
    monkeypatch.setattr("streamae.history.messages._ROWS_MIN", 1)
    path = tmp_path / "streamae.yaml"
    path.write_text(ABOUT + (FOLDER / name / "streams.yaml").read_text())
    found = {}
    for group in load(path).streams:
        made = from_recordings(path, group, [FOLDER / name / "messages.jsonl"])
        assert all(np.isfinite(one.values).all() and len(one.values) for one in made.series)
        channels = sorted({channel for one in made.series for channel in one.channels})
        found[group] = {"channels": channels, "streams": sorted(one.name for one in made.series)}
    return found


@pytest.mark.parametrize("name", FEEDS)
def test_every_machine_of_a_feed_is_read_with_what_it_measures(name, tmp_path, monkeypatch):
    """Groups, streams and channels are those that a person would choose: see expected.yaml."""
    assert rows_of(name, tmp_path, monkeypatch) == EXPECTED[name]


def test_the_verb_looks_at_a_recording():
    """`streamae sniff --recording` prints the block of a recording, and takes no broker beside it."""
    golden = FOLDER / "tasmota" / "messages.jsonl"
    done = CliRunner().invoke(sniff, ["--recording", str(golden)])
    assert done.output == (FOLDER / "tasmota" / "streams.yaml").read_text()
    assert CliRunner().invoke(sniff, ["--recording", str(golden), "--host", "localhost"]).exit_code == 2


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("feed", FEEDS.values(), ids=lambda feed: feed.name)
def test_a_week_of_a_feed_without_an_edit(feed, tmp_path):
    """Sniffed, checked, trained and run: the fault is found, and nothing else is."""
    done = run(feed, tmp_path, train_days=5, days=7, steps=None)
    assert done.found_after_s is not None, done
    assert not done.false, done.false
    assert not done.sensors, done.sensors
