"""A YAML file as a tree of plain values, with the place of every value in the file.

Scalars are read by YAML 1.2's core schema, not 1.1's: `no`, `on` and `yes` are text, `1:30` is text and not ninety,
`010` is text and not eight, a date is text. A key that wants a bool or a number then refuses them by name, instead of
quietly taking something else than was written. Duplicate keys, merge keys and custom tags are refused.

`${NAME}` inside a scalar is replaced from the environment, without line ends behind it (`$${` stands for a literal
`${`); a value that came from
there is an `Interpolated`, so that a secret may be taken from it, and messages always show the text as it stands in
the file, never what it was replaced by.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from streamae.errors import ConfigError

__all__ = ["OR_WRITE_IT", "Document", "Interpolated", "Loc", "Mistake", "key_text", "read"]

Loc = tuple[str | int, ...]
OR_WRITE_IT = ", or write the value here"  # where a variable is unset; not for a secret

_NODES_MAX = 100_000  # aliases of aliases can blow a short file up; no honest configuration comes near
_BYTES_MAX = 1 << 20  # a configuration of hundreds of groups has a tenth of it; YAML is slow to read
_SHOWN_MAX = 60
_VARIABLE = re.compile(r"\$(\$\{)|\$\{([^}]*)\}")
_TAG = "tag:yaml.org,2002:"


class Interpolated(str):
    """Text that was, at least in part, taken from the environment; `blank` are variables that hold no text."""

    __slots__ = ("blank",)
    blank: tuple[str, ...]


@dataclass(frozen=True, order=True, slots=True)
class Mistake:
    """One line of a ConfigError; `line` and `column` count from 1."""

    line: int
    column: int
    key: str
    got: str
    remedy: str

    def text(self, path: Path) -> str:
        """Return `file:line:column: key: got value; do this`."""
        return f"{path}:{self.line}:{self.column}: {self.key}: got {self.got}; {self.remedy}"


class _Loader(yaml.SafeLoader):
    """SafeLoader with the implicit types of the YAML 1.2 core schema (spec 1.2.2, section 10.3.2)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own way to drop the 1.1 resolvers)


