"""The page of a study: what it says, and what it holds."""

from __future__ import annotations

import html
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.synthetic_study import (
    LIFT_IIWA,
    STACK,
    TITLE,
    cell,
    episode,
    made_up_records,
    write_study,
)
from octo_bench.cli import run
from octo_bench.errors import BadFile
from octo_bench.file_names import plain
from octo_bench.page.episode_list import list_episodes
from octo_bench.page.films import FOLDER, MOST, choose_films
from octo_bench.page.page import write_page
from octo_bench.page.study_report import write_reports
from octo_bench.records.conditions import Condition
from octo_bench.records.record import EpisodeRecord, read_records
from octo_bench.studies.study import read_study
from octo_bench.tables.csv_files import read_rows
from octo_bench.tables.references import ReferencePoint
from octo_bench.tables.sections import Section, headline, sections_of
from octo_bench.tables.table import Table, summarise

ONE_TRAINING = [(0, 0)]
SEVERAL = [(0, 0), (1, 0), (2, 0)]
FIGURES = ("curve", "heat_map", "funnel", "heads")


def sections(
    records: list[EpisodeRecord], reference: dict[int, float] | None = None
) -> tuple[Section, ...]:
    reference = {n: ReferencePoint(rate, 30.0) for n, rate in (reference or {}).items()}
    table = Table(title="A study", rows=(), references={STACK: reference})
    return sections_of(records, table)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of everything: two heads, several trainings, errors, a perturbed condition."""
    records = made_up_records(20, SEVERAL)
    records[3] = replace(records[3], error="FatalError: QACC", success_once=False)
    folder = write_study(tmp_path_factory.mktemp("study") / "everything", records)
    write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
    return folder / "report.html"


# What is counted.


def test_conditions_are_counted_apart() -> None:
    plain, perturbed = cell([True] * 8, demos=50), cell([False] * 8, demos=50)
    camera = [replace(record, suite="camera", level=2) for record in perturbed]
    asked = [replace(record, inference="execute=2") for record in perturbed]
    found = sections(plain + camera + asked, reference={50: 0.5})
    assert [section.condition for section in found] == [
        Condition(),
        Condition(inference="execute=2"),
        Condition(suite="camera", level=2),
    ]
    assert [section.rows[0].row.rate for section in found] == [1.0, 0.0, 0.0]
    # The reference is measured unperturbed.
    assert [section.rows[0].against is not None for section in found] == [True, False, False]


def test_one_training_says_nothing_of_training_anew() -> None:
    (section,) = sections(cell([True, False] * 10, demos=50))
    assert section.rows[0].trained_anew is None
    assert not section.trained_several_times


def test_several_trainings_say_it_and_the_verdict_is_on_it() -> None:
    rates = ((18, 0), (9, 1), (2, 2))
    records = []
    for successes, draw in rates:
        outcomes = [True] * successes + [False] * (20 - successes)
        records += cell(outcomes, demos=50, draw=draw)
    (section,) = sections(records, reference={50: 0.5})
    (row,) = section.rows
    assert row.trained_anew is not None
    assert row.trained_anew.high - row.trained_anew.low > row.as_trained.high - row.as_trained.low
    assert row.against is not None and row.against.trained_anew
    assert row.against.remark.endswith("; more trainings would decide")


def test_the_mean_over_targets_knows_of_the_trainings_too() -> None:
    records = []
    for env_id in (STACK, LIFT_IIWA):
        for successes, draw in ((18, 0), (9, 1), (2, 2)):
            outcomes = [True] * successes + [False] * (20 - successes)
            records += cell(outcomes, env_id=env_id, demos=50, draw=draw)
    reference = {env_id: {50: ReferencePoint(0.5, 30.0)} for env_id in (STACK, LIFT_IIWA)}
    table = Table("A study", summarise(records, {}), reference, targets=(STACK, LIFT_IIWA))
    (section,) = sections_of(records, table)
    (mean,) = section.means[0].rows
    assert mean.trained_anew is not None and mean.units == 3
    assert mean.trained_anew.width > mean.as_trained.width
    assert mean.against is not None and mean.against.trained_anew
    one = section.rows[0]
    assert one.trained_anew is not None and mean.trained_anew.width < one.trained_anew.width


def test_errors_are_no_failures_and_bound_the_rate() -> None:
    records = cell([True] * 6 + [False] * 4)
    records[9] = replace(records[9], error="FatalError: QACC")
    (section,) = sections(records)
    (measured,) = section.rows
    assert (measured.row.successes, measured.row.episodes, measured.row.errors) == (6, 9, 1)
    assert (measured.row.completion.worst, measured.row.completion.best) == (0.6, 0.7)
    assert section.funnels[0].columns[0][1] == 9


def test_a_row_of_errors_only_has_a_page_too(tmp_path: Path) -> None:
    records = [replace(r, error="FatalError: QACC") for r in cell([False] * 5)]
    folder = write_study(tmp_path, records + cell([True] * 5, demos=50))
    write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
    text = (folder / "report.html").read_text()
    assert "no episode was completed" in text
    assert "<strong>Invalid.</strong>" in text


def test_the_funnel_counts_who_came_as_far_or_further() -> None:
    stages = ["none", "reach", "reach", "grasp", "align"]
    records = [replace(episode(n, False), furthest_stage=stage) for n, stage in enumerate(stages)]
    records.append(episode(5, True))
    (section,) = sections(records)
    (funnel,) = section.funnels
    assert funnel.stages == ("reach", "grasp", "lift", "align", "success", "hold")
    assert funnel.columns == ((0, 6, (5, 3, 2, 2, 1, 1)),)
    assert funnel.ended == ("reach", 2, 5)


def test_the_heat_map_has_every_task_and_arm() -> None:
    (section,) = sections(cell([True, False]) + cell([True, True], env_id=LIFT_IIWA))
    (heat,) = section.heat
    assert (heat.tasks, heat.arms) == (("Stack", "Lift"), ("Panda", "IIWA"))
    assert {place: row.rate for place, row in heat.cells.items()} == {
        ("Stack", "Panda"): 0.5,
        ("Lift", "IIWA"): 1.0,
    }


def test_the_headline_tells_the_first_and_the_last_rate_and_the_verdicts() -> None:
    records = cell([True] * 10 + [False] * 40) + cell([True] * 47 + [False] * 3, demos=200)
    assert headline(sections(records, reference={0: 0.35, 200: 0.87})) == (
        "octo-tiny succeeds at Stack on Panda in 20 % of the episodes without demonstrations and "
        "in 94 % with 200 demonstrations. Beside the reference: below with 0 demonstrations; "
        "cannot tell yet with 200."
    )
    text = headline(sections(records, reference={0: 0.9, 200: 0.87}))
    assert text.endswith("below with 0 demonstrations; cannot tell yet with 200.")


# The episode list and the films.


def test_columns_that_are_the_same_everywhere_are_left_out() -> None:
    records = cell([True, False], demos=50)
    listed = list_episodes(records, {records[0]: "film-0"})
    assert listed.columns[0] == "outcome" and listed.columns[-1] == "film"
    assert "demonstrations" not in listed.columns
    assert ("demonstrations", 50) in listed.constants
    assert [(row[0], row[-1]) for row in listed.rows] == [("success", "film-0"), ("failure", "")]


def test_films_show_the_first_success_and_the_first_failure_of_each_row(tmp_path: Path) -> None:
    records = cell([False, True, True]) + cell([True] * 3, demos=50, draw=1)
    records += cell([False, True, True], demos=50, draw=0)
    broken = replace(episode(0, False, demos=200), error="FatalError: QACC")
    folder = write_study(tmp_path, [*records, broken])
    films = choose_films(read_records_of(folder), folder)
    shown = [
        (f.record.demos, f.record.draw, f.record.episode, f.record.success_once) for f in films
    ]
    assert shown == [(0, 0, 1, True), (0, 0, 0, False), (50, 0, 1, True), (50, 0, 0, False)]
    assert re.fullmatch(
        r"octo-tiny-Stack-Panda-000-[0-9a-f]{8}-0001-success\.mp4", films[0].file.name
    )
    assert films == choose_films(read_records_of(folder), folder)
    # Other weights have another key, and so another film.
    result = json.loads((folder / "study_result.json").read_text())
    result["cells"][0]["key"] = "0" * 64
    (folder / "study_result.json").write_text(json.dumps(result))
    assert choose_films(read_records_of(folder), folder)[0].file != films[0].file


def test_films_that_are_there_are_in_the_page(tmp_path: Path) -> None:
    folder = write_study(tmp_path, cell([True, False]) + cell([True, False], demos=50))
    film = choose_films(read_records_of(folder), folder)[0].file
    film.parent.mkdir()
    film.write_bytes(b"a film")
    assert film.parent == folder / FOLDER
    write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
    text = (folder / "report.html").read_text()
    assert text.count("data-film=") == 1
    assert "no film of it" in text
    assert "No films of octo-tiny, Stack on Panda, with 50 demonstrations." in text


def test_a_page_holds_only_so_many_films(tmp_path: Path) -> None:
    records = [r for demos in range(MOST) for r in cell([True, False], demos=demos)]
    records = [replace(r, demos=50, draw=0, suite="camera", level=r.demos + 1) for r in records]
    folder = write_study(tmp_path, records)
    films = choose_films(read_records_of(folder), folder)
    assert len(films) == 2 * MOST
    films[0].file.parent.mkdir()
    for film in films:
        film.file.write_bytes(b"a film")
    write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
    text = (folder / "report.html").read_text()
    assert text.count("data-film=") == MOST
    assert f"No films of {MOST // 2} more rows." in text


def read_records_of(folder: Path) -> list[EpisodeRecord]:
    return read_records(folder / "episodes.parquet")


# The file.


class Links(HTMLParser):
    """Everything in a page that names something else."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "srcset", "poster", "action", "data", "xlink:href")
        self.found += [value or "" for name, value in attrs if name in names]


