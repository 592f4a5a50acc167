"""What sections of a report's page are laid out with: tables, numbers with their spread, style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgan_backend.evaluation.plan import TITLES
from dgan_backend.evaluation.summary import Spread
from dgan_backend.markup import Child, Html, tag

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.about, figcaption, .note { color: #5a6877; font-size: .9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #dfe5eb; text-align: right; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #9aa7b4; }
tr.main td { font-weight: 600; }
.scroll { overflow-x: auto; } .scroll + .scroll { margin-top: 1rem; }
.yes { color: #1e8449; } .no { color: #c0392b; } .open { color: #7d8b99; }
figure { margin: 1rem 0; } figure img, svg.chart { max-width: 100%; height: auto; }
svg.chart { width: 40rem; } svg .rule { stroke: #dfe5eb; }
svg text { font-size: 12px; fill: #5a6877; }
svg .end { text-anchor: end; } svg .middle, svg .axis { text-anchor: middle; }
figcaption span { margin-right: 1.2rem; white-space: nowrap; }
figcaption i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; }
code { background: #f1f4f7; padding: .1rem .3rem; overflow-wrap: anywhere; }
"""


def section(title: str, *parts: Child) -> Html:
    return tag("section", tag("h2", title), *parts)


def grid(head: Sequence[str], rows: Sequence[Sequence[Child]], main: str = "") -> Html:
    """main: the title of the row that stands out, or its key."""
    title = TITLES.get(main, main)
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", [tag("th", name) for name in head])),
            tag(
                "tbody",
                [
                    tag(
                        "tr",
                        [tag("td", cell) for cell in row],
                        class_="main" if title and row[0] == title else None,
                    )
                    for row in rows
                ],
            ),
        ),
        class_="scroll",
    )


def labels(count: int) -> str:
    return f"{count:,} label{'' if count == 1 else 's'}"


def spread(found: Spread | None) -> str:
    return "" if found is None else f"{100 * found.mean:.1f}{deviation(found)}"


def deviation(found: Spread) -> str:
    return f" ± {100 * found.deviation:.1f}" if found.count > 1 else ""


def number(cells: Sequence[dict[str, Any]], key: str) -> str:
    values = [c[key] for c in cells if c.get(key) is not None]
    return f"{100 * sum(values) / len(values):.1f}" if values else ""


def interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def points(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.1f}"


def verdict(met: bool | None) -> Html:
    word, kind = {True: ("met", "yes"), False: ("missed", "no"), None: ("open", "open")}[met]
    return tag("span", word, class_=kind)


def verdict_of(gain: Spread, aim: float) -> Html:
    """Met or missed by the mean, and whether one deviation over draws says otherwise."""
    found = verdict(gain.mean >= aim)
    if gain.count < 2:
        return Html(found + " (one draw)")
    close = abs(gain.mean - aim) < gain.deviation
    return Html(found + " (within the spread)") if close else found
