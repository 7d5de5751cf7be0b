"""The part of octo_bench's own code that a result depends on, as a hash.

It is the import closure of a few entry modules, without comments, docstrings and layout: an edit
elsewhere, or of words only, changes no hash.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parents[1]
_NAME = _PACKAGE.name

COLLECTING = ("demonstrations/attempts.py", "demonstrations/collecting.py")
"""Entry modules of what makes a demonstration."""
TRAINING = (*COLLECTING, "training/finetune.py", "training/pretrain.py")
"""Of what makes a policy. Converting released checkpoints is left out: the policy that comes of
it has a fingerprint of its own."""
MEASURING = ("rollouts/episodes.py", "agents/expert.py", "agents/folder.py", "agents/random.py")
"""Of what makes an episode."""

_WITHOUT_EFFECT = (
    *("errors.py", "files.py", "paths.py", "registry.py", "agents/sources.py"),
    *("definitions/support.py", "processes"),
)
"""Modules, and a folder of them, that decide what is refused, where files lie, what is resolved by
name and which process does what, but not what comes out."""


@cache
def code_sha256(entries: tuple[str, ...] = MEASURING) -> str:
    """Hex SHA-256 of the import closure of some modules of the package.

    Args:
        entries: files, relative to the package.
    """
    digest = hashlib.sha256()
    for name in closure(entries):
        digest.update(f"{name}\0{_content(_PACKAGE / name)}\0".encode())
    return digest.hexdigest()


@cache
def closure(entries: tuple[str, ...]) -> tuple[str, ...]:
    """The modules that some modules import, and those that these import, and so on; in order.

    With a module comes the C source of the same name beside it.
    """
    found: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        without_effect = name in _WITHOUT_EFFECT or Path(name).parts[0] in _WITHOUT_EFFECT
        if name not in found and not without_effect:
            found.add(name)
            waiting += _imported(_PACKAGE / name)
            compiled = Path(name).with_suffix(".c")
            if (_PACKAGE / compiled).is_file():
                found.add(compiled.as_posix())
    return tuple(sorted(found))


def _imported(path: Path) -> Iterator[str]:
    """The package's modules that a module imports, anywhere but for type checking only."""
    waiting: list[ast.AST] = [_tree(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += node.orelse
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # What is imported may be a module itself.
            names = [node.module or "", *(f"{node.module}.{each.name}" for each in node.names)]
        for name in names:
            if name.split(".")[0] == _NAME:
                yield from _files(name)
        waiting += ast.iter_child_nodes(node)


def _files(module: str) -> Iterator[str]:
    """The files of a module, relative to the package: its own, and of the packages around it."""
    parts = module.split(".")[1:]
    for depth in range(len(parts) + 1):
        path = Path(*parts[:depth])
        for candidate in (path / "__init__.py", path.with_suffix(".py") if depth else path):
            if candidate.suffix and (_PACKAGE / candidate).is_file():
                yield candidate.as_posix()


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def _content(path: Path) -> str:
    """A module's syntax tree as JSON, the same in every version of Python that knows its syntax.

    Of C source it is the text.
    """
    if path.suffix == ".c":
        return path.read_text()
    return json.dumps(_plain(_tree(path)))


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(each) for each in node if not _is_docstring(each)]
    if not isinstance(node, ast.AST):
        return node if isinstance(node, str | int | type(None)) else repr(node)
    fields = ((name, _plain(value)) for name, value in ast.iter_fields(node))
    return [type(node).__name__, {name: value for name, value in fields if value not in (None, [])}]


def _is_docstring(statement: Any) -> bool:
    """Whether a statement is a text that nothing uses."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
