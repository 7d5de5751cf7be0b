"""The rooms of the package: data flows one way, and no room grows too large."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "octo_bench"
ROOMS = (
    *(
        "portability",
        "definitions",
        "processes",
        "rendering",
        "simulation",
        "experts",
        "demonstrations",
    ),
    *("models", "checkpoints", "training", "agents", "statistics", "calibration", "records"),
    *("rollouts", "comparison", "films", "speed", "studies", "tables", "charts", "page"),
    *("reports", "cli"),
)
"""In the order in which data flows: a room imports only from those before it."""
MOST_MODULES = 13
ALONE = ("models", "statistics")
"""Rooms that import nothing of ours but themselves."""


def test_every_folder_is_a_room_in_the_order() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_before_it(room: str) -> None:
    allowed = ROOMS[: ROOMS.index(room) + 1]
    found = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for module in imported(path)
        if ours(module) and first(module) in ROOMS and first(module) not in allowed
    ]
    assert found == []


@pytest.mark.parametrize("room", ALONE)
def test_networks_and_statistics_stand_alone(room: str) -> None:
    modules = {module for path in (PACKAGE / room).rglob("*.py") for module in imported(path)}
    assert {first(module) for module in modules if ours(module)} <= {room}


def test_no_room_is_too_large() -> None:
    sizes = Counter(
        path.parent.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.glob("*/**/*.py")
        if path.name != "__init__.py"
    )
    assert {room: size for room, size in sizes.items() if size > MOST_MODULES} == {}


def test_tests_mirror_the_rooms() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders <= set(ROOMS)
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def imported(path: Path) -> Iterator[str]:
    """The modules that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> bool:
    """Whether a module is the package's, and not the package itself."""
    return module.startswith("octo_bench.")


def first(module: str) -> str:
    """The room of a module, or its name where it is in none."""
    return module.split(".")[1]
