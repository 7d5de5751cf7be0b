"""The page of a study: one HTML file that needs nothing else, and its figures as SVG."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from octo_bench import __version__
from octo_bench.charts.curves import curves, strip
from octo_bench.charts.head_differences import heads
from octo_bench.charts.outcomes import funnels, heat_maps
from octo_bench.charts.svg import Chart, style, write_charts
from octo_bench.file_names import plain
from octo_bench.files import write_text
from octo_bench.page.episode_list import list_episodes, outcome_of
from octo_bench.page.facts import facts_of
from octo_bench.page.films import MOST, RULE, Film, choose_films, make_films
from octo_bench.page.study_report import study_table
from octo_bench.records.conditions import condition_of
from octo_bench.records.record import EpisodeRecord, measure_of, read_records
from octo_bench.simulation.stages import NO_STAGE
from octo_bench.simulation.world import CONTROL_FREQUENCY
from octo_bench.statistics.hierarchical import AS_TRAINED, TRAINED_ANEW
from octo_bench.statistics.standing import MARGIN
from octo_bench.studies.artifacts import RECORDS
from octo_bench.studies.cells import recipe_of
from octo_bench.studies.study import Study
from octo_bench.tables import wording
from octo_bench.tables.sections import Section, headline, sections_of, summary_of
from octo_bench.tables.uncertainty import FEWEST_DRAWS

_TEMPLATES = "templates"


@dataclass(frozen=True)
class ShownFilm:
    """A film as the page has it.

    Attributes:
        anchor: its place in the page.
        name: for those who do not see it.
        note: what is written below it.
        data: the file, base64; "" where there is none.
    """

    anchor: str
    outcome: str
    name: str
    note: str
    data: str


@dataclass(frozen=True)
class FilmRow:
    """The films of one row of the table."""

    name: str
    films: tuple[ShownFilm, ...]

    @property
    def filmed(self) -> bool:
        return any(film.data for film in self.films)


@dataclass(frozen=True)
class Figures:
    """The drawings of a section."""

    curve: tuple[Chart, ...]
    heat_map: tuple[Chart, ...]
    funnel: tuple[Chart, ...]
    heads: tuple[Chart, ...]


def write_page(study: Study, folder: Path, out: Path, *, films: bool = True) -> list[str]:
    """Write the page of a study that has run in `folder`.

    A page in that folder gets its figures beside it, and films that are missing are made. A page
    elsewhere is the only file that is written.

    Args:
        study: the declaration.
        folder: with its records.
        out: where the page goes, .html.
        films: whether to make the films that are missing, where the policies are there.

    Returns:
        What could not be filmed, and why.

    Raises:
        BadFile: for records or results that are missing or broken.
    """
    records = read_records(folder / RECORDS)
    measure = measure_of(records)
    table = study_table(study, folder)
    recipes = {entry.name: recipe_of(study, entry) for entry in study.policies}
    sections = sections_of(records, table, recipes)
    chosen = choose_films(records, folder)
    at_home = out.resolve().parent == folder.resolve()
    problems = make_films(chosen[:MOST], folder) if films and at_home else []
    shown = {
        film.record: _shown(film, place, film.is_there and place < MOST)
        for place, film in enumerate(chosen)
    }
    places = {record: film.anchor for record, film in shown.items() if film.data}
    figures = [_figures(section) for section in sections]
    if at_home:
        for section, drawn in zip(sections, figures, strict=True):
            _write_figures(section, drawn, folder)
    script = _template_file("page.js")
    text = (
        _templates()
        .get_template("page.html.jinja")
        .render(
            title=study.title,
            name=folder.resolve().name,
            headline=headline(sections),
            first=summary_of(sections[0]),
            held=measure == "held",
            success=wording.SUCCESS[measure],
            fewest_draws=FEWEST_DRAWS,
            parts=list(zip(sections, figures, strict=True)),
            films=_film_rows(shown),
            film_rule=RULE,
            most_films=MOST,
            episodes=list_episodes(records, places),
            finished=table.finished,
            declared=table.declared,
            errors=sum(bool(record.error) for record in records),
            count=len(records),
            invalid=sum(each.row.invalid for section in sections for each in section.rows),
            facts=facts_of(study, folder, records),
            margin=MARGIN,
            claims={"as_trained": AS_TRAINED, "trained_anew": TRAINED_ANEW},
            styles=style() + _template_file("page.css"),
            script=script,
            script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            version=__version__,
        )
    )
    write_text(out, text)
    return problems


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("octo_bench.page", _TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": wording.percent,
        "between": wording.between,
        "duration": wording.duration,
        "counted": wording.counted,
        "demonstrations": wording.demonstrations,
        "environment_name": wording.environment_name,
        "p_value": wording.p_value,
        "points": wording.points,
        "points_between": wording.points_between,
        "strip": strip,
    }
    return environment


def _template_file(name: str) -> str:
    folder = resources.files("octo_bench.page") / _TEMPLATES
    return (folder / name).read_text(encoding="utf-8")


def _figures(section: Section) -> Figures:
    return Figures(
        curve=curves(section),
        heat_map=heat_maps(section),
        funnel=funnels(section),
        heads=heads(section.heads),
    )


def _write_figures(section: Section, figures: Figures, folder: Path) -> None:
    """`curve.svg` and so on; of a perturbed condition `curve-camera-2.svg`."""
    condition = section.condition
    parts = [f"{condition.suite}-{condition.level}"] if condition.suite else []
    parts += [condition.inference] if condition.inference else []
    ending = "".join(f"-{plain(part)}" for part in parts)
    for name, columns in (("curve", 2), ("heat_map", 4), ("funnel", 2), ("heads", 1)):
        if drawn := getattr(figures, name):
            write_charts(drawn, columns, folder / f"{name}{ending}.svg")


def _film_rows(shown: dict[EpisodeRecord, ShownFilm]) -> tuple[FilmRow, ...]:
    rows: dict[str, list[ShownFilm]] = {}
    for record, film in shown.items():
        rows.setdefault(_row_name(record), []).append(film)
    return tuple(FilmRow(name, tuple(films)) for name, films in rows.items())


def _row_name(record: EpisodeRecord) -> str:
    name = f"{record.policy}, {wording.environment_name(record.env_id)}"
    name += f", {wording.demonstrations(record.demos)}"
    if record.suite or record.inference:
        name += f" ({condition_of(record).name})"
    return name


def _shown(film: Film, place: int, with_data: bool) -> ShownFilm:
    record = film.record
    outcome = outcome_of(record)
    seconds = record.steps / CONTROL_FREQUENCY
    ended = "" if outcome == "success" else f", {_furthest(record)}"
    return ShownFilm(
        anchor=f"film-{place}",
        outcome=outcome,
        name=f"{_row_name(record)}, episode {record.episode}: {outcome}",
        note=f"Episode {record.episode}, {seconds:.1f} s{ended}",
        data=base64.b64encode(film.file.read_bytes()).decode() if with_data else "",
    )


def _furthest(record: EpisodeRecord) -> str:
    """How far a failure got."""
    if record.success_once:
        return "reached success and lost it"
    stage = record.furthest_stage
    return "no stage reached" if stage == NO_STAGE else f"got as far as “{stage.replace('_', ' ')}”"
