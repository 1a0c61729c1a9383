"""The references in deploy/docs are what the code says, and the guide's pictures are there. Part of `make check`."""

import importlib.util
import re
import shutil
import struct
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "deploy" / "docs"


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["config-reference.md", "formats.md", "metrics.md", "api.md", "commands.md"])
def test_a_reference_is_what_the_code_says(name):
    """A key, metric or path that was added, changed or removed is in the reference; `make docs` brings it there."""
    text = loaded("generate").documents()[name]
    assert (DOCS / name).read_text() == text, f"deploy/docs/{name} is stale: run `make docs` and commit"


def test_every_key_and_every_metric_has_its_line():
    """The references leave nothing out: as many lines as there are keys of the schema, and metrics of the catalogue."""
    from streamae.config import json_schema
    from streamae.metrics import CATALOGUE, PER_STREAM

    parts = [json_schema(), *json_schema()["$defs"].values()]
    reference = (DOCS / "config-reference.md").read_text().partition("## train.yaml")[0]
    assert len(re.findall(r"(?m)^\| `", reference)) == sum(len(part.get("properties", {})) for part in parts)
    metrics = (DOCS / "metrics.md").read_text()
    assert len(re.findall(r"(?m)^\| `streamae_", metrics)) == len(CATALOGUE) + len(PER_STREAM)


def test_every_option_says_what_it_is_for():
    """The reference of commands has a meaning in every line: no option is without help."""
    lines = re.findall(r"(?m)^\| `-.*\| (.*) \|$", (DOCS / "commands.md").read_text())
    assert len(lines) > 50
    assert all(meaning not in ("", "None") for meaning in lines)


def test_the_pages_link_only_to_what_is_there():
    """Every picture and page that a page names exists; pictures are small enough for a repository."""
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            path = page.parent / target
            assert path.is_file(), f"{page.name}: {target}"
            if path.suffix == ".png":
                assert path.read_bytes().startswith(b"\x89PNG")
                assert path.stat().st_size < 100_000, target


def test_limits_and_promises_name_what_there_is():
    """Every test, key, metric, reason and rule that the page names exists, and its bounds are those of the code."""
    from streamae.config.settings import StateOptions, StreamMetrics
    from streamae.core.formats.spec import PayloadSpec
    from streamae.core.group_rule import GroupRule
    from streamae.core.types import Drop
    from streamae.daemon.daemon import STOP_S
    from streamae.daemon.page.memory import _BUDGET_BYTES, _DEPTH_MAX
    from streamae.ingest.mqtt import ReceiveLimits
    from streamae.metrics import CATALOGUE
    from streamae.stopping import GRACE_S
    from streamae.store.store import StoreLimits
    from streamae.web.connections import ConnectionLimits
    from streamae.web.events import READERS_MAX

    page = (DOCS / "limits-and-promises.md").read_text()
    assert all((ROOT / path).is_file() for path in re.findall(r"tests/[\w/]+\.py", page))
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "streamae.rules.yml").read_text()
    assert all(f"alert: {name}" in rules for name in re.findall(r"Streamae\w+", page))
    metrics = {f"streamae_{m.name}" for m in CATALOGUE}
    assert set(re.findall(r"`(streamae_\w+)`", page)) <= {*metrics, *(f"{m}_total" for m in metrics)}
    assert {"max_streams", "inbox_overflow", "payload_too_large", "future"} <= {reason.value for reason in Drop}
    reference = (DOCS / "config-reference.md").read_text()
    keys = re.findall(r"(?m)\| `([\w., `]+)` \|$", page)
    assert len(keys) == 7
    for key in re.split(r"`, `", "`, `".join(keys)):
        assert f"`{key.rpartition('.')[2]}`" in reference, key
    limits, inbox, state = StoreLimits(), ReceiveLimits(), StateOptions()
    assert (limits.outbox.pending_max, limits.silences.current_max, limits.alerts.feedback_max) == (
        100_000,
        256,
        10_000,
    )
    assert (limits.alerts.transitions_max, limits.alerts.age_max_s) == (200_000, 90 * 86400)
    assert (inbox.max_messages, inbox.max_payload_bytes, inbox.max_bytes) == (100_000, 64 << 10, 256 << 20)
    assert (state.max_bytes, state.max_age_s) == (512_000_000, 7 * 86400)
    assert (StreamMetrics().per_stream_max, GroupRule().max_streams) == (1_000, 10_000)
    assert (2 * _BUDGET_BYTES, _DEPTH_MAX, READERS_MAX) == (64 << 20, 2048, 64)
    web = ConnectionLimits()
    assert (web.connections_max, web.request_s, web.body_s, web.answer_s) == (256, 10.0, 10.0, 30.0)
    assert (web.unsent_max_bytes, PayloadSpec().max_points) == (32 << 20, 2000)
    assert max(STOP_S, GRACE_S) < 2


@pytest.mark.long
def test_the_picture_of_the_page_can_be_taken(tmp_path):
    """The script runs the demo, waits for its alert, and writes a PNG of the size that the README shows."""
    pytest.importorskip("playwright.sync_api")
    if shutil.which("chromium") is None and shutil.which("chromium-browser") is None:
        pytest.skip("chromium is not installed")
    taker = loaded("screenshot")
    with taker.running_demo() as address:
        taker.page_of_an_alert(address, tmp_path / "page.png")
    for picture in (tmp_path / "page.png", DOCS / "page.png"):
        head = picture.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert struct.unpack(">II", head[16:]) == (taker.SIZE["width"], taker.SIZE["height"]), picture


@pytest.mark.long
def test_the_pictures_can_be_made(tmp_path):
    """The generator draws every picture that the page shows, from a plant and a model of its own."""
    pytest.importorskip("matplotlib")
    from tests.models import quick

    pictures = loaded("pictures")
    pictures.draw_all(pictures.make_world(quick(100), train_rows=1500, rows=4000), tmp_path)
    shown = set(re.findall(r"\]\((\w+\.png)\)", (DOCS / "how-it-decides.md").read_text()))
    assert shown == set(pictures.PICTURES) == {path.name for path in tmp_path.iterdir()}
