"""What README.md and the other pages tell the reader: commands, options, Python, links, figures."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from octo_bench.cli import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(
    [
        README,
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*.md"),
        *ROOT.glob("policies/*/README.md"),
        *ROOT.glob("results/**/README.md"),
    ]
)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_ENDS = {"&&", "||", "|", ";", ">"}


def commands_in(text: str) -> Iterator[list[str]]:
    """The words after `octo-bench` of each command in a page, in code blocks and in the text."""
    blocks = [code for kind, code in _FENCED.findall(text) if kind in ("", "sh")]
    prose = _FENCED.sub("", text)
    blocks += _INDENTED.findall(prose)
    spans = _SPAN.findall(_INDENTED.sub("", prose))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *spans]:
        yield from _commands_of(line)


def _commands_of(line: str) -> Iterator[list[str]]:
    if not re.search(r"\bocto-bench\s", line):
        return
    words = shlex.split(line.replace("\n", " "), comments=True)
    while "octo-bench" in words:
        words = words[words.index("octo-bench") + 1 :]
        end = next((at for at, word in enumerate(words) if word in _ENDS), len(words))
        yield words[:end]
        words = words[end:]


@cache
def known_options() -> dict[str, set[str]]:
    """The long options of each subcommand."""
    commands = typer.main.get_command(app).commands
    return {
        name: {
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--")
        }
        | {"--help"}
        for name, command in commands.items()
    }


def mistakes_of(words: list[str]) -> list[str]:
    """What is wrong with a command, as the words after `octo-bench`."""
    if not words:
        return []  # the command itself is spoken of
    name, *arguments = words
    if name not in known_options():
        return [f"no command '{name}'"]
    given = {word.partition("=")[0] for word in arguments if re.match(r"--\w", word)}
    return [f"{name} has no option '{each}'" for each in sorted(given - known_options()[name])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    commands = list(commands_in(page.read_text(encoding="utf-8")))
    assert [each for words in commands for each in mistakes_of(words)] == []


@pytest.mark.parametrize("command", ["evaluate", "watch", "regress", "collect", "finetune"])
def test_the_readme_shows_how_to_use(command: str) -> None:
    assert command in {words[0] for words in commands_in(README.read_text(encoding="utf-8"))}


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("```sh\nocto-bench envs --json && octo-bench evalute\n```\n", ["no command 'evalute'"]),
        ("Text `octo-bench replay\nquick 3 --demo 5`.\n", ["replay has no option '--demo'"]),
        ("    octo-bench speed \\\n        --simulate x\n", ["speed has no option '--simulate'"]),
        ("```sh\noctobench=1; octo-bench report quick --no-films  # --not one\n```\n", []),
    ],
)
def test_a_wrong_command_is_found(text: str, mistakes: list[str]) -> None:
    found = [each for words in commands_in(text) for each in mistakes_of(words)]
    assert found == mistakes


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def leads_somewhere(target: str, page: Path) -> bool:
    """Whether a link of a page points to a file that is there, and to a heading in it."""
    name, _, anchor = target.partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not anchor or anchor in anchors_of(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    prose = _FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)", prose)
    assert [each for each in targets if "://" not in each and not leads_somewhere(each, page)] == []


def test_every_page_of_the_manual_is_linked_from_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/*.md")]
    assert [page for page in pages if f"]({page})" not in text] == []


def test_every_study_is_listed_among_the_results() -> None:
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    folders = [each.name for each in (ROOT / "results").iterdir() if any(each.glob("*.*"))]
    assert [name for name in folders if f"[{name}]({name}/" not in text] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 160


def test_the_rows_in_the_readme_are_those_that_were_measured() -> None:
    rows = re.search(
        r"^<!-- rows of (\S+) -->\n(.*?)^<!-- end of the rows -->$",
        README.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert rows is not None
    measured = (ROOT / rows[1]).read_text(encoding="utf-8").splitlines()
    shown = [line for line in rows[2].splitlines() if re.search(r"\d+/\d+ = ", line)]
    assert len(shown) >= 4
    assert [line for line in shown if line not in measured] == []


def programs_in(page: Path) -> list[str]:
    """The Python of a page, a block each."""
    blocks = _FENCED.findall(page.read_text(encoding="utf-8"))
    return [code for kind, code in blocks if kind == "python"]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(program, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, program in enumerate(programs_in(page))
    ],
)
def test_the_programs_of_a_page_run(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
