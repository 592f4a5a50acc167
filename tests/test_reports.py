"""The reports in docs/reports are what their JSON says, and what the README says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dgan_backend.evaluation.plan import TITLES

ROOT = Path(__file__).parent.parent
REPORT: dict[str, Any] = json.loads((ROOT / "docs" / "reports" / "toonhead.json").read_text())
ROWS = ("supervised", "transfer", "semi_supervised", "student", "networks_labels",
        "real_pictures", "both_sources", "prelabeler")  # fmt: skip
COUNTS = (1, 4, 16, 40)


def shown(method: str, count: int) -> str:
    found = REPORT["miou"].get(f"{method}_{count}")
    return "" if found is None else f"{100 * found:.1f}"


def test_the_json_has_what_programs_read() -> None:
    told = REPORT["miou"]
    for name in ("student_16", "supervised_16", "semi_supervised_16", "transfer_16",
                 "supervised_100", "supervised_500", "supervised_2000"):  # fmt: skip
        assert 0 < told[name] < 1, name
    assert "inversion_16" in told
    assert 0.5 < REPORT["uncertainty_auroc"] < 1
    assert not REPORT["quick"] and REPORT["test_pictures"] == 240
    assert REPORT["command"].startswith("dgan-backend evaluate toonhead")
    assert sum(REPORT["commits"].values()) >= 40


def test_the_readme_shows_its_table() -> None:
    readme = (ROOT / "README.md").read_text()
    for method in ROWS:
        row = " | ".join([TITLES[method], *(shown(method, n) for n in COUNTS)])
        assert f"| {row} |" in readme, row


def test_the_page_is_of_the_same_figures_and_needs_nothing_beside_it() -> None:
    page = (ROOT / "docs" / "reports" / "toonhead.html").read_text()
    assert f"<td>{shown('student', 16)}</td>" in page or shown("student", 16) in page
    assert REPORT["command"] in page.replace("&amp;", "&")
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
