"""The contract of `streamae.model.artifact`: nothing of a file runs before its digest is known, and each refusal says
whose fault it is and what to do.
"""

import copy
import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from streamae.errors import ArtifactError
from streamae.model.artifact import FORMAT_VERSION, describe, open_artifact, read_manifest
from streamae.model.export import load_archive
from streamae.model.save import default_registry, register, save

CASES = 300


def damaged(content, rng):
    """One way in which a copy, a disk or a hand can spoil a file; never the file itself."""
    kind, at = rng.randrange(7), rng.randrange(len(content))
    spoilt = bytearray(content)
    if kind == 0:
        spoilt[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del spoilt[at:]
    elif kind == 2:
        spoilt[at : at + 512] = bytes(min(512, len(content) - at))
    elif kind == 3:
        spoilt[at:at] = rng.randbytes(rng.randrange(1, 64))
    elif kind == 4:
        spoilt += rng.randbytes(rng.randrange(1, 64))
    elif kind == 5:
        del spoilt[at : at + rng.randrange(1, 4096)]
    else:
        for _ in range(20):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
    return bytes(spoilt)


@pytest.fixture(scope="module")
def spoilt(trained):
    content, rng, found = trained.path.read_bytes(), random.Random(0), []
    while len(found) < CASES:
        other = damaged(content, rng)
        if other != content:
            found.append(other)
    return found


@pytest.fixture
def remade(trained, tmp_path):
    """Give a maker of trusted model files with a changed manifest."""
    scripted = load_archive(trained.path.read_bytes(), "cpu")

    def make(change):
        manifest = copy.deepcopy(read_manifest(trained.path))
        change(manifest)
        save(tmp_path / "remade.pt", scripted, manifest, tmp_path / "models.json")
        return tmp_path / "remade.pt", tmp_path / "models.json"

    return make


# ---- damage


@pytest.mark.parametrize("trust", ["pin", "registry"])
def test_no_spoilt_file_loads(trained, spoilt, tmp_path, trust):
    """Of 300 spoilt copies none opens, whether the digest is pinned or registered, and none says only 'error'."""
    path = tmp_path / "pumps.pt"
    pin, registry = (trained.sha256, None) if trust == "pin" else (None, trained.registry)
    for content in spoilt:
        path.write_bytes(content)
        with pytest.raises(ArtifactError) as refused:
            open_artifact(path, pin, registry)
        assert str(path) in str(refused.value)
        assert hashlib.sha256(content).hexdigest() in str(refused.value), "the digest found is what one compares"
    path.write_bytes(trained.path.read_bytes())
    open_artifact(path, pin, registry)


def test_a_spoilt_file_can_be_inspected_or_is_refused(spoilt, tmp_path):
    """`inspect` reads without trust, so for any bytes it answers or raises ArtifactError; nothing else."""
    path, refused = tmp_path / "pumps.pt", 0
    for content in spoilt:
        path.write_bytes(content)
        try:
            describe(path)
        except ArtifactError:
            refused += 1
    assert refused > CASES // 4


VOUCHED = """
import sys
import numpy as np
from pathlib import Path
from streamae.errors import ArtifactError
from streamae.model.artifact import open_artifact
folder, intact = Path(sys.argv[1]), sys.argv[2]
pins = dict(line.split() for line in (folder / "pins").read_text().splitlines())
right = open_artifact(Path(intact), pins.pop("intact"), None)
windows = np.random.default_rng(0).normal(size=(8, right.profile.window, len(right.profile.channels)))
for name, pin in pins.items():
    try:
        other = open_artifact(folder / name, pin, None)
    except ArtifactError:
        print("refused", flush=True)
        continue
    same = np.array_equal(other.reconstructor.errors(windows), right.reconstructor.errors(windows))
    print("same" if same and other.profile.calibration == right.profile.calibration else "CHANGED", name, flush=True)
"""


def test_even_a_spoilt_file_that_someone_pinned_is_refused_or_unchanged(trained, spoilt, tmp_path):
    """Where the operator pins the digest of a spoilt file, it is refused, or means what it meant: padding was hit."""
    chosen = [content for content in spoilt[::5] if b"manifest.json" in content]
    pins = [f"intact {trained.sha256}"]
    for n, content in enumerate(chosen):
        (tmp_path / f"{n}.pt").write_bytes(content)
        pins.append(f"{n}.pt {hashlib.sha256(content).hexdigest()}")
    (tmp_path / "pins").write_text("\n".join(pins))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", VOUCHED, str(tmp_path), str(trained.path)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    verdicts = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(verdicts) == len(chosen)
    assert not [v for v in verdicts if v.startswith("CHANGED")]
    assert "refused" in verdicts


# ---- code in the file


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class ScriptBomb(torch.nn.Module):
    """TorchScript that writes a file as soon as it is loaded."""

    def __init__(self, marker):
        super().__init__()
        self.marker = str(marker)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.marker, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.marker, self.training = state
        torch.save(torch.zeros(1), self.marker)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def pickled(path, marker, manifest):
    path.write_bytes(pickle.dumps(Bomb(marker)))
    return lambda: pickle.loads(path.read_bytes())


def torch_saved(path, marker, manifest):
    torch.save(Bomb(marker), path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(f"{path.stem}/extra/manifest.json", json.dumps(manifest))
    return lambda: torch.load(path, weights_only=False)


def torch_scripted(path, marker, manifest):
    torch.jit.save(torch.jit.script(ScriptBomb(marker)), path, _extra_files={"manifest.json": json.dumps(manifest)})
    return lambda: torch.jit.load(path)


@pytest.mark.parametrize("plant", [pickled, torch_saved, torch_scripted])
def test_no_code_of_an_unknown_file_runs(trained, tmp_path, plant):
    """A file that would act when it is loaded does nothing under open, read and inspect; loading it would have."""
    path, marker = tmp_path / "bomb.pt", tmp_path / "marker"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        explode = plant(path, marker, read_manifest(trained.path))
        for pin, registry in ((None, None), (None, trained.registry), (trained.sha256, None)):
            with pytest.raises(ArtifactError):
                open_artifact(path, pin, registry)
        for read in (read_manifest, describe):
            if plant is pickled:
                with pytest.raises(ArtifactError):
                    read(path)
            else:
                assert read(path)["format"]["version"] <= FORMAT_VERSION
        assert not marker.exists(), "code of the file was run"
        explode()
    assert marker.exists(), "the file was harmless, so this test shows nothing"


def test_the_bytes_that_were_checked_are_the_bytes_that_are_loaded(trained, tmp_path, monkeypatch):
    """The file is read once: what stands at the path a moment later is never loaded."""
    path = tmp_path / "pumps.pt"
    path.write_bytes(trained.path.read_bytes())
    honest = Path.read_bytes

    def swapped_behind(self):
        content = honest(self)
        if self == path:
            path.write_bytes(b"another file")
        return content

    monkeypatch.setattr(Path, "read_bytes", swapped_behind)
    assert open_artifact(path, trained.sha256, None).digest == trained.sha256


# ---- trust


def test_a_pin_may_be_written_as_people_write_it(trained):
    """Case, blanks and the prefix `sha256:` mean nothing; any other digit does."""
    for pin in (trained.sha256, f"sha256:{trained.sha256}", f" {trained.sha256.upper()} "):
        assert open_artifact(trained.path, pin, None).digest == trained.sha256
    turned = trained.sha256[:-1] + ("0" if trained.sha256[-1] != "0" else "1")
    for pin in (turned, trained.sha256[:12], ""):
        with pytest.raises(ArtifactError, match="pinned"):
            open_artifact(trained.path, pin, trained.registry)


def test_without_a_pin_only_what_was_trained_here_loads(trained, tmp_path):
    """The registry decides, and the refusal gives the line that would pin the file."""
    for registry in (None, tmp_path / "none.json"):
        with pytest.raises(ArtifactError, match=f"model.sha256: {trained.sha256}"):
            open_artifact(trained.path, None, registry)
    registry = tmp_path / "deep" / "models.json"
    register(registry, "0" * 64, tmp_path / "other.pt")
    register(registry, trained.sha256, trained.path)
    assert open_artifact(trained.path, None, registry).digest == trained.sha256
    assert set(json.loads(registry.read_text())) == {"0" * 64, trained.sha256}


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_spoilt_registry_trusts_nothing(trained, tmp_path, content):
    registry = tmp_path / "models.json"
    registry.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"models\.json: .*repair or delete"):
        open_artifact(trained.path, None, registry)


def test_the_registry_has_its_place_in_the_users_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_registry() == tmp_path / "streamae" / "models.json"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_registry() == tmp_path / ".local" / "state" / "streamae" / "models.json"


# ---- the manifest


def test_a_model_comes_back_as_it_was_saved(trained, remade):
    """Manifest, profile and outputs survive the file; a second save of the same is trusted on its own digest."""
    first = open_artifact(trained.path, trained.sha256, None)
    path, registry = remade(lambda manifest: None)
    again = open_artifact(path, None, registry)
    assert again.manifest == first.manifest == read_manifest(path)
    windows = np.random.default_rng(0).normal(size=(5, first.profile.window, len(first.profile.channels)))
    for method in ("errors", "reconstruct", "forecast", "encode"):
        old, new = (getattr(a.reconstructor, method)(windows.astype(np.float32)) for a in (first, again))
        assert np.array_equal(old, new)
    assert first.profile.channels == tuple(first.manifest["channels"])
    assert first.profile.streams.keys() == {p.stem for p in trained.series}


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"version": FORMAT_VERSION + 1, "kind": "torchscript"}, ["upgrade streamae", str(FORMAT_VERSION + 1)]),
        ({"version": FORMAT_VERSION, "kind": "onnx"}, ["onnx", "upgrade streamae"]),
        ({"version": "new", "kind": "torchscript"}, ["upgrade streamae"]),
        ({}, ["upgrade streamae"]),
        ("torchscript", ["not one of streamae's"]),
    ],
)
def test_a_newer_format_is_refused_before_it_is_loaded(remade, monkeypatch, form, words):
    """What a later streamae wrote is not guessed at."""
    path, registry = remade(lambda manifest: manifest.update(format=form))
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("was loaded"))
    for look in (lambda: open_artifact(path, None, registry), lambda: describe(path)):
        with pytest.raises(ArtifactError) as refused:
            look()
        assert all(word in str(refused.value) for word in [*words, str(path)])


