"""Drawings of a partonomy: text for a terminal, SVG for a page."""

from __future__ import annotations

import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dgan_backend.partonomy import Part, Partonomy

_ROW, _STEP, _MARGIN, _SWATCH = 22, 22, 16, 12  # pixels
_WIDE = 7.6  # pixels of a letter of the drawing, roughly; text is never cut, only framed
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .index { font-family: ui-monospace, "DejaVu Sans Mono", monospace; text-anchor: end }
  .index, .aside { fill: #59636e }
  .group { font-style: italic }
  .sheet { fill: #ffffff; stroke: #d1d9e0 }
  .line { stroke: #818b98; fill: none }
  .swatch { stroke: #818b98 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .index, .aside { fill: #9198a1 }
    .sheet { fill: #0d1117; stroke: #3d444d }
  }
"""


@dataclass(frozen=True)
class _Row:
    """A part in its place; `last`: for each level from the top, whether no sibling follows."""

    part: Part
    last: tuple[bool, ...]

    @property
    def depth(self) -> int:
        return len(self.last) - 1


def tree_text(partonomy: Partonomy, color: bool = False) -> str:
    """Index, colour (with `color`, as escape codes) and name of each part, one a line."""
    return "\n".join(_text_line(row, color) for row in _rows(partonomy))


def tree_svg(partonomy: Partonomy) -> str:
    """The tree on a sheet of its own, light or dark as the reader's page is."""
    rows = list(_rows(partonomy))
    lines = [(_shown(partonomy.title or partonomy.name), "title"), (summary(partonomy), "aside")]
    names = _MARGIN + 34  # where names of the top level begin
    width = max(
        *(2 * _MARGIN + _columns(text) * _WIDE for text, _ in lines),
        *(names + row.depth * _STEP + 40 + _columns(_label(row.part)) * _WIDE for row in rows),
    )
    top = _MARGIN + 2 * _ROW + 8
    height = top + len(rows) * _ROW + _MARGIN
    svg = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", width=f"{width:.0f}", height=f"{height}",
        viewBox=f"0 0 {width:.0f} {height}", role="img",
    )  # fmt: skip
    ET.SubElement(svg, "title").text = f"Partonomy {_shown(partonomy.name)}"
    ET.SubElement(svg, "style").text = _STYLE
    ET.SubElement(
        svg, "rect", {"class": "sheet"}, x="0.5", y="0.5", width=f"{width - 1:.0f}",
        height=f"{height - 1}", rx="6",
    )  # fmt: skip
    for number, (text, kind) in enumerate(lines):
        _write(svg, text, kind, _MARGIN, _MARGIN + 14 + number * _ROW)
    _draw_branches(svg, rows, names, top)
    for number, row in enumerate(rows):
        _draw_part(svg, row.part, names + row.depth * _STEP, top + number * _ROW)
    ET.indent(svg)
    return ET.tostring(svg, encoding="unicode") + "\n"


def summary(partonomy: Partonomy) -> str:
    """Name and numbers in one line."""
    return (
        f"{_shown(partonomy.name)}: {partonomy.num_classes} classes with background, "
        f"{partonomy.labels_needed} labeled pictures wanted"
    )


def _rows(partonomy: Partonomy) -> Iterator[_Row]:
    """All parts, each after its parent, siblings in the partonomy's order."""
    children: dict[str | None, list[Part]] = {}
    for part in partonomy.parts:
        children.setdefault(part.parent, []).append(part)

    def below(parent: str | None, last: tuple[bool, ...]) -> Iterator[_Row]:
        siblings = children.get(parent, [])
        for part in siblings:
            row = _Row(part, (*last, part is siblings[-1]))
            yield row
            yield from below(part.name, row.last)

    return below(None, ())


def _text_line(row: _Row, color: bool) -> str:
    index = "" if row.part.index is None else str(row.part.index)
    bars = "".join("   " if last else "│  " for last in row.last[1:-1])
    if row.depth:
        bars += "└─ " if row.last[-1] else "├─ "
    return f"{index:>4}  {bars}{_text_swatch(row.part) if color else ''}{_label(row.part)}"


def _text_swatch(part: Part) -> str:
    """Two columns in the part's colour, for terminals that know escape codes."""
    if part.index is None:
        return ""
    red, green, blue = (int(part.color[k : k + 2], 16) for k in (1, 3, 5))
    return f"\x1b[48;2;{red};{green};{blue}m  \x1b[0m "


def _label(part: Part) -> str:
    """The name, its aliases, and a word for what is no class."""
    aside = [f"also {', '.join(part.aliases)}"] if part.aliases else []
    aside += ["no class, only groups"] if part.index is None else []
    return _shown(part.name + (f"  ({'; '.join(aside)})" if aside else ""))


def _shown(text: str) -> str:
    """Without control characters, which neither XML nor a terminal should get."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _columns(text: str) -> int:
    """Letters, those of East Asian width counted twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _write(svg: ET.Element, text: str, kind: str, x: float, y: float) -> ET.Element:
    tag = ET.SubElement(svg, "text", {"class": kind} if kind else {}, x=f"{x:g}", y=f"{y:g}")
    tag.text = text
    return tag


def _draw_branches(svg: ET.Element, rows: Sequence[_Row], left: float, top: float) -> None:
    """From under each part's name down to its last child, and across to each child."""
    middle = {row.part.name: top + n * _ROW + _ROW / 2 + 0.5 for n, row in enumerate(rows)}
    for row in rows:
        if row.part.parent is None:
            continue
        x = left + (row.depth - 1) * _STEP + _SWATCH / 2 + 0.5
        y, start = middle[row.part.name], middle[row.part.parent] + _ROW / 2 - 3
        down = f"M{x:g} {start:g}V{y:g}" if row.last[-1] else f"M{x:g} {y:g}"
        ET.SubElement(svg, "path", {"class": "line"}, d=f"{down}H{x + _STEP - 10:g}")


def _draw_part(svg: ET.Element, part: Part, x: float, y: float) -> None:
    base = y + _ROW / 2 + 4.5
    if part.index is None:
        name = _write(svg, _shown(part.name), "group", x, base)
    else:
        _write(svg, str(part.index), "index", _MARGIN + 22, base)
        ET.SubElement(
            svg, "rect", {"class": "swatch"}, x=f"{x:g}", y=f"{y + (_ROW - _SWATCH) / 2:g}",
            width=f"{_SWATCH}", height=f"{_SWATCH}", rx="2", fill=part.color,
        )  # fmt: skip
        name = _write(svg, _shown(part.name), "", x + _SWATCH + 7, base)
    if part.aliases:
        aside = ET.SubElement(name, "tspan", {"class": "aside"}, dx="8")
        aside.text = _shown(", ".join(part.aliases))