def test_the_page_names_nothing_outside_itself(page: Path) -> None:
    links = Links()
    links.feed(page.read_text())
    assert links.found
    assert [link for link in links.found if not link.startswith(("#", "data:"))] == []
    assert {"link", "iframe", "img", "object"} & set(links.tags) == {"link"}  # the empty icon
    assert not re.search(r"@import|url\(|https?://", page.read_text())


def test_what_the_study_says_is_text_and_no_markup(page: Path) -> None:
    text = page.read_text()
    assert "<script>alert" not in text
    assert text.count(html.escape(TITLE, quote=False).replace('"', "&#34;")) >= 2


def test_the_page_says_all_it_is_to_say(page: Path) -> None:
    text = page.read_text()
    for said in (
        "Success by demonstrations: nothing perturbed",
        "Success by demonstrations: camera, level 2; execute=2",
        "If retrained",
        "cannot tell yet</span>",
        "1 infrastructure error: ",
        "Action heads compared",
        "By task and arm",
        "Stages reached",
        "octo-bench reproduce ",
        "octo-bench replay ",
        "6" * 64,
    ):
        assert said in text
    assert re.search(r"(above|below)</span>", text)


def test_figures_are_svg_files_and_always_the_same(page: Path, tmp_path: Path) -> None:
    names = [f"{name}{end}.svg" for name in FIGURES for end in ("", "-camera-2-execute-2")]
    names.remove("heads-camera-2-execute-2.svg")  # one head was measured so,
    names.remove("heat_map-camera-2-execute-2.svg")  # and one place
    for name in names:
        root = ElementTree.parse(page.parent / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.get("width", "0")) > 100
    again = tmp_path / page.parent.name
    shutil.copytree(page.parent, again)
    for name in names:
        (again / name).unlink()
    write_page(read_study(again / "study.toml"), again, again / "report.html", films=False)
    for name in names:
        assert (again / name).read_bytes() == (page.parent / name).read_bytes()