NEEDED = ["channels", "network", "period_s", "gap_max_s", "warmup_rows", "streams", "calibration", "golden"]


@pytest.mark.parametrize("key", [*NEEDED, "network.window", "golden.windows", "golden.errors"])
def test_a_manifest_that_lacks_a_key_is_refused_by_its_name(remade, key):
    def drop(manifest):
        *way, last = key.split(".")
        for part in way:
            manifest = manifest[part]
        del manifest[last]

    path, registry = remade(drop)
    with pytest.raises(ArtifactError, match=key.rpartition(".")[2]) as refused:
        open_artifact(path, None, registry)
    assert "train" in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["golden"]["errors"][0].__setitem__(0, m["golden"]["errors"][0][0] + 0.01),
        lambda m: m["golden"]["windows"][0][0].__setitem__(0, 50.0),
        lambda m: m["golden"]["errors"].pop(),
        lambda m: m["golden"].__setitem__("errors", []),
    ],
)
def test_a_model_that_misses_its_golden_output_is_refused(remade, change):
    """The network must compute here what it computed where it was trained."""
    path, registry = remade(change)
    with pytest.raises(ArtifactError, match="golden"):
        open_artifact(path, None, registry)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["calibration"].update(zero="high"), "calibration.zero: got 'high'"),
        (lambda m: m["calibration"].pop("weight"), "calibration.weight: got nothing"),
        (lambda m: m.update(calibration={}), "calibration.channel: got nothing"),
        (lambda m: m["streams"].update(p=None), "streams.p: got None"),
        (lambda m: m["streams"].update(p={"location": "low"}), "streams.p.location: got 'low'"),
        (lambda m: m.update(streams=[]), "streams: got []"),
    ],
)
def test_a_calibration_of_other_types_is_refused_by_key_before_code_runs(remade, monkeypatch, change, said):
    """What is no calibration would fail, or score wrongly, long after the start."""
    path, registry = remade(change)
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("was loaded"))
    with pytest.raises(ArtifactError) as refused:
        open_artifact(path, None, registry)
    assert str(refused.value).startswith(f"{path}: {said}")


