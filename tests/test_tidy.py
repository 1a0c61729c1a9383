"""Style is a test: sizes, names and doors that linters do not know. Part of `make check`."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "streamae").rglob("*.py"))
FILE_MAX = 300
BODY_MAX = 50
BANNED = re.compile(r"(Manager|Handler|Helper|Util|Processor)s?$|^(process|handle|data|info)$")
# Who may import a library, by the beginning of the path in the package: everybody else asks them, or is given what
# they read. The clock is read by what lives in time (the daemon, the verbs, the demo) and by what measures it.
DOORS = {
    "time": ("daemon/", "cli/", "tools/demo", "evaluation/", "bench", "pacing"),
    "torch": ("model/", "training/", "evaluation/", "bench"),
    "paho": ("mqtt/", "bench"),
    "prometheus_client": ("metrics/",),
    "sqlite3": ("store/",),
}


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_is_tidy(path):
    """A file fits its room: its size, its functions, its names, its doors, its docstring and its public names."""
    text = path.read_text()
    tree = ast.parse(text)
    inside = str(path.relative_to(ROOT / "streamae"))
    assert text.count("\n") <= FILE_MAX, "wants to be two rooms"
    assert ast.get_docstring(tree), "a module opens with its rule"
    for function in functions(tree):
        doc = ast.get_docstring(function, clean=False)
        lines = function.end_lineno - function.body[0 if doc is None else min(1, len(function.body) - 1)].lineno + 1
        assert lines <= BODY_MAX, f"{function.name}: {lines} lines do not fit a screen"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert not BANNED.search(node.name), node.name
        assert not isinstance(node, ast.Global), "no global state"
    for name, doors in DOORS.items():
        if name in set(imports(tree)):
            assert inside.startswith(doors), f"{name} is imported outside its door"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_names_are_pinned(path):
    """`__all__` names what a module offers, about ten names at most, and all of them exist."""
    if path.name == "__init__.py" and "__all__" not in path.read_text():
        return
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert len(module.__all__) <= 20
    for public in module.__all__:
        assert hasattr(module, public), public


UNUSED = {
    "model/artifact.py": {"read_manifest"},  # what a user's script asks of a model file
}


def test_no_public_name_is_there_for_tests_alone():
    """What `__all__` offers somebody in the package takes, or its own module; vulture takes `__all__` for a use."""
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    taken = {path: set(names_taken(tree)) for path, tree in trees.items()}
    for path, tree in trees.items():
        inside = str(path.relative_to(ROOT / "streamae"))
        if path.name == "__init__.py" or inside.startswith("cli/"):  # these take by name what others offer
            continue
        others = set().union(*(names for other, names in taken.items() if other != path))
        own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        assert set(offered(tree)) - others - own == UNUSED.get(inside, set()), inside


def offered(tree):
    """Return the names in `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def names_taken(tree):
    """Yield what a module imports by name, or takes as an attribute of something, also by `getattr`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            yield from (one.value for one in node.args[1:2] if isinstance(one, ast.Constant))


def twice(trees):
    """Names of classes of which there are two: name -> where."""
    found = {}
    for where, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(f"{where}:{node.lineno}")
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_class_name_is_there_twice():
    """One concept, one name: no import of a class needs another name for it, and the same holds of private ones."""
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in FILES}
    assert twice(trees) == {}
    renamed = [
        f"{where}: {alias.name} as {alias.asname}"
        for where, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamae")
        for alias in node.names
        if alias.asname and alias.name[:1].isupper()
    ]
    assert renamed == []
    control = {"a": ast.parse("class A: ...\nclass B: ..."), "b": ast.parse("class _C:\n    class A: ...")}
    assert twice(control) == {"A": ["a:1", "b:2"]}


# Words of the first drafts; each has a name of the field now: notified, again, delivery, detail, maintenance, repaired.
PRIVATE = re.compile(
    r"(?<![a-z])(told|anew|manieth|upkeep|couriers?|tellers?|closeup|mend(s|ed)?)(?![a-z])", re.IGNORECASE
)
# There it is the name of a table and of a key of snapshots, which files of earlier versions have.
STORED_AS_TOLD = {"core/flapping.py", "store/alerts.py", "store/outbox.py", "store/schema.py"}
SCRIPTS = sorted((ROOT / "streamae/web/static").glob("*.js"))


def private_words(text):
    return {found[0].lower() for found in PRIVATE.finditer(text)}


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_names_messages_and_comments_are_in_words_of_the_field(path):
    """None of the private words comes back, in a name, a message, a docstring or a comment."""
    kept = {"told"} if str(path.relative_to(ROOT / "streamae")) in STORED_AS_TOLD else set()
    assert private_words(path.read_text()) == kept


def test_a_private_word_is_found_wherever_it_hides():
    """The control: inside a name, at the beginning of a sentence, and not inside another word."""
    assert private_words("self._told_s  # Mended, and train it anew") == {"told", "mended", "anew"}
    assert private_words("amend the threshold, and recommend fortellers") == set()


def test_nothing_of_the_machine_is_committed():
    """No absolute path of a home or work folder, and no package index, stands in the sources."""
    words = re.compile("/" + "root/|/" + "work/|pypi" + r"\.org|files\.python" + "hosted|download\\.py" + "torch")
    tops = [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml")]
    for path in [
        *FILES,
        *(ROOT / "tests").rglob("*.py"),
        *(p for p in (ROOT / "deploy").rglob("*") if p.is_file() and "_cache" not in str(p)),
        *tops,
    ]:
        found = words.search(path.read_text(errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found and found[0]}"