def test_a_page_elsewhere_is_the_only_file_that_is_written(page: Path, tmp_path: Path) -> None:
    study, elsewhere = tmp_path / page.parent.name, tmp_path / "elsewhere"
    shutil.copytree(page.parent, study)
    elsewhere.mkdir()

    def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
        files = (each for each in folder.rglob("*") if each.is_file())
        return {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in files}

    before = contents(study)
    assert run(["report", str(study), "--out", str(elsewhere / "page.html")]) == 0
    assert contents(study) == before
    assert [each.name for each in elsewhere.iterdir()] == ["page.html"]


def test_what_records_say_leads_out_of_no_folder(tmp_path: Path) -> None:
    odd = {"suite": "../../outside", "level": 1, "inference": "/../x=1"}
    records = cell([True, False]) + cell([True, False], **odd)
    records += cell([True, False], suite="a/b", level=1) + cell([True], suite="a:b", level=1)
    folder = write_study(tmp_path / "deep" / "er" / "study", records)
    write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
    (folder / "films").mkdir()
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert all(each.parent == folder for each in files)
    for film in choose_films(records, folder):
        assert film.file.resolve().parent == (folder / "films").resolve()
    assert len({each.name for each in files if each.name.startswith("curve")}) == 4
    assert plain("camera-2") == "camera-2" and plain("execute=2") == "execute-2"
    assert plain("..") and "/" not in plain("a/b") and plain("a/b") != plain("a:b")


