"""The chart of head differences: what fits its axis, and what goes on beyond it."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from octo_bench.charts.head_differences import heads
from octo_bench.charts.svg import Chart
from octo_bench.statistics.hierarchical import TwoLevelDifference
from octo_bench.statistics.intervals import Interval
from octo_bench.tables.head_pairs import Contender, HeadPair

_COMPARED = TwoLevelDifference(
    difference=-0.02,
    p_value=0.5,
    units=2,
    pairs=200,
    confidence=0.95,
    as_trained=Interval(-0.06, 0.04),
    trained_anew=Interval(-0.05, 0.03),
    spread=0.01,
)
_PAIR = HeadPair(
    Contender("octo-tiny", "diffusion", "diffusion"),
    Contender("octo-tiny", "categorical", "categorical"),
    ("octo_bench/Stack-Panda-v1",),
    50,
    _COMPARED,
    1.0,
)


def drawn(anew: Interval) -> tuple[Chart, list[ElementTree.Element]]:
    """A chart of one difference, and the lines of its whisker."""
    (chart,) = heads([replace(_PAIR, compared=replace(_COMPARED, trained_anew=anew))])
    lines = ElementTree.fromstring(f"<g>{chart.body}</g>").iter("line")
    return chart, [each for each in lines if "whisker" in each.attrib["class"]]


def test_interval_of_two_trainings_does_not_set_the_axis() -> None:
    chart, lines = drawn(Interval(-0.9, 0.9))
    assert "+90" not in chart.body
    assert "+10" in chart.body
    ends = [float(each.attrib[end]) for each in lines for end in ("x1", "x2")]
    assert 0 <= min(ends) < max(ends) <= chart.width


def test_whisker_beyond_the_axis_ends_in_an_arrow_on_that_side_alone() -> None:
    _, inside = drawn(Interval(-0.05, 0.03))
    _, beyond = drawn(Interval(-0.05, 0.9))
    assert [_slanted(each) for each in inside] == [False, False, False]
    assert [_slanted(each) for each in beyond] == [False, False, True, True]


def _slanted(drawn_line: ElementTree.Element) -> bool:
    x1, y1, x2, y2 = (drawn_line.attrib[name] for name in ("x1", "y1", "x2", "y2"))
    return x1 != x2 and y1 != y2