def _resolve(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(_TAG + kind, re.compile(f"^(?:{pattern})$"), list(first))


_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("null", "~|null|Null|NULL|", "~nN")
_Loader.yaml_implicit_resolvers.setdefault("", []).append((_TAG + "null", re.compile("^$")))
_resolve("int", "[-+]?(?:0|[1-9][0-9]{0,30})|0x[0-9a-fA-F]{1,24}", "-+0123456789")
_resolve("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolve("merge", "<<", "<")


@dataclass
class Document:
    """The tree of one file, its nodes with their marks, and what was wrong before any key was judged."""

    path: Path
    root: Node
    tree: Any = None
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, loc: Loc, remedy: str, got: str | None = None, at_key: bool = False) -> Mistake:
        """Return a mistake at the value (or key) that `loc` leads to, passing over steps that do not exist."""
        key, value = self._nodes(loc)
        mark = (key if at_key else value).start_mark
        return Mistake(mark.line + 1, mark.column + 1, key_text(loc), shown(value) if got is None else got, remedy)

    def text(self, loc: Loc) -> str:
        """Return the text of a scalar as the file has it, "" for anything else."""
        node = self._nodes(loc)[1]
        return str(node.value) if isinstance(node, ScalarNode) else ""

    def _nodes(self, loc: Loc) -> tuple[Node, Node]:
        key = value = self.root
        for step in loc:
            if isinstance(value, MappingNode):
                pairs = [(k, v) for k, v in value.value if k.value == step]
                key, value = pairs[0] if pairs else (key, value)
            elif isinstance(value, SequenceNode) and isinstance(step, int) and step < len(value.value):
                key = value = value.value[step]
        return key, value

    def has(self, loc: Loc) -> bool:
        """Whether the file has something at this place."""
        here = self.tree
        for step in loc:
            if isinstance(here, list):
                here = dict(enumerate(here))
            if not isinstance(here, Mapping) or step not in here:
                return False
            here = here[step]
        return True


def key_text(loc: Loc) -> str:
    """`("streams", "pumps", "topics", 0)` -> `streams.pumps.topics[0]`; the document itself is `(file)`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    return text.removeprefix(".") or "(file)"


def shown(node: Node) -> str:
    """Return a value as the file has it, short and on one line."""
    if isinstance(node, MappingNode):
        return "a mapping" if node.value else "an empty mapping"
    if isinstance(node, SequenceNode):
        return "a list" if node.value else "an empty list"
    text = str(node.value)
    if (isinstance(node, ScalarNode) and node.style is not None) or not text.isprintable():
        text = repr(text)
    if not text:
        return "nothing"
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."


def read(path: Path, environ: Mapping[str, str]) -> Document:
    """Read `path`; raise ConfigError where it is no YAML at all, and collect the rest in `.mistakes`."""
    document = Document(path, _compose(path, _text(path)))
    builder = _Builder(document, environ)
    document.tree = builder.value(document.root, ())
    return document


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_BYTES_MAX + 1)
        if len(raw) > _BYTES_MAX:
            raise ConfigError(
                f"{path}:1:1: (file): got more than {_BYTES_MAX >> 20} MiB; is it a configuration? Remove what is none"
            )
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}:1:1: (file): got byte {error.start} that is not UTF-8; save the file as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}:1:1: (file): got {error.strerror}; name a readable YAML file") from None


def _compose(path: Path, text: str) -> Node:
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise ConfigError(f"{path}:{place}: (file): got no valid YAML ({what}); {_syntax_remedy(what)}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"{path}:1:1: (file): got the control character #x{ord(str(error.character)[:1]):02x}; remove it"
        ) from None
    except RecursionError:
        raise ConfigError(f"{path}:1:1: (file): got lists or mappings nested too deep; flatten them") from None
    if root is None or (isinstance(root, ScalarNode) and not root.value):
        raise ConfigError(f"{path}:1:1: (file): got an empty file; start from deploy/streamae.yaml")
    if not isinstance(root, MappingNode):
        raise ConfigError(f"{path}:1:1: (file): got {shown(root)}; write a mapping of keys such as `streams:`")
    return root


def _syntax_remedy(what: str) -> str:
    if "\\t" in what:
        return "indent with spaces, not tabs"
    if "single document" in what:
        return "keep one document a file, without a second `---`"
    if "undefined alias" in what:
        return "put a value that starts with * in quotes"
    if "mapping values are not allowed" in what:
        return "put a value that contains `: ` in quotes, and check the indentation"
    return "check quotes, brackets and indentation from here upwards"


def _utf8(text: str) -> bool:
    """Whether a value of the environment is text: bytes that are not UTF-8 come as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


class _Builder:
    """Nodes -> plain values; what cannot be read becomes None and a mistake."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._open: set[int] = set()
        self._left = _NODES_MAX

    def value(self, node: Node, loc: Loc) -> Any:
        self._left -= 1
        if self._left < 0:
            place = f"{self._document.path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
            raise ConfigError(f"{place}: {key_text(loc)}: got more than {_NODES_MAX} values; write fewer aliases")
        if id(node) in self._open:
            return self._refuse(node, loc, "write the value out; this alias contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return dict(self._items(node, loc))
            if isinstance(node, SequenceNode):
                return [self.value(item, (*loc, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, loc)
        finally:
            self._open.discard(id(node))

    def _items(self, node: MappingNode, loc: Loc) -> Iterator[tuple[str, Any]]:
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._refuse(key, loc, "write plain text as a key")
            elif key.tag == _TAG + "merge":
                self._refuse(key, loc, "write the keys out; merge keys are not part of YAML 1.2")
            elif key.value in lines:
                first = f"the key of line {lines[key.value]} again"
                self._refuse(key, (*loc, key.value), "keep one of the two", got=first)
            else:
                lines[key.value] = key.start_mark.line + 1
                yield key.value, self.value(value, (*loc, key.value))

    def _scalar(self, node: Node, loc: Loc) -> Any:  # noqa: PLR0911  (one line a type)
        text = str(node.value)
        if not node.tag.startswith(_TAG):
            return self._refuse(node, loc, f"remove the tag {node.tag}")
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 16 if text.startswith("0x") else 10)
            case "float":
                return float(text)
            case "str":
                return self._interpolate(node, text, loc)
            case other:
                return self._refuse(node, loc, f"remove the tag !!{other}")

    def _interpolate(self, node: Node, text: str, loc: Loc) -> str:
        if "${" not in text:
            return text
        replaced = False
        blank: list[str] = []

        def put(match: re.Match[str]) -> str:
            nonlocal replaced
            name = match[2]
            if match[1]:
                return "${"
            if name not in self._environ:
                self._refuse(node, loc, f"set the environment variable {name or '(no name)'}{OR_WRITE_IT}")
                return ""
            replaced = True
            value = self._environ[name].rstrip("\r\n")  # of `$(cat file)`'s kin and of Kubernetes' secrets
            if not _utf8(value):
                self._refuse(node, loc, f"set the environment variable {name} to text in UTF-8")
            if not value.strip():
                blank.append(name)
            return value

        result = _VARIABLE.sub(put, text)
        if not replaced:
            return result
        taken = Interpolated(result)
        taken.blank = tuple(blank)
        return taken

    def _refuse(self, node: Node, loc: Loc, remedy: str, got: str | None = None) -> None:
        mark = node.start_mark
        got = shown(node) if got is None else got
        self._document.mistakes.append(Mistake(mark.line + 1, mark.column + 1, key_text(loc), got, remedy))
