"""How fast policies answer, as tables: for a terminal, and a page beside published figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from octo_bench.errors import BadFile
from octo_bench.files import require_own_page, write_text
from octo_bench.reading import read_text
from octo_bench.speed.policies import EAGER, NAIVE, OptionSpeed, PolicySpeed

PAGE = "README.md"
TITLE = "# Speed of policies"
SIMULATION = "simulation.json"

_LEFT = ("Policy", "Kind", "On", "Source and remarks", "option", "Part", "Environment")
"""Columns of words."""

_EXPLANATION = """\
A call is everything that an agent does for one query: both cameras, the whole observation history,
the transformer, all denoising steps, and the scaling of the actions. The instruction is embedded
once an episode and is listed separately. Images come in the network's own size.

- **actions/s**: chunk length times batch, divided by the median time of a call: an upper bound on
  what could be executed.
- **times as fast**: in actions a second, compared with eager and batch 1; medians of the same
  repeats.
- **drift**: the largest and the root mean square difference of the normalised actions from the
  eager ones of batch 1, with the same weights, observations and noise. Normalised actions lie in
  [-1, 1], those of Octo 1.5 in [-5, 5]. The row
  "other noise" is the difference of two eager calls that start from different noise: the scale to
  read drift against. Fewer steps are DDIM
  beside DDPM from the same initial noise: another sample of the same distribution at best. Random
  weights denoise nothing, so that there the chain ends at the bounds.
