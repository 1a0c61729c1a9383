"""A manifest that is none is refused by key, by every verb alike, before any code of the file runs."""

import copy
import io
import json
import os
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from streamae.cli.inspect import inspect
from streamae.cli.score import score
from streamae.errors import ArtifactError
from streamae.model.artifact import describe, manifest_of, open_artifact, read_manifest
from streamae.model.export import load_archive
from streamae.model.files import read_regular
from streamae.model.save import save

WRONG = [None, 5, -1, 0, 1.5, 1e300, "x", "", True, [], {}, [[]], ["a", 5], {"a": None}, [{}], 10**30]
NUMBERS = ["period_s", "gap_max_s", "warmup_rows"]


@pytest.fixture(scope="module")
def honest(trained) -> dict[str, Any]:
    return read_manifest(trained.path)


@pytest.fixture(scope="module")
def written(trained, honest, tmp_path_factory) -> Callable[[dict[str, Any]], tuple[Path, Path]]:
    """Give a writer of trusted model files with another manifest."""
    folder, scripted = tmp_path_factory.mktemp("models"), load_archive(trained.path.read_bytes(), "cpu")

    def write(manifest: dict[str, Any]) -> tuple[Path, Path]:
        path, registry = folder / "other.pt", folder / "models.json"
        registry.unlink(missing_ok=True)
        save(path, scripted, manifest, registry)
        return path, registry

    return write


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document; of a list the first entry alone."""
    yield way
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*way, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*way, 0))


def replaced(manifest: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    out = copy.deepcopy(manifest)
    node: Any = out
    for step in way[:-1]:
        node = node[step]
    node[way[-1]] = value
    return out


def outcome(look: Callable[[], Any], path: Path) -> str:
    """What came of it: read, or the sentence with which it was refused."""
    try:
        look()
    except ArtifactError as error:
        assert str(error).startswith(f"{path}: "), error
        assert "\n" not in str(error)
        return str(error)
    return "read"


@pytest.mark.parametrize(
    "part", ["channels", "network", "calendar", "streams", "golden", "format", "calibration", "rest"]
)
def test_whatever_stands_in_a_manifest_is_read_or_refused(part, honest):
    """Every value of it in turn is another; of what is read a pipeline can be made."""
    manifest = copy.deepcopy(honest)
    manifest["calendar"] = {"angles": [], "offsets": [[0.0, 3600.0], [1.0, 7200.0]], "zone": "UTC"}
    named = {"channels", "network", "calendar", "streams", "golden", "format", "calibration"}
    ways = [way for way in places(manifest) if way and ((way[0] == part) if part != "rest" else way[0] not in named)]
    refused = 0
    for way in ways:
        for wrong in WRONG if len(way) < 3 else WRONG[:9]:
            content, path = archive_of(replaced(manifest, way, wrong)), Path("model.pt")
            refused += outcome(lambda c=content, p=path: checked(p, c), path) != "read"
    assert refused > len(ways) / 2 or part == "rest"


def archive_of(manifest: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("model/extra/manifest.json", json.dumps(manifest))
    return out.getvalue()


@pytest.mark.parametrize("kind", [["a"], {}, None, 5, True, "torchscript", "x" * 10_000])
def test_a_file_of_another_kind_is_refused_whatever_stands_there(honest, kind):
    """By who wants a classifier, and by who wants a model that scores."""
    content = archive_of(replaced(honest, ("format", "kind"), kind))
    for wanted in ("classifier", "torchscript"):
        found = outcome(lambda w=wanted: manifest_of(Path("model.pt"), content, w), Path("model.pt"))
        assert (found == "read") == (kind == wanted)
        assert len(found) < 400


def checked(path: Path, content: bytes) -> None:
    """What all verbs do with the bytes before they run anything, and what `inspect` then makes of it."""
    from streamae.core.pipeline import Pipeline
    from streamae.model import artifact
    from tests.plants import group

    manifest = artifact.manifest_of(path, content, "torchscript")
    profile = artifact.profile_of(manifest, "")
    Pipeline("i", group(profile=profile))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(channels=5), "channels: got 5"),
        (lambda m: m.update(channels=["a", "a", "b", "c"]), "channels: got ['a', 'a', 'b', 'c']"),
        (lambda m: m.update(period_s="x"), "period_s: got 'x'"),
        (lambda m: m.update(period_s=0), "period_s: got 0"),
        (lambda m: m.update(period_s=-1.0), "period_s: got -1.0"),
        (lambda m: m.update(gap_max_s=-0.5), "gap_max_s: got -0.5"),
        (lambda m: m.update(warmup_rows=-5), "warmup_rows: got -5"),
        (lambda m: m.update(warmup_rows=10**18), "warmup_rows: got 1000000000000000000"),
        (lambda m: m.update(targets=["nobody"]), "targets: got ['nobody']"),
        (lambda m: m["network"].update(window=10**9), "network: window is 1000000000"),
        (lambda m: m["network"].update(channels=True), "network: channels must be of type int"),
        (lambda m: m["network"]["recurrent"].update(hidden=2.5), "network: hidden must be of type int"),
        (lambda m: m.update(calendar={"angles": ["noon"], "offsets": []}), "calendar.angles: got ['noon']"),
        (lambda m: m.update(calendar={"angles": [], "offsets": [[1, 0], [0, 0]]}), "calendar.offsets: got"),
        (lambda m: m["golden"].update(windows=[[1.0]]), "golden.windows: got [[1.0]]"),
        (lambda m: m.update(training=7), "training: got 7"),
    ],
)
def test_every_verb_refuses_a_manifest_of_other_types_by_its_key(written, honest, monkeypatch, tmp_path, change, said):
    """`check`, `run`, `inspect` and `score` say the same sentence, and nothing is loaded."""
    manifest = copy.deepcopy(honest)
    change(manifest)
    path, registry = written(manifest)
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("was loaded"))
    for look in (lambda: open_artifact(path, None, registry), lambda: describe(path), lambda: read_manifest(path)):
        assert outcome(look, path).startswith(f"{path}: {said}")
    series = tmp_path / "p.csv"
    series.write_text("timestamp,pressure\n1,2\n")
    asked = [str(path), str(series), "-o", str(tmp_path / "out.csv"), "--registry", str(registry)]
    for verb, arguments in ((inspect, [str(path)]), (score, asked)):
        done = CliRunner().invoke(verb, arguments)
        assert isinstance(done.exception, ArtifactError), done.output
        assert str(done.exception).startswith(f"{path}: {said}")


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', "[" * 100_000, '{"a": 1' + "0" * 5000 + "}"])
def test_json_that_no_trainer_writes_is_no_model(tmp_path, text):
    """What is no number, nested without end, of thousands of digits."""
    path = tmp_path / "odd.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/extra/manifest.json", text)
    with pytest.raises(ArtifactError, match="damaged or no streamae model"):
        read_manifest(path)


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damage", [False, True])
def test_an_archive_that_torch_could_not_read_is_refused(tmp_path, how, damage):
    """By the way in which it is compressed, before it is unpacked; damaged or not."""
    path = tmp_path / "odd.pt"
    with zipfile.ZipFile(path, "w", how) as file:
        file.writestr("model/extra/manifest.json", "{}" * 100)
    content = bytearray(path.read_bytes())
    content[70:75] = b"\xff" * 5 * damage or content[70:75]
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged or no streamae model"):
        read_manifest(path)


def bomb(path: Path, entries: int, bytes_each: int, name: str = "model/data/{}") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/extra/manifest.json", "{}")
        zeros = bytes(1 << 20)
        for n in range(entries):
            with file.open(name.format(n), "w", force_zip64=True) as part:
                for _ in range(bytes_each >> 20):
                    part.write(zeros)


@pytest.mark.parametrize(
    ("entries", "bytes_each", "name"),
    [(1, 256 << 20, "model/data/{}"), (64, 4 << 20, "model/data/{}"), (1, 80 << 20, "model/extra/{}")],
)
def test_a_small_file_that_unpacks_to_much_is_refused_unread(tmp_path, entries, bytes_each, name):
    """Whether it is one large entry or many."""
    path = tmp_path / "bomb.pt"
    bomb(path, entries, bytes_each, name)
    assert path.stat().st_size < 2 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match="many times its size"):
            describe(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    """A pipe would be waited for without end, and a device has none."""
    path = tmp_path / "model.pt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(outcome(lambda: read_manifest(path), path)), daemon=True)
    thread.start()
    thread.join(30)
    assert said
    assert "pipe or a device" in said[0]


def test_a_regular_file_is_read_up_to_its_bound(tmp_path):
    """A link to one is one; a byte too many is None."""
    path, link = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"12345")
    link.symlink_to(path)
    assert (read_regular(link, 5), read_regular(path, 4)) == (b"12345", None)
