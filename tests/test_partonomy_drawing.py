"""Drawings of partonomies, and the commands that print them."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgan_backend.cli import main
from dgan_backend.labelstudio.binding import bind
from dgan_backend.labelstudio.config import parse_config
from dgan_backend.partonomy import from_labels, load_partonomy, shipped_partonomies
from dgan_backend.partonomy_drawing import tree_svg, tree_text

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
MINE = """\
name: mine
parts:
- {name: background, index: 0}
- name: box
  children:
  - {name: lid, index: 1, color: "#123456", aliases: ["top <&>"]}
  - {name: side, index: 2, color: "#abcdef"}
merges:
  one: {box: [lid, side]}
  two: {of: one, all: [box]}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(MINE)
    return tmp_path / "mine.yaml"


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = main(["partonomy", *map(str, args)])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_tree_as_text(mine: Path) -> None:
    tree = load_partonomy(mine)
    assert tree_text(tree).splitlines() == [
        "   0  background",
        "      box  (no class, only groups)",
        "   1  ├─ lid  (also top <&>)",
        "   2  └─ side",
    ]
    colored = tree_text(tree, color=True)
    assert "├─ \x1b[48;2;18;52;86m  \x1b[0m lid" in colored
    assert colored.count("\x1b[48;2") == 3


def test_branches_of_deeper_levels_go_on_beside_them() -> None:
    tree = from_labels("t", ["a", "a/b", "a/b/c", "a/d", "e"])
    assert tree_text(tree).splitlines()[1:] == [
        "   1  a",
        "   2  ├─ a/b",
        "   3  │  └─ a/b/c",
        "   4  └─ a/d",
        "   5  e",
    ]


@pytest.mark.parametrize("name", shipped_partonomies())
def test_the_svg_has_every_class_once(name: str) -> None:
    tree = load_partonomy(name)
    root = ET.fromstring(tree_svg(tree))
    swatches = [tag.get("fill") for tag in root.iter(f"{SVG}rect") if tag.get("class") == "swatch"]
    indices = [tag.text for tag in root.iter(f"{SVG}text") if tag.get("class") == "index"]
    colors = {str(part.index): part.color for part in tree.parts if part.index is not None}
    assert dict(zip(indices, swatches, strict=True)) == colors
    assert len(indices) == tree.num_classes
    written = [tag.text for tag in root.iter(f"{SVG}text")]
    for part in tree.parts:
        assert part.name in written
    height = float(str(root.get("height")))
    assert max(float(str(tag.get("y"))) for tag in root.iter(f"{SVG}text")) < height


def test_the_svg_fetches_nothing_and_fits_dark_pages() -> None:
    svg = tree_svg(load_partonomy("head-full"))
    assert re.findall(r"\w+://\S+", svg) == ['http://www.w3.org/2000/svg"']
    assert not re.search(r"url\(|href|@import|<script", svg)
    assert "prefers-color-scheme: dark" in svg


@given(st.lists(st.text(min_size=1, max_size=12), max_size=6))
def test_any_label_can_be_drawn(labels: list[str]) -> None:
    tree = from_labels("any", [*labels, "<b>&amp;\x1b[2J\x00"])
    root = ET.fromstring(tree_svg(tree).encode("utf-8"))
    assert len(list(root.iter(f"{SVG}rect"))) == tree.num_classes + 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", tree_text(tree))
    assert len(tree_text(tree).split("\n")) == len(tree.parts)


def test_the_drawing_in_the_docs_is_the_commands(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, said, _ = run(capsys, "show", "toonhead", "--svg", tmp_path / "new" / "t.svg")
    assert (status, said) == (0, f"{tmp_path}/new/t.svg: the tree of toonhead\n")
    drawn = (tmp_path / "new" / "t.svg").read_text("utf-8")
    assert drawn == (ROOT / "docs" / "partonomy-toonhead.svg").read_text("utf-8"), (
        "draw it again: dgan-backend partonomy show toonhead --svg docs/partonomy-toonhead.svg"
    )


def test_an_svg_that_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, _, said = run(capsys, "show", "toonhead", "--svg", tmp_path)
    assert status == 2
    assert f"{tmp_path} cannot be written" in said


def test_show_tells_generator_and_merges(capsys: pytest.CaptureFixture[str], mine: Path) -> None:
    _, toonhead, _ = run(capsys, "show", "toonhead")
    assert "toonhead: 16 classes with background, 16 labeled pictures wanted" in toonhead
    assert "generator: toonhead, at hand" in toonhead
    _, car, _ = run(capsys, "show", "car", "--color", "always")
    assert "generator: none at hand; bring one of cars from outside" in car
    assert "generator train" in car
    assert "merge car-5 (of car-12): background, body, light, wheel, window" in car
    assert car.count("\x1b[48;2") == 20
    mine.write_text(MINE + "generator: gone\n")
    status, own, _ = run(capsys, "show", mine)
    assert status == 0
    assert "generator: gone is not at hand" in own
    assert "\x1b" not in own


def test_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, "list")
    lines = said.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines[1:]] == shipped_partonomies()
    assert "none at hand" in next(line for line in lines if line.startswith("car "))
    assert re.search(r"^toonhead +16 +16  toonhead +Toon head$", said, re.MULTILINE)


@pytest.mark.parametrize("control", ["brush", "bitmask", "polygon"])
@pytest.mark.parametrize("name", shipped_partonomies())
def test_a_printed_config_leads_back_to_its_partonomy(
    capsys: pytest.CaptureFixture[str], name: str, control: str
) -> None:
    status, xml, _ = run(capsys, "config", name, "--control", control)
    config = parse_config(xml)
    assert (status, config.kind) == (0, control)
    binding = bind(config, 5)
    tree = load_partonomy(name)
    assert binding.partonomy == tree
    assert binding.label_of == {i: tree.classes[i] for i in range(1, tree.num_classes)}
    colors = {label.value: label.color for label in config.labels}
    assert colors == {part.name: part.color for part in tree.parts if part.index}


def test_a_file_of_ones_own_has_a_config(capsys: pytest.CaptureFixture[str], mine: Path) -> None:
    _, xml, _ = run(capsys, "config", mine)
    assert bind(parse_config(xml), 5).partonomy.classes == ("background", "lid", "side")


@pytest.mark.parametrize("action", ["show", "config"])
def test_an_unknown_name_names_the_known_ones(
    capsys: pytest.CaptureFixture[str], action: str
) -> None:
    status, _, said = run(capsys, action, "hors")
    assert status == 2
    assert re.search(r"no partonomy 'hors'; shipped are: bedroom.*toonhead; or give a \.yaml", said)


def test_showing_works_where_lines_cannot_be_written_and_config_needs_no_torch() -> None:
    """As under an old locale."""
    code = "import sys; from dgan_backend.cli import main; status = main(sys.argv[1:]); "
    code += "raise SystemExit(3 if 'torch' in sys.modules else status)"
    for args in (["show", "car"], ["config", "car"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "partonomy", *args],
            env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "tail_light" in done.stdout
