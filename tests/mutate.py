"""Small mistakes, one at a time, that somebody could make in a source: what `make mutants` plants.

A mutant is the text of a file with one expression or statement replaced, so that its diff is a line that a person can
judge. Left alone is what no behaviour hangs on: docstrings, annotations, `__all__`, assertions (they tell the type
checker), arguments of decorators, and the text of messages.
"""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_COMPARED = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
_OPERATORS = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*", ast.Pow: "*",
    ast.BitAnd: "|", ast.BitOr: "&", ast.LShift: ">>", ast.RShift: "<<",
}  # fmt: skip
_CALLED = {
    "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "any": "all", "all": "any", "fmax": "fmin",
    "floor": "ceil", "ceil": "floor", "argmax": "argmin", "startswith": "endswith", "ones": "zeros", "zeros": "ones",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A replacement of `[start, end)` in the text of a file; `within` is the function or class that it stands in."""

    file: str
    text: str
    start: int
    end: int
    new: str
    within: str
    line: int
    in_function: bool

    @cached_property
    def mutated(self) -> str:
        return self.text[: self.start] + self.new + self.text[self.end :]

    @cached_property
    def lines(self) -> tuple[str, str]:
        """The line with the replacement, before and after, as a person reads it."""
        begin = self.text.rfind("\n", 0, self.start) + 1
        stop, stop_new = self.text.find("\n", self.end), self.mutated.find("\n", self.start + len(self.new))
        return " ".join(self.text[begin:stop].split()), " ".join(self.mutated[begin:stop_new].split())

    @cached_property
    def rank(self) -> str:
        """A random number that stays the same when other lines of the file change: the sample is the lowest ones."""
        return hashlib.sha256("\0".join((self.within, *self.lines, self.new)).encode()).hexdigest()


def mutants(file: str, text: str) -> list[Mutant]:
    """All mutants of a source, in the order of their places."""
    return sorted(_Finder(file, text).found, key=lambda one: (one.start, one.new))


class _Finder(ast.NodeVisitor):
    """Walks a tree and notes what can be replaced where."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.found: list[Mutant] = []
        self._within: list[str] = []
        self._functions = 0
        raw = text.encode()
        begins, at = [0], 0
        for line in raw.split(b"\n"):
            at += len(line) + 1
            begins.append(at)
        self._raw, self._begins = raw, begins
        self.visit(ast.parse(text))

    def _place(self, line: int, column: int) -> int:
        """Offset in characters of a place that `ast` gives in lines and bytes."""
        return len(self._raw[: self._begins[line - 1] + column].decode())

    def _source(self, node: ast.expr | ast.stmt) -> str:
        return self.text[slice(*self._span(node))]

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._place(node.lineno, node.col_offset), self._place(node.end_lineno, node.end_col_offset)

    def _note(self, node: ast.expr | ast.stmt, new: str, span: tuple[int, int] | None = None) -> None:
        start, end = span or self._span(node)
        within = ".".join(self._within)
        self.found.append(Mutant(self.file, self.text, start, end, new, within, node.lineno, self._functions > 0))

    def _between(self, left: ast.expr, right: ast.expr, new: str) -> None:
        """Replace the operator between two operands, and leave brackets and line breaks beside it."""
        start, end = self._span(left)[1], self._span(right)[0]
        between = self.text[start:end]
        old = between.strip(" \n\t()")
        place = start + between.index(old)
        self._note(right, new, (place, place + len(old)))

    # What is left alone.

    def _visit_scope(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._within.append(node.name)
        function = not isinstance(node, ast.ClassDef)
        if function:
            for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d)):
                self.visit(default)
        self._functions += function
        for statement in node.body:
            self.visit(statement)
        self._functions -= function
        self._within.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _visit_scope  # noqa: N815

    def visit_Assert(self, node: ast.Assert) -> None:
        """Nothing: an assertion states an invariant to the type checker."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Nothing: a message is text."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not (isinstance(node.targets[0], ast.Name) and node.targets[0].id in {"__all__", "__slots__"}):
            self.generic_visit(node)

    # What is replaced.

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._note(node, "pass")
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._note(node, "pass")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, right, operator in zip(operands, operands[1:], node.ops, strict=False):
            self._between(left, right, _COMPARED[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        is_text = isinstance(node.left, ast.JoinedStr) or isinstance(getattr(node.left, "value", None), str | bytes)
        if type(node.op) in _OPERATORS and not is_text:
            self._between(node.left, node.right, _OPERATORS[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(left, right, "or" if isinstance(node.op, ast.And) else "and")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if not isinstance(node.op, ast.UAdd):
            self._note(node, f"({self._source(node.operand)})")
        self.generic_visit(node)

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self._note(node.test, f"(not ({self._source(node.test)}))")
        self.generic_visit(node)

    visit_IfExp = visit_If  # noqa: N815

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._note(node, str(not node.value))
        elif isinstance(node.value, int):
            self._note(node, str(node.value + 1))
        elif isinstance(node.value, float):
            self._note(node, repr(node.value * 2 if node.value else 1.0))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _CALLED:
            end = self._span(node.func)[1]
            self._note(node, _CALLED[name], (end - len(name), end))
        if name == "where" and len(node.args) == 3:
            first, second, third = map(self._source, node.args)
            span = self._span(node.args[0])[0], self._span(node.args[2])[1]
            self._note(node, f"{first}, {third}, {second}", span)
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._note(node, "break")

    def visit_Break(self, node: ast.Break) -> None:
        self._note(node, "continue")


def of_sources(sources: Iterator[tuple[str, str]]) -> list[Mutant]:
    """All mutants of these (name, text), without those that do not compile."""
    found = []
    for file, text in sources:
        for one in mutants(file, text):
            try:
                compile(one.mutated, file, "exec")
            except SyntaxError:
                continue
            found.append(one)
    return found
