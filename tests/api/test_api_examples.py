"""The examples of the API's page and of its docstrings, run as a reader would run them."""

import doctest
import re
from pathlib import Path

import pytest

import streamae
import streamae.api
from streamae.history.series import Series
from tests.models import quick, write_pumps

PAGE = Path(__file__).parents[2] / "deploy" / "docs" / "python-api.md"
OPTIONS = doctest.ELLIPSIS
PROMISED = {"Detector.score", "Series.of", "Series.read", "load", "train"}  # have examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with three pumps' files, and a state folder whose registry vouches for the model beside them."""
    folder = tmp_path_factory.mktemp("reader")
    paths = write_pumps(folder)[1]
    files = [path.rename(folder / f"pump{n:02}.csv") for n, path in enumerate(paths, 1)]
    registry = folder / "state" / "streamae" / "models.json"
    config = quick(60)
    streamae.train(files, folder / "pumps.pt", rows=800, config=config, registry=registry)
    return folder


@pytest.fixture
def reader(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))


def run(example):
    """Run one example; returns how many lines were tried and what went wrong, in doctest's words."""
    said = []
    done = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(example, out=said.append, clear_globs=False)
    return done.attempted, "".join(said)


def documented():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for thing in (streamae.api.Detector, Series, streamae.api.load, streamae.api.train):
        yield from (one for one in finder.find(thing, thing.__name__, globs={"Series": Series}) if one.examples)


@pytest.mark.parametrize("example", documented(), ids=lambda one: one.name)
def test_the_docstrings_say_what_happens(reader, example):
    """Each example in a docstring gives what stands under it."""
    attempted, wrong = run(example)
    assert attempted
    assert not wrong, wrong


def test_each_entrance_has_an_example():
    """`load`, `train`, `score` and the two ways to a series show how they are called."""
    assert {one.name for one in documented()} == PROMISED


def blocks():
    """The page's examples, one after the other as one session; a prompt outside a block would be run by nobody."""
    text = PAGE.read_text()
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert sum(block.count(">>>") for block in found) == text.count(">>>") > 20
    return "\n".join(found)


def test_the_page_says_what_happens(reader):
    """Every example of the page, in its order, gives what stands under it."""
    attempted, wrong = run(doctest.DocTestParser().get_doctest(blocks(), {}, PAGE.name, str(PAGE), 0))
    assert attempted > 20
    assert not wrong, wrong


def test_an_example_that_lies_is_found(reader):
    """The control: the page's session with one answer changed is reported, with that line."""
    head, _, _ = blocks().partition(">>> detector = streamae.load")
    head = re.sub(r">>> detector = .*\n(>>> detector.*\n.*\n)*", "", head)  # without the training, which takes long
    truth, lie = "((1200, 4), (1200,))", "((1201, 4), (1201,))"
    assert truth in head
    parser = doctest.DocTestParser()
    assert run(parser.get_doctest(head, {}, "truth", None, 0))[1] == ""
    assert lie in run(parser.get_doctest(head.replace(truth, lie), {}, "lie", None, 0))[1]


def test_the_page_names_what_there_is():
    """The errors of the page's table are the public ones, and its settings of `load` are parameters."""
    page = PAGE.read_text()
    named = set(re.findall(r"(?m)^\| `(\w+Error)`", page))
    assert {*named, "StreamaeError"} == {name for name in streamae.__all__ if name.endswith("Error")}
    parameters = streamae.load.__annotations__
    assert {"for_s", "keep_firing_for_s", "critical_ratio", "false_alarms_per_s"} < set(parameters)
    assert all(f"`{name}`" in page for name in parameters if name.endswith(("_s", "_ratio")))
    states = set(re.findall(r"(?m)^\| `([a-z]+)` \|", page))
    assert states == {"learning", "inactive", "pending", "firing"}
