"""A study's page in a real browser: headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Request, sync_playwright

from helpers.synthetic_study import made_up_records, write_study
from octo_bench.films.small_films import encode
from octo_bench.page.films import choose_films
from octo_bench.page.page import write_page
from octo_bench.records.record import read_records
from octo_bench.studies.study import read_study

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium; `make test` installs it, or name it in CHROMIUM"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up study with everything in it, and two films."""
    records = made_up_records(30, [(0, 0), (1, 0), (2, 0)])
    folder = write_study(tmp_path_factory.mktemp("study"), records)
    for film in choose_films(read_records(folder / "episodes.parquet"), folder)[:2]:
        frames = np.zeros((60, 256, 256, 3), np.uint8)
        for number, frame in enumerate(frames):
            frame[:, number * 4 : number * 4 + 20] = 255
        film.file.parent.mkdir(exist_ok=True)
        film.file.write_bytes(encode(list(frames)))
    write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
    return folder / "report.html"


class Visit:
    """A page that is open, and what it has said and asked for."""

    def __init__(self, browser: Browser, report: Path, **options: object) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(15_000)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[Request] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request))
        self.page.goto(report.as_uri())

    def rows(self) -> Locator:
        return self.page.locator("#episode-table tbody tr")

    def column(self, name: str) -> list[str]:
        heads = self.page.locator("#episode-table thead th").all_inner_texts()
        return self.page.locator(
            f"#episode-table tbody td:nth-child({heads.index(name) + 1})"
        ).all_inner_texts()

    def count(self) -> str:
        return self.page.locator("#episode-count").inner_text()


@pytest.fixture
def visit(browser: Browser, report: Path) -> Iterator[Visit]:
    visit = Visit(browser, report)
    yield visit
    visit.context.close()


def test_it_renders_without_errors_and_asks_for_nothing(visit: Visit, report: Path) -> None:
    visit.page.locator("footer").scroll_into_view_if_needed()
    visit.page.wait_for_timeout(300)
    assert visit.said == []
    outside = [r.url for r in visit.asked if not r.url.startswith(("data:", "blob:"))]
    assert outside == [report.as_uri()]
    visit.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert visit.page.locator("figure svg").count() > 8
    for figure in visit.page.locator("figure svg").all():
        box = figure.bounding_box()
        assert box is not None and box["width"] > 60 and box["height"] > 60


def test_the_page_may_not_load_anything(visit: Visit) -> None:
    """Not even if someone puts something into a study's title: the page's own policy refuses."""
    visit.page.evaluate(
        "document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))"
    )
    visit.page.wait_for_timeout(200)
    assert any("Content Security Policy" in text for text in visit.said)
    assert not any("example.org" in (r.url) and r.response() for r in visit.asked)


def test_episodes_are_sorted_by_a_click(visit: Visit) -> None:
    head = visit.page.get_by_role("button", name="steps", exact=True)
    head.click()
    steps = [int(value) for value in visit.column("steps")]
    assert steps == sorted(steps) and steps[0] < 200
    assert visit.page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    head.click()
    assert int(visit.column("steps")[0]) == 200
    assert visit.page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    visit.page.get_by_role("button", name="outcome").press("Enter")
    assert set(visit.column("outcome")) == {"✗ failure"}


def test_episodes_are_found_by_text_and_by_outcome(visit: Visit, report: Path) -> None:
    records = read_records(report.parent / "episodes.parquet")
    assert visit.count() == f"25 of {len(records)} episodes"
    visit.page.get_by_label("Find episodes").fill("IIWA grasp")
    found = [r for r in records if r.embodiment == "IIWA" and r.furthest_stage == "grasp"]
    shown = min(25, len(found))
    assert visit.count() == f"{shown} of {len(found)} episodes that fit, of {len(records)}"
    assert set(visit.column("environment")) == {"Lift on IIWA"}
    visit.page.get_by_label("Find episodes").fill("")
    visit.page.get_by_label("Outcome").select_option("success")
    wins = sum(record.success_once for record in records)
    assert visit.count() == f"25 of {wins} episodes that fit, of {len(records)}"
    assert set(visit.column("outcome")) == {"✓ success"}
    visit.page.get_by_role("button", name="Show more").click()
    assert visit.rows().count() == min(225, wins)
    visit.page.get_by_label("Find episodes").fill("nothing is called so")
    assert visit.count() == "No episode fits."
    assert visit.rows().count() == 0


