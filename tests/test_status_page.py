"""The status page: what it shows, and that nobody else's text becomes part of it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from dgan_backend.loop.board import Board
from dgan_backend.loop.outcome import FINDINGS, NOTE
from dgan_backend.loop.wording import in_words, said_of
from dgan_backend.serving.curve import curve, interval, scale
from dgan_backend.serving.status_page import page
from tests.statuses import EFFORT, UID, add_version, busy_project, compared, connect, status


@pytest.fixture
def board(server: redis.Redis) -> Board:
    server.flushdb()
    return Board(server)


def shown(report: dict[str, Any], answer: dict[str, Any] | None = None) -> str:
    return page(report, nonce="n", address="http://here:9090", answer=answer)


def text(html: str) -> str:
    """What a person reads."""
    main = html.partition("<main")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", main).split())


def test_before_any_project_it_says_how_to_connect_one(tmp_path: Path, board: Board) -> None:
    html = shown(status(tmp_path, board).report())
    assert "No project is connected yet" in html
    assert html.count("<li>") == 5
    assert "http://here:9090" in html and "ML_BLOCK_LOCAL_IP=false" in html


def test_a_busy_project_is_shown_with_everything(tmp_path: Path, board: Board) -> None:
    busy_project(tmp_path, board)
    with board.lease(UID, "label"):
        html = shown(status(tmp_path, board).report())
    told = text(html)
    for said in (
        "v8 p17-toonhead-v0008",
        "Training queued (the last one took 40 s in all)",
        "running: pre-labeling, 40 of 300, about",
        "Regions of the label hat, which the labeling config no longer has, are ignored (3 tasks).",
        "The last training, 5 min ago: It is worse.",
        "12 annotations began with a pre-label and took 41 s (median",
        "taken to be 20 s a region, the pace of an experienced annotator on faces (DatasetGAN",
        "9 versions, 1 held back",
        "mean IoU 0.810 against 0.860",
        "3 corrections not learned from, or in part",
        "task 31 has no labeled pixel.",
        "20 pictures without parts",
        "its picture cannot be fetched.",
        "task 31 has no labeled pixel. just now, 2 times",
    ):
        assert said in told, said
    assert '<progress value="40" max="300">' in html
    assert '<a href="http://ls:8080/projects/17/data?task=31" rel="noreferrer">task 31</a>' in html
    assert html.count('class="point"') == 6 and html.count('class="held"') == 1
    assert told.count("its picture cannot be fetched.") == 1  # 20 tasks, one reason
    assert 'action="status/pause"' in html and 'action="status/resume"' not in html
    board.pause(UID, True)
    html = shown(status(tmp_path, board).report())
    assert 'action="status/resume"' in html and "waits until the project goes on" in html


def test_what_others_wrote_is_text(tmp_path: Path, board: Board) -> None:
    """Titles, labels, errors and addresses come from whoever reaches the backend."""
    evil = '"><img src=x onerror=alert(1)><script>1</script>'
    busy_project(tmp_path, board)
    connect(board, hostname=f"http://ls/{evil}")
    board.note(UID, "title", evil)
    board.note(
        UID,
        NOTE,
        json.dumps({"said": evil, "time": 1, "version": "v", "removed_labels": {evil: 1}}),
    )
    board.complain(UID, evil, 3)
    board.explain(UID, {3: evil})
    finding = {"check": evil, "state": "wrong", "text": evil, "remedy": "Mend it."}
    board.note(UID, FINDINGS, json.dumps([finding]))
    add_version(
        tmp_path,
        10,
        held_back=evil,
        classes=[evil],
        validation=compared(0.8, 0.1),
        corrected={"pixels": 0.1, "classes": {evil: 0.5}},
        left_out=[{"task": 3, "key": "x", "reason": evil, "again": True}],
    )
    it = status(tmp_path, board)
    html = shown(it.report(), it.task(3))
    assert html.count("&lt;script&gt;") >= 7
    assert "<img" not in html and html.count("<script") == 1


def test_a_link_leads_to_a_web_page_or_nowhere(tmp_path: Path, board: Board) -> None:
    connect(board, hostname="javascript:alert(1)")
    html = shown(status(tmp_path, board).report())
    assert "javascript:" not in html and "Project 17" in html


def test_the_answer_to_a_question_is_shown(tmp_path: Path, board: Board) -> None:
    connect(board)
    board.explain(UID, {3: "Task 3: broken."})
    it = status(tmp_path, board)
    assert "Task 3 empty Task 3: broken." in text(shown(it.report(), it.task(3)))
    nowhere = text(shown(it.report(), it.task(3, "99")))
    assert "No Label Studio has connected project 99" in nowhere


def test_nothing_saved_is_said_plainly(tmp_path: Path, board: Board) -> None:
    busy_project(tmp_path, board)
    report = status(tmp_path, board).report()
    report["projects"][0]["effort"] = {**EFFORT, "minutes": -3.0, "scratch_from": 5}
    told = text(shown(report))
    assert "saved 0 min none so far" in told
    assert "the median of 5 annotations of this project that began with nothing" in told
    report["projects"][0]["effort"] = None
    assert "saved – not known yet" in text(shown(report))


def test_it_fetches_nothing_from_elsewhere(tmp_path: Path, board: Board) -> None:
    busy_project(tmp_path, board)
    html = shown(status(tmp_path, board).report())
    assert not re.search(r'(src|href)="(?!http://ls:8080/|status\?|data:)', html)
    assert "@import" not in html and "url(" not in html


# The curve


def version(number: int, **fields: Any) -> dict[str, Any]:
    told = {"name": f"v{number}", "number": number, "held_back": "", "validation": None}
    return {**told, **fields}


def test_without_a_comparison_there_is_no_curve() -> None:
    assert curve([]) is None and curve([version(1)]) is None


def test_the_curve_has_each_compared_version_where_it_belongs() -> None:
    drawn = curve([
        version(1),
        version(2, validation=compared(0.6, 0.1)),
        version(3, validation=compared(0.7, -0.1), held_back="Worse."),
    ])  # fmt: skip
    assert drawn is not None
    found = [float(y) for y in re.findall(r'cy="([\d.]+)"', drawn)]
    assert len(found) == 2 and found[0] < found[1]  # 0.7 is above 0.6
    assert drawn.count('class="held"') == 1 and drawn.count('class="point"') == 1
    assert "a difference of +0.100 (+0.080 to +0.120) on 24 pictures" in drawn


def test_the_interval_is_that_of_the_difference() -> None:
    assert interval(compared(0.5, 0.1, 0.02)) == pytest.approx((0.58, 0.62))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0.754, 0.883], (0.75, 0.9, 0.05)),
        ([0.8, 0.8], (0.8, 0.82, 0.01)),
        ([0.0, 1.0], (0.0, 1.0, 0.2)),
        ([-0.1, 1.2], (0.0, 1.0, 0.2)),
    ],
)
def test_an_axis_is_at_round_numbers(values: list[float], found: tuple[float, ...]) -> None:
    assert scale(values) == pytest.approx(found)


# Words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (99, "99 s"), (180, "3 min"), (7200, "2 h"), (6 * 86400, "6 days")],
)
def test_durations(seconds: float, said: str) -> None:
    assert in_words(seconds) == said


def test_jobs_in_words() -> None:
    assert said_of({"state": "queued"}) == "queued"
    told = {"state": "running", "what": "fitting", "done": 2, "total": 8, "seconds_left": 130.0}
    assert said_of(told) == "running: fitting, 2 of 8, about 2 min left"
    assert said_of({**told, "seconds_left": None}) == "running: fitting, 2 of 8"
    assert said_of({"state": "failed", "retry_seconds": 40.0}) == "failed, tried again in 40 s"


def test_it_is_made_fast(tmp_path: Path, board: Board) -> None:
    busy_project(tmp_path, board)
    report = status(tmp_path, board).report()
    began = time.monotonic()
    shown(report)
    assert time.monotonic() - began < 0.1
