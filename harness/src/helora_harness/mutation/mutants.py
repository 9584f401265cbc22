"""The mutants of a file: every small change of a kind that would matter here, one at a time.

Texts, annotations and what is raised are left alone, since nothing is computed from them.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

COMPARED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
COMPUTED = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "<<": ">>", ">>": "<<", "%": "//"}
CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
ORDERED = ("-", "/", "//", "%", "<<", ">>", "**", "@")
"""Operators whose operands can be swapped to some effect."""

_PUBLISHED = re.compile(rb'(?<="\d: )\d+|(?<="\d{3}: )\d+|(?<=\d": )\d+')
"""In a security table: a number under a numeric key."""


class Mutant(NamedTuple):
    """Bytes ``start`` to ``end`` of a file, replaced by ``text``."""

    file: str
    line: int
    where: str
    """The function and class around it."""
    kind: str
    start: int
    end: int
    text: bytes
    old: str
    """The lines changed, without indentation, before …"""
    new: str
    """… and after: with ``file`` and ``where`` they name the mutant, wherever the lines move to."""

    @property
    def name(self) -> tuple[str, str, str, str]:
        return self.file, self.where, self.old, self.new

    def order(self, seed: int) -> str:
        """Its place in the order that samples are taken in: other mutants do not move it."""
        return hashlib.sha256(repr((seed, *self.name)).encode()).hexdigest()

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.text + source[self.end :]


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """All of a file's mutants, top to bottom; none twice."""
    found = _of_table(source) if PurePosixPath(file).suffix == ".json" else _Finder(source).changes()
    mutants: dict[tuple[int, int, bytes], Mutant] = {}
    for kind, where, start, end, text in found:
        if source[start:end] == text:
            continue
        first, last = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
        last = len(source) if last < 0 else last
        old, new = source[first:last], source[first:start] + text + source[end:last]
        line = source.count(b"\n", 0, start) + 1
        mutants.setdefault(
            (start, end, text), Mutant(file, line, where, kind, start, end, text, _plain(old), _plain(new))
        )
    return sorted(mutants.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.text))


def _plain(lines: bytes) -> str:
    return "\n".join(line.strip() for line in lines.decode().splitlines())


Change = tuple[str, str, int, int, bytes]
"""Kind, where, first byte, end, new text."""


def _of_table(source: bytes) -> Iterator[Change]:
    for number in _PUBLISHED.finditer(source):
        for step in (1, -1):
            yield "table entry", "", *number.span(), str(int(number[0]) + step).encode()


class _Finder(ast.NodeVisitor):
    def __init__(self, source: bytes) -> None:
        self._source = source
        self._line_starts = [0, *(found.end() for found in re.finditer(rb"\n", source))]
        self._where: list[str] = []
        self._found: list[Change] = []

    def changes(self) -> list[Change]:
        self.visit(ast.parse(self._source))
        return self._found

    def _span(self, node: ast.AST) -> tuple[int, int]:
        # ast counts columns in bytes of UTF-8.
        start = self._line_starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        return start, self._line_starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> bytes:
        start, end = self._span(node)
        return self._source[start:end]

    def _change(self, kind: str, node: ast.AST, text: bytes) -> None:
        self._found.append((kind, ".".join(self._where), *self._span(node), text))

    def _change_between(self, kind: str, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """The operator between two operands, which parentheses and a comment may surround."""
        start, end = self._span(left)[1], self._span(right)[0]
        at = self._source.index(old.encode(), start, end)
        self._found.append((kind, ".".join(self._where), at, at + len(old), new.encode()))

    # What is not changed.

    def visit_Raise(self, node: ast.Raise) -> None: ...
    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...
    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in (*node.defaults, *node.kw_defaults):
            if default is not None:
                self.visit(default)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._where.append(node.name)
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)
        self._where.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._where.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._where.pop()

    # Guards and statements.

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        only = node.body[0] if len(node.body) == 1 and not node.orelse else None
        if isinstance(only, ast.Raise):
            self._change("guard dropped", node.test, b"False")
        elif isinstance(only, (ast.Continue, ast.Break)):
            self._change("statement dropped", only, b"pass")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._change("statement dropped", node, b"pass")
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, (ast.BinOp, ast.Call)) and self._is_estimate(node.value):
            self._change("halved", node.value, b"(" + self._text(node.value) + b") / 2")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.value, ast.BinOp) and self._is_estimate(node.value):
            self._change("halved", node.value, b"(" + self._text(node.value) + b") / 2")
        self.generic_visit(node)

    def _is_estimate(self, node: ast.AST) -> bool:
        """Whether an error, a variance or a magnitude is likely to come out: something is multiplied, or a power."""
        return any(
            isinstance(each, ast.BinOp) and isinstance(each.op, (ast.Mult, ast.Div, ast.Pow)) for each in ast.walk(node)
        )

    # Expressions.

    def visit_Compare(self, node: ast.Compare) -> None:
        for (left, right), operator in zip(pairwise((node.left, *node.comparators)), node.ops, strict=True):
            old = _SIGNS.get(type(operator), "")
            if old in COMPARED:
                self._change_between("comparison", left, right, old, COMPARED[old])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        old = _SIGNS.get(type(node.op), "")
        if old in COMPUTED:
            self._change_between("operator", node.left, node.right, old, COMPUTED[old])
        left, right = self._text(node.left), self._text(node.right)
        if old in ORDERED:
            self._change("swapped", node, b"(" + right + b") " + old.encode() + b" (" + left + b")")
        if old == "//":
            self._change("rounding", node, b"-(-(" + left + b") // (" + right + b"))")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self._change_between("and/or", left, right, old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.Not, ast.USub)) and not isinstance(node.operand, ast.Constant):
            self._change("sign", node, b"(" + self._text(node.operand) + b")")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in CALLED:
            self._change("call", node.func, CALLED[node.func.id].encode())
        commutes = isinstance(node.func, ast.Name) and node.func.id in CALLED
        for one, other in pairwise(node.args if not commutes else ()):
            if isinstance(one, (ast.Name, ast.Attribute)) and isinstance(other, (ast.Name, ast.Attribute)):
                start, end = self._span(one)[0], self._span(other)[1]
                between = self._source[self._span(one)[1] : self._span(other)[0]]
                swapped = self._text(other) + between + self._text(one)
                self._found.append(("swapped", ".".join(self._where), start, end, swapped))
        for keyword in node.keywords:
            if (keyword.arg or "").endswith("bits") and not isinstance(keyword.value, ast.Constant):
                self._change("fewer bits", keyword.value, b"(" + self._text(keyword.value) + b") - 1")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._change("constant", node, str(not node.value).encode())
        elif isinstance(node.value, int):
            for step in (1, -1):
                self._change("constant", node, str(node.value + step).encode())
        elif isinstance(node.value, float):
            self._change("halved", node, repr(node.value / 2).encode())


_SIGNS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.LShift: "<<", ast.RShift: ">>",
    ast.Mod: "%", ast.Pow: "**", ast.MatMult: "@",
}  # fmt: skip