def test_films_play_when_they_come_into_view(visit: Visit) -> None:
    film = visit.page.locator("video").first
    assert film.evaluate("film => film.src") == ""  # not decoded before
    film.scroll_into_view_if_needed()
    visit.page.wait_for_function(
        "() => { const film = document.querySelector('video'); return film.currentTime > 0.3; }"
    )
    assert film.evaluate("film => [film.videoWidth, film.error]") == [176, None]
    assert film.evaluate("film => film.duration") == pytest.approx(4.0, abs=0.2)
    player = visit.page.locator(".player").first
    assert player.get_attribute("aria-pressed") == "true"
    player.press("Space")
    visit.page.wait_for_function("() => document.querySelector('video').paused")
    stopped = film.evaluate("film => film.currentTime")
    visit.page.wait_for_timeout(300)
    assert film.evaluate("film => film.currentTime") == stopped
    assert player.get_attribute("aria-pressed") == "false"
    visit.page.evaluate("scrollTo(0, 0)")
    visit.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].every((film) => film.paused)"
    )
    assert visit.said == []


def test_an_episode_leads_to_its_film(visit: Visit) -> None:
    link = visit.page.locator("#episode-table a").first
    target = link.get_attribute("href")
    link.click()
    visit.page.wait_for_timeout(800)
    box = visit.page.locator(str(target)).bounding_box()
    assert box is not None and -10 < box["y"] < 800


def test_films_stand_still_for_those_who_asked_for_it(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report, reduced_motion="reduce")
    film = visit.page.locator("video").first
    film.scroll_into_view_if_needed()
    visit.page.wait_for_timeout(500)
    assert film.evaluate("film => film.paused && film.currentTime === 0")
    visit.page.get_by_role("button", name="Run all films").click()
    visit.page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
    visit.context.close()


@pytest.mark.parametrize("width", [320, 360, 768])
def test_nothing_sticks_out_of_a_narrow_screen(browser: Browser, report: Path, width: int) -> None:
    visit = Visit(browser, report, **{**PHONE, "viewport": {"width": width, "height": 740}})
    visit.page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    # The smallest letters of the curve are still to be read.
    size = visit.page.evaluate(
        """() => { const svg = document.querySelector(".curves svg");
        return 11.5 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; }"""
    )
    assert size > (8.0 if width > 320 else 7.0)
    visit.context.close()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_it_is_as_dark_as_the_reader_wants_and_can_be_read(
    browser: Browser, report: Path, scheme: str, dark: bool
) -> None:
    visit = Visit(browser, report, color_scheme=scheme)
    paper = visit.page.evaluate(f"({LUMINANCE})(getComputedStyle(document.body).backgroundColor)")
    assert (paper < 0.05) == dark and (paper > 0.8) == (not dark)
    # WCAG 2.2, AA: 4.5 to 1 for text.
    assert visit.page.evaluate(CONTRASTS.replace("LUMINANCE", LUMINANCE)) == []
    visit.context.close()


LUMINANCE = """colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""
CONTRASTS = """() => {
  const luminance = LUMINANCE;
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
    }
  };
  const bad = new Set();
  for (const e of document.querySelectorAll("main *, header *, footer *")) {
    if (e.closest("svg, .player, script") || !e.checkVisibility()) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [luminance(getComputedStyle(e).color), luminance(behind(e))].sort();
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.add(`${e.tagName}.${e.className}: ${ratio.toFixed(2)}`);
  }
  return [...bad];
}"""


def test_tables_and_parts_are_named_for_those_who_do_not_see(visit: Visit) -> None:
    assert visit.page.locator("html").get_attribute("lang") == "en"
    assert visit.page.get_by_role("heading", level=1).count() == 1
    for table in visit.page.locator("table.results").all():
        assert table.locator("caption").inner_text()
        heads = table.get_by_role("columnheader").count()
        cells = table.locator("tbody tr").first.locator("th, td").count()
        assert heads == cells >= 3
    unnamed = visit.page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, video")]
        .filter(e => e.checkVisibility() && !e.closest(".player") && !e.innerText.trim()
          && !e.labels?.length && !e.ariaLabel).length"""
    )
    assert unnamed == 0
    visit.page.keyboard.press("Tab")
    focused = visit.page.evaluate("document.activeElement.textContent")
    assert focused == "To the results"
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
