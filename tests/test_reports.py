"""The reports in docs/reports are what their JSON says, and what the README says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dgan_backend.evaluation.plan import TITLES

ROOT = Path(__file__).parent.parent
REPORTS = ROOT / "docs" / "reports"
ROWS = ("supervised", "transfer", "semi_supervised", "student", "networks_labels",
        "real_pictures", "both_sources", "prelabeler")  # fmt: skip
COUNTS = (1, 4, 16, 40)
MANY = {"toonhead": (100, 500, 2000), "wbc": (100, 180)}
PICTURES = {"toonhead": 240, "wbc": 60}


@pytest.fixture(params=sorted(MANY))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPORTS / f"{name}.json").read_text())
    return found


def page(name: str) -> str:
    return (REPORTS / f"{name}.html").read_text()


def shown(report: dict[str, Any], method: str, count: int) -> str:
    found = report["miou"].get(f"{method}_{count}")
    return "" if found is None else f"{100 * found:.1f}"


def test_the_json_has_what_programs_read(name: str, report: dict[str, Any]) -> None:
    told = report["miou"]
    many = [f"supervised_{count}" for count in MANY[name]]
    for row in ("student_16", "supervised_16", "semi_supervised_16", "transfer_16", *many):
        assert 0 < told[row] < 1, row
    assert "inversion_16" in told
    assert 0.5 < report["uncertainty_auroc"] < 1
    assert 0.5 < report["uncertainty_auroc_second_opinion"] < 1
    assert not report["quick"] and report["test_pictures"] == PICTURES[name]
    assert report["command"].startswith("dgan-backend evaluate ")
    assert "/opt" not in report["command"] and "/work" not in report["command"]
    assert sum(report["commits"].values()) >= 40


def test_the_readme_shows_its_table(name: str, report: dict[str, Any]) -> None:
    """And the most important figures of its sentences."""
    readme = (ROOT / "README.md").read_text()
    section = readme.partition(f"### What it showed on `{name}`")[2].partition("\n###")[0]
    for method in ROWS:
        row = " | ".join([TITLES[method], *(shown(report, method, n) for n in COUNTS)])
        assert f"| {row} |" in section, row
    for count in MANY[name]:
        assert f"{shown(report, 'supervised', count)} on {count:,}" in section
    for count in (1, 4, 16):
        told = report["miou"]
        gain = 100 * (told[f"student_{count}"] - told[f"supervised_{count}"])
        assert f"{gain:+.1f}" in section
    for key in ("uncertainty_auroc", "uncertainty_auroc_second_opinion",
                "uncertainty_auroc_outside"):  # fmt: skip
        assert f"{report[key]:.3f}" in section, key


def test_the_page_is_of_the_same_figures_and_needs_nothing_beside_it(
    name: str, report: dict[str, Any]
) -> None:
    text = page(name)
    mean = re.escape(shown(report, "student", 16))
    assert re.search(rf"<td>{mean}( ± \d+\.\d)?</td>", text)
    assert report["command"] in text.replace("&amp;", "&")
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text


def test_no_picture_of_wbc_is_on_its_page() -> None:
    text = page("wbc")
    assert "<svg" in text, "plots are"
    assert not re.search(r"<(img|image|picture|canvas)|data:|url\(|base64", text)
    assert "--no-pictures" in text