- **half**: encoders and transformer in bfloat16, the action head in float32.
- **combined**: compiled, half, and 5 steps where the head denoises.
- **to compile**: the duration of the first call.
"""


@dataclass(frozen=True)
class Published:
    """What others say of a model; `remark` is how their text differs from the common figure."""

    model: str
    parameters: str
    hz: str
    hardware: str
    source: str
    remark: str


def flat_rows(speeds: Iterable[PolicySpeed]) -> list[dict[str, object]]:
    """For programs: a row an option, with all that is known of its policy."""
    rows = []
    for speed in speeds:
        of_policy = asdict(speed)
        del of_policy["options"]
        rows += [{**of_policy, **asdict(option)} for option in speed.options]
    return rows


def as_table(speeds: Iterable[PolicySpeed]) -> list[dict[str, object]]:
    """For people: a row an option."""
    return [
        {
            "policy": speed.policy,
            "parameters": _millions(speed.parameters_without_t5),
            "with T5": _millions(speed.parameters_total),
            "head": speed.head,
            **_cells(option),
        }
        for speed in speeds
        for option in speed.options
    ]


def read_published(path: Path) -> list[Published]:
    """Read the table of published figures.

    Raises:
        BadFile: when it is something else.
    """
    columns = [field.name for field in fields(Published)]
    text = read_text(path, BadFile, "it must be a CSV table")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise BadFile(path, f"cannot be read ({error})", "it must be a CSV table") from error
    if not rows or set(columns) - rows[0].keys():
        raise BadFile(path, f"must have the columns {', '.join(columns)}", "correct the table")
    return [Published(**{name: row[name] or "" for name in columns}) for row in rows]


def write_page(
    folder: Path,
    speeds: Sequence[PolicySpeed],
    machine: Mapping[str, object],
    published: Sequence[Published],
) -> None:
    """Write the page: beside published figures, every option, where the time goes, simulation.

    Raises:
        BadFile: when there is another page, or the disk is full.
    """
    require_own_page(folder / PAGE, TITLE)
    parts = [
        TITLE,
        f"By `octo-bench speed`, on {machine['cores']} cores ({machine['processor']}, "
        f"{machine['threads']} threads, {machine['instructions']}; "
        f"torch {machine['torch']}).",
        *_comparison(speeds, published),
        "## Every option",
        _EXPLANATION,
        *(part for speed in speeds for part in _policy(speed)),
        *_profile(speeds),
        *_simulation(folder / SIMULATION),
    ]
    write_text(folder / PAGE, "\n\n".join(part.strip() for part in parts) + "\n")


def _comparison(speeds: Sequence[PolicySpeed], published: Sequence[Published]) -> list[str]:
    """Measured and published rows: calls a second, of batch 1."""
    rows = []
    for speed in speeds:
        single = [each for each in speed.options if each.batch == 1 and each.option != NAIVE]
        for option in dict.fromkeys((single[0], min(single, key=lambda each: each.p50_ms))):
            rows.append(
                [
                    f"{speed.policy}, {option.option}",
                    f"{_millions(speed.parameters_without_t5)}",
                    "measured",
                    f"{1e3 / option.p50_ms:.1f}",
                    f"{option.actions_per_second:.1f}",
                    "this machine",
                    "random weights" if speed.random_weights else "",
                ]
            )
    rows += [
        [each.model, each.parameters, "published", each.hz, "", each.hardware, _note(each)]
        for each in published
    ]
    header = ["Policy", "Parameters", "Kind", "Calls/s", "Actions/s", "On", "Source and remarks"]
    return [
        "## Measured and published",
        "Our parameters are counted without T5. Rows are eager and the fastest options with "
        "batch 1. Published figures are control frequencies on other machines: for orientation, "
        "not for a ranking.",
        _markdown(header, rows),
    ]


def _note(published: Published) -> str:
    return f"{published.source}{'; ' if published.remark else ''}{published.remark}"


def _policy(speed: PolicySpeed) -> list[str]:
    modules = ", ".join(f"{name} {count:,}" for name, count in speed.parameters.items())
    steps = f", {speed.diffusion_steps} denoising steps" if speed.diffusion_steps else ""
    lines = [
        f"{speed.architecture}, {speed.head} head{steps}, window {speed.window}, chunk "
        f"{speed.chunk}{', random weights' if speed.random_weights else ''}. Parameters: "
        f"{speed.parameters_without_t5:,} without T5, {speed.parameters_total:,} with it "
        f"({modules}). Embedding an instruction: {speed.instruction_ms:.1f} ms."
    ]
    rows = [list(_cells(option).values()) for option in speed.options]
    header = list(_cells(speed.options[0]))
    scale = ["other noise", *[""] * (len(header) - 4), _drift(speed.noise_max)]
    rows.append([*scale, _drift(speed.noise_rms), ""])
    lines.append(_markdown(header, rows))
    naive = [option for option in speed.options if option.option == NAIVE]
    lines += [
        f"Eager float32 is {1 / option.speedup:.1f} times as fast as the naive loop, which runs "
        "the whole network again at every denoising step."
        for option in naive
    ]
    return [f"### {speed.policy}", *lines]


def _cells(option: OptionSpeed) -> dict[str, str]:
    return {
        "option": option.option if option.option != EAGER else f"{EAGER}, float32",
        "batch": str(option.batch),
        "calls": str(option.calls),
        "p50, ms": f"{option.p50_ms:.1f}",
        "p95, ms": f"{option.p95_ms:.1f}",
        "actions/s": f"{option.actions_per_second:.1f}",
        "times as fast": f"{option.speedup:.2f}",
        "drift, largest": _drift(option.drift_max),
        "drift, RMS": _drift(option.drift_rms),
        "to compile, s": "" if option.compile_s is None else f"{option.compile_s:.0f}",
    }


def _drift(value: float) -> str:
    return f"{value:.1g}" if value < 1e-3 else f"{value:.3f}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"


def _profile(speeds: Sequence[PolicySpeed]) -> list[str]:
    """Parts down, policies across."""
    parts = dict.fromkeys(part for speed in speeds for part in speed.profile)
    rows = []
    for part in sorted(parts, key=lambda part: not part.startswith("camera")):
        cells = [part]
        for speed in speeds:
            whole, took = sum(speed.profile.values()), speed.profile.get(part)
            cells.append("" if took is None else f"{took:.1f} ms, {100 * took / whole:.0f} %")
        rows.append(cells)
    return [
        "## Where the time goes",
        "An eager float32 call of batch 1, by part (medians, while being timed). Scores are "
        "attention without its linear layers; the rest is norms, sums, masks and the agent's own "
        "work.",
        _markdown(["Part", *(speed.policy for speed in speeds)], rows),
    ]


def _simulation(path: Path) -> list[str]:
    """What `speed --simulation` wrote beside the page, if it did."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [
        "## Simulation",
        "By `octo-bench speed --simulation`: milliseconds a control step with two cameras.",
        _markdown(
            ["Environment", "ours", "stock robosuite", "times as fast"],
            [
                [row["env_id"], *(f"{row[key]:.1f}" for key in ("fast_ms", "stock_ms", "ratio"))]
                for row in rows
            ],
        ),
    ]


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    alignment = ["---" if name in _LEFT else "---:" for name in header]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, alignment, *rows))