def test_a_manifest_of_another_network_is_refused(remade):
    """Settings that do not fit their weights are no model."""
    path, registry = remade(lambda m: m["network"].update(window=m["network"]["window"] + 1))
    with pytest.raises(ArtifactError, match=str(path)):
        open_artifact(path, None, registry)


# ---- inspect


def test_inspect_imports_no_torch(trained):
    """The verb reads JSON out of a zip: it answers at once, and on a machine that has no torch."""
    look = (
        "import sys; from streamae.cli import main; main(['inspect', sys.argv[1]], standalone_mode=False);"
        "sys.exit(3 if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", look, str(trained.path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    inspected = json.loads(done.stdout)
    assert inspected["sha256"] == trained.sha256
    assert inspected["channels"] == ["pressure", "flow", "vibration", "temperature"]
    assert inspected["streams"] == [p.stem for p in trained.series]
    assert inspected["training"]["seed"] == 0
    assert len(done.stdout) < 20_000, "bulk belongs into the file, not onto the screen"


# ---- what the user reads


def test_every_refusal_says_whose_fault_and_what_to_do(trained, tmp_path):
    """Missing, a folder, empty, a text, another zip, far too large: one line each, with the path and the remedy."""
    empty, text, other, large = (tmp_path / name for name in ("empty.pt", "text.pt", "zip.pt", "large.pt"))
    empty.touch()
    text.write_text("not a model")
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("hello", "world")
    with large.open("wb") as sparse:
        sparse.truncate((1 << 30) + 1)
    expected = {
        tmp_path / "nowhere.pt": ["no such model file", "streamae train"],
        tmp_path: ["cannot be read", "permissions"],
        empty: ["damaged or no streamae model", "copy it again"],
        text: ["damaged or no streamae model", "copy it again"],
        other: ["damaged or no streamae model", "copy it again"],
        large: ["larger than", "check the path"],
    }
    for path, words in expected.items():
        with pytest.raises(ArtifactError) as refused:
            read_manifest(path)
        message = str(refused.value)
        assert "\n" not in message
        assert message.startswith(f"{path}: ")
        assert all(word in message for word in words), message
        assert refused.value.exit_code == 78


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_model_has_the_mode_of_any_new_file(trained, tmp_path, umask, mode):
    """A daemon that runs as another user than the one who trained can read the model, as far as the umask allows."""
    scripted, manifest = load_archive(trained.path.read_bytes(), "cpu"), read_manifest(trained.path)
    before = os.umask(umask)
    try:
        save(tmp_path / "model.pt", scripted, manifest, tmp_path / "registry.json")
    finally:
        os.umask(before)
    assert (tmp_path / "model.pt").stat().st_mode & 0o777 == mode
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "registry.json"}


def test_a_model_that_cannot_be_written_leaves_nothing_behind(trained, tmp_path):
    """A failed save raises ArtifactError, and neither a half file nor a temporary one stays; an older file stays."""
    scripted = load_archive(trained.path.read_bytes(), "cpu")
    manifest = read_manifest(trained.path)
    with pytest.raises(ArtifactError, match="cannot be written"):
        save(tmp_path / "nowhere" / "pumps.pt", scripted, manifest)
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(ArtifactError, match="cannot be written"):
        save(tmp_path / "folder.pt", scripted, manifest)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.pt"]
    old = tmp_path / "old.pt"
    old.write_bytes(b"older")
    with pytest.raises(ValueError, match="JSON"):
        save(old, scripted, {**manifest, "period_s": float("nan")})
    assert old.read_bytes() == b"older"


def test_a_manifest_hidden_twice_in_the_file_is_refused(trained, tmp_path):
    """Two manifests would let one be checked and the other believed."""
    content = io.BytesIO(trained.path.read_bytes())
    with zipfile.ZipFile(content, "a") as file:
        file.writestr("other/extra/manifest.json", "{}")
    path = tmp_path / "two.pt"
    path.write_bytes(content.getvalue())
    with pytest.raises(ArtifactError, match="damaged or no streamae model"):
        read_manifest(path)