def test_the_command_writes_the_tables_and_figures_again(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(page.parent, folder)
    assert run(["report", str(folder), "--no-films"]) == 0
    for name in ("table.md", "table.csv", "figure.svg", "figure.png", "curve.svg"):
        assert (folder / name).is_file()


def test_the_page_begins_with_one_table_and_one_curve(page: Path) -> None:
    text = page.read_text()
    first = text[text.index('<div class="first">') : text.index("<nav")]
    assert first.count("<table") == 1 and first.count("<svg") == 1
    for gone in ("Do it again", "cannot be told yet", "came to no stage", "rained anew"):
        assert gone not in text
    assert "If retrained" in text


def test_a_study_with_one_head_has_no_part_on_heads(tmp_path: Path) -> None:
    folder = write_study(tmp_path, cell([True, False] * 5))
    write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
    text = (folder / "report.html").read_text()
    for part in ("heads", "curve", "heat-map"):  # nothing to compare, one curve, one place
        assert f'href="#{part}"' not in text and f'id="{part}"' not in text


def test_success_that_held_is_counted_and_old_records_are_said_to_be_old(tmp_path: Path) -> None:
    lost = [
        replace(each, success_held=False, furthest_stage="success") for each in cell([True] * 10)
    ]
    new = write_study(tmp_path / "new", lost)
    old = write_study(tmp_path / "old", [replace(each, success_held=None) for each in lost])
    texts = []
    for folder in (new, old):
        write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
        write_reports(read_study(folder / "study.toml"), folder)
        texts.append((folder / "report.html").read_text() + (folder / "table.md").read_text())
    assert "octo-tiny succeeds at Stack on Panda in 0 % of the episodes" in texts[0]
    assert "reached success and lost it" in texts[0] and "Reached once" in texts[0]
    assert "octo-tiny succeeds at Stack on Panda in 100 % of the episodes" in texts[1]
    assert texts[1].count("recorded before success had to hold: success_held is unknown") >= 2
    assert "recorded before" not in texts[0]
    (row,) = read_rows(new / "table.csv")
    assert (row.measure, row.successes, row.once) == ("held", 0, 10)


def test_every_figure_says_what_is_to_be_seen(page: Path) -> None:
    text = page.read_text()
    figures = re.findall(r'<svg class="chart" role="img".*?<title>(.*?)</title>', text)
    assert len(figures) > 8
    assert all(len(figure) > 20 for figure in figures)
    assert any("Success rate: octo-tiny: " in figure for figure in figures)


# The command.


def test_the_command_writes_the_page(page: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "page.html"
    assert run(["report", str(page.parent), "--no-films", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"Written to {out}.\n"
    assert out.read_text() == page.read_text()


def test_mistakes_are_told_in_one_line(page: Path, tmp_path: Path, capsys) -> None:
    study = page.parent
    for arguments, said in (
        (["no-such-study"], "unknown study 'no-such-study'; known: "),
        ([str(tmp_path)], "has no study.toml"),
        ([str(study), "--from", str(tmp_path)], "the study has no records yet; make them with"),
        ([str(study), "--out", "page.pdf"], "page.pdf: is not an HTML file; name it .html"),
    ):
        assert run(["report", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_a_study_without_its_result_is_refused(page: Path, tmp_path: Path) -> None:
    study = read_study(page.parent / "study.toml")
    (tmp_path / "episodes.parquet").write_bytes((page.parent / "episodes.parquet").read_bytes())
    with pytest.raises(BadFile, match=r"study_result\.json"):
        write_page(study, tmp_path, tmp_path / "report.html", films=False)
