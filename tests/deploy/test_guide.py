"""The pages that people read are true: what they link to exists, what they tell you to type works. In `make check`."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
import yaml

from streamae.cli import main
from streamae.config import load
from tests.guide import DOCS, PAGES, ROOT, anchors, commands, fenced, links, prose

README = ROOT / "README.md"
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
GROUP = 'streams: {a: {topics: [{topic: "a/{b}/{channel}"}], model: {path: a.pt}}}\n'
NEEDS_NO_VALUE = {"--help", "-h", "--version"}


def page(name: str) -> Path:
    return ROOT / name


def test_the_readme_is_short_and_its_picture_is_small():
    """150 lines at most, and a picture of less than 150 kB that `screenshot.py` writes."""
    text = README.read_text()
    assert text.count("\n") <= 150
    assert "(deploy/docs/page.png)" in text
    assert 0 < (DOCS / "page.png").stat().st_size < 150_000
    assert '"page.png"' in (DOCS / "screenshot.py").read_text()


def test_every_page_is_linked_from_where_people_start():
    """README.md and deploy/README.md between them lead to every page of deploy/docs."""
    starts = (README, ROOT / "deploy" / "README.md")
    reached = {(start.parent / path).resolve() for start in starts for path, _ in links(start) if path}
    assert not {p.name for p in DOCS.glob("*.md")} - {p.name for p in reached}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_resolves(name):
    """Every relative link of a page leads to a file, and every anchor to a heading."""
    for path, anchor in links(page(name)):
        target = (page(name).parent / path).resolve() if path else page(name)
        assert target.exists(), f"{name}: {path}"
        if anchor:
            assert anchor in anchors(target), f"{name}: {path}#{anchor}"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_exists(name):
    """Each `streamae …` of a page names a verb and options that exist; a line to copy has all that the verb needs."""
    for words, whole in commands(page(name), "streamae"):
        if words[0] in NEEDS_NO_VALUE:
            continue
        assert words[0] in main.commands, f"{name}: streamae {' '.join(words)}"
        verb = main.commands[words[0]]
        known = {option for parameter in verb.params for option in parameter.opts} | NEEDS_NO_VALUE
        assert known >= {word for word in words if re.match("--?[a-z]", word)}, f"{name}: streamae {' '.join(words)}"
        try:
            verb.make_context(words[0], words[1:], resilient_parsing=not whole)
        except click.ClickException as error:
            pytest.fail(f"{name}: streamae {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("name", NAMES)
def test_every_module_and_every_target_exists(name):
    """Each `python -m …` of a page is a module that has the options, and each `make …` a target."""
    for words, _ in commands(page(name), "python -m"):
        if words[0].startswith(("streamae", "tests")):
            spec = importlib.util.find_spec(words[0])
            assert spec is not None, f"{name}: {words[0]}"
            source = Path(spec.origin).read_text()
            options = [word for word in words[1:] if word.startswith("--")]
            assert all(f'"{o}"' in source or f"[{o} " in source for o in options), f"{name}: {words}"
    targets = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text()))
    for words, _ in commands(page(name), "make"):
        assert words[0] in targets, f"{name}: make {words[0]}"


@pytest.mark.parametrize("name", NAMES)
def test_every_piece_of_configuration_is_valid(name, tmp_path):
    """A block of YAML passes as streamae.yaml: with a group where it shows none, and as a group where it is one."""
    (tmp_path / "mqtt-password").write_text("secret")
    (tmp_path / "ntfy").write_text("ntfys://ntfy.example/topic")
    for block in fenced(page(name), "yaml"):
        if "automation:" in block:  # Home Assistant's own
            continue
        shown = yaml.safe_load(block)
        whole = block if "streams" in shown else f"{block}\n{GROUP}"
        if "topics" in shown:
            whole = yaml.safe_dump({"streams": {"a": {"model": {"path": "a.pt"}, **shown}}})
        (tmp_path / "streamae.yaml").write_text(whole.replace("/etc/streamae", str(tmp_path)))
        load(tmp_path / "streamae.yaml", environ={})


def test_the_headline_figures_are_those_of_the_tables():
    """Each bold figure of the README's table stands between the markers of the page that its line links to."""
    rows = re.findall(r"(?m)^\| (?:quality|speed|faults) \|.*$", README.read_text())
    assert len(rows) == 3
    for row in rows:
        text = (ROOT / re.search(r"\((deploy/docs/\w+\.md)\)", row)[1]).read_text()
        tables = " ".join(re.findall(r"(?s)<!-- (?:begin|faults).*?<!-- end", text))
        figures = re.findall(r"\*\*([\d.]+)\*\*", row) + re.findall(r"of (\d+) (?:alerts|messages)", row)
        assert len(figures) >= 2
        for figure in figures:
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", tables), f"{figure} of {row}"


def test_the_figures_of_sizing_are_those_of_the_benchmarks():
    """Every time and size of a message or stream that the page takes from the tables stands in them."""
    figures = re.findall(r"([\d.]+) (?:µs|bytes)", prose(DOCS / "sizing.md"))
    tables = re.search(r"(?s)<!-- begin bench.*<!-- end bench", (DOCS / "benchmarks.md").read_text())[0]
    assert len(figures) >= 3
    assert [one for one in figures if not re.search(rf"(?<![\d.]){re.escape(one)}(?![\d.])", tables)] == []


@pytest.mark.long
def test_the_first_minute_prints_what_the_readme_shows():
    """The README's transcript is the demo's: each line is printed so, but for numbers, paths and times."""
    command = [sys.executable, "-m", "streamae.cli", "demo", "--exit-after-alert", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    shown = README.read_text().partition("    broker   mosquitto")
    block = (shown[1] + shown[2]).partition("\nEvery stream")[0]
    printed = {without_figures(line) for line in (done.stdout + done.stderr).splitlines()}
    missing = [
        line for line in block.splitlines() if line.strip() not in ("", "…") and without_figures(line) not in printed
    ]
    assert not missing


def without_figures(line: str) -> str:
    """The line without its numbers and its temporary folder."""
    return re.sub(r"\d+(?:\.\d+)?", "0", re.sub(r"/tmp\S+/", "/", line)).strip()


@pytest.mark.parametrize("drawing", sorted(DOCS.glob("*.svg")), ids=lambda p: p.name)
def test_a_drawing_is_complete(drawing):
    """A drawing is well-formed, has a title for those who cannot see it, and asks no other host for anything."""
    root = ElementTree.parse(drawing).getroot()
    assert root.findtext("{http://www.w3.org/2000/svg}title")
    assert not re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?(?!#)\w+:", drawing.read_text())


PRIVATE = re.compile(
    r"\b(told|anew|manieth|upkeep|couriers?|vitals|closeup|lookback|teller|thinned|outright|mend(s|ed)?|cries wolf"
    r"|is worked on|goes on by itself|is (not )?to be had|foresees? rows|tells (it|nobody|a sink))\b"
)


@pytest.mark.parametrize("name", NAMES)
def test_the_prose_is_in_plain_words(name):
    """The private words of earlier days are gone from what people read."""
    assert not {found[0] for found in PRIVATE.finditer(prose(page(name)))}
