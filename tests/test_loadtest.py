"""What a load test reckons; tests/e2e runs one."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from dgan_backend.cli import main
from dgan_backend.labelstudio.binding import bind
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.corrections import correction_of, regions_hash
from dgan_backend.labelstudio.regions import to_label_map
from dgan_backend.loadtest import account, memory, report
from dgan_backend.loadtest.annotators import changed, drawn
from dgan_backend.loadtest.answers import Answer, figures, quantile, within
from dgan_backend.loadtest.recorder import Recorder, recorded
from dgan_backend.partonomy import load_partonomy

BINDING = bind(parse_config(labeling_config(load_partonomy("toonhead"), control="brush")), 7)


# Figures


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_quantile_is_the_value_of_nearest_rank(share: float, expected: int) -> None:
    values = list(range(1, 101))
    random.Random(0).shuffle(values)
    assert quantile(values, share) == expected


def test_figures_of_answers() -> None:
    found = [Answer(0.0, "/x", n / 1000, n != 7) for n in range(1, 11)]
    assert figures(found) == {
        "count": 10, "failed": 1, "p50_ms": 5.0, "p95_ms": 10.0, "p99_ms": 10.0, "max_ms": 10.0,
    }  # fmt: skip
    assert figures([])["max_ms"] is None


def test_answers_within_spans_of_time() -> None:
    found = [Answer(at, "/health", 0.0, True) for at in (1.0, 2.0, 3.0, 4.0)]
    assert [a.at for a in within(found, [(1.5, 2.0), (3.5, 9.0)])] == [2.0, 4.0]


def test_a_trend_is_a_slope_a_minute() -> None:
    assert memory.trend([(0.0, 5.0), (30.0, 6.0), (60.0, 7.0)]) == pytest.approx(2.0)
    assert memory.trend([(0.0, 5.0)]) == 0.0


def test_memory_that_grows_only_while_it_warms_up_is_flat() -> None:
    warming = [(2.0 * n, min(500.0, 100.0 + 10 * n)) for n in range(300)]
    growing = [(2.0 * n, 500.0 + 0.5 * n) for n in range(300)]
    assert memory.told(warming)["flat"] and not memory.told(growing)["flat"]
    assert memory.told(growing)["mib_per_minute"] == 15.0
    assert memory.told(warming)["peak_mib"] == 500.0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory is looked up in /proc")
def test_memory_of_a_process_and_of_what_it_started() -> None:
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    kept = memory.Memory()
    try:
        while "worker's jobs" not in kept.samples:
            kept._next = 0.0
            kept.sample({"worker": process.pid, "gone": 2**22})
    finally:
        subprocess.run(["kill", "--", f"-{process.pid}"], check=True)
        process.wait()
    assert set(kept.samples) == {"worker", "worker's jobs"}
    found = kept.figures()  # a child is as large as its parent until it runs its own program
    assert found["worker"]["peak_mib"] >= found["worker's jobs"]["peak_mib"] > 0


# The account


def task(number: int, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "data": {"image": f"{number}.png"}, "annotations": list(annotations)}


def annotation(number: int, text: str = "", by: int = 1) -> dict[str, Any]:
    result = [{"type": "brushlabels", "value": {"rle": [number], "text": text}}]
    return {"id": number, "result": result, "completed_by": by, "was_cancelled": False}


def submitted(*found: tuple[int, dict[str, Any]]) -> dict[int, tuple[int, str]]:
    return {a["id"]: (number, regions_hash(a["result"])) for number, a in found}


def learned(*tasks: dict[str, Any]) -> account.Learned:
    keys = [c.key for c in map(correction_of, tasks) if c is not None]
    return account.Learned("p7-toonhead-v0001", frozenset(keys), {})


def test_what_the_last_version_knows_is_not_lost() -> None:
    a, b = annotation(1), annotation(2, by=2)
    tasks = [task(10, a), task(11, b)]
    both = submitted((10, a), (11, b))
    assert account.lost(both, tasks, learned(*tasks)) == []
    assert account.lost(both, tasks, learned(tasks[0])) == [2]
    assert account.lost(both, tasks, account.Learned("", frozenset(), {})) == [1, 2]


def test_one_that_was_learned_from_as_it_was_before_it_changed_is_lost() -> None:
    before, after = task(10, annotation(1)), task(10, annotation(1, "changed"))
    changed = submitted((10, after["annotations"][0]))
    assert account.lost(changed, [after], learned(before)) == [1]
    assert account.missing(changed, [before]) == [1]
    assert account.missing(changed, [after]) == []
    assert account.missing(changed, []) == [1]


def test_the_account_of_the_last_version_is_read_from_its_card(tmp_path: Path) -> None:
    assert account.Learned.last(tmp_path, 7) == account.Learned("", frozenset(), {})
    for number, keys in ((1, ["a"]), (2, ["a", "b"])):
        folder = tmp_path / f"p7-toonhead-v000{number}"
        folder.mkdir()
        left = [{"task": 3, "key": "b", "reason": "too small"}]
        training = {"corrections": keys, "left_out": left}
        (folder / "version.json").write_text(json.dumps({"training": training}))
    found = account.Learned.last(tmp_path, 7)
    assert found == account.Learned("p7-toonhead-v0002", frozenset("ab"), {3: "too small"})
    assert account.count_versions(tmp_path, 7) == 2
    assert account.count_versions(tmp_path, 77) == 0


def test_two_predictions_of_one_version_are_doubled() -> None:
    def of(*versions: str) -> list[dict[str, Any]]:
        return [{"model_version": version} for version in versions]

    found = account.doubled({1: of("a"), 2: of("a", "b"), 3: of("b", "a", "b"), 4: []})
    assert found == {3: ["b"]}


def test_a_part_that_was_moved_is_another_annotation() -> None:
    dice = random.Random(3)
    regions = drawn(BINDING, dice)
    moved = changed(regions, dice)
    assert [r["id"] for r in moved] == [r["id"] for r in regions]
    before, after = (to_label_map(r, BINDING, 64, 64) for r in (regions, moved))
    assert before.any() and (before != after).any()
    assert (before > 0).sum() == (after > 0).sum()


# The recorder


class Backend(BaseHTTPRequestHandler):
    """Says what it was sent; takes 0.2 s for /predict, and hangs up on /broken."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/broken":
            return
        time.sleep(0.2 if self.path.startswith("/predict") else 0.0)
        told = {"path": self.path, "body": body.decode(), "secret": self.headers.get("x-secret")}
        data = json.dumps(told).encode()
        self.send_response(403 if self.path == "/webhook" else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def backend() -> Any:
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "http://{}:{}".format(*server.server_address)
        server.shutdown()


def test_requests_pass_the_recorder_as_they_are_and_their_time_is_taken(
    backend: str, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"

    async def ask() -> list[httpx.Response]:
        app = Recorder(backend, path).app()
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://recorder") as client,
        ):
            return [
                await client.post("/predict?a=b", content="x", headers={"x-secret": "s"}),
                await client.post("/webhook", content="{}"),
                await client.get("/broken"),
            ]

    predict, webhook, broken = asyncio.run(ask())
    assert predict.json() == {"path": "/predict?a=b", "body": "x", "secret": "s"}
    assert (webhook.status_code, broken.status_code) == (403, 502)
    with path.open("a") as file:
        file.write('[1795491060.0, "/predi')  # the recorder was killed
    found = {answer.route: answer for answer in recorded(path)}
    assert set(found) == {"/health", "/predict", "/webhook", "/broken"}
    assert 0.1 < found["/predict"].seconds < 5.0 and found["/predict"].good
    assert not found["/webhook"].good and not found["/broken"].good
    assert found["/health"].good and abs(found["/health"].at - time.time()) < 60


# The report


def told(**changes: Any) -> report.Report:
    health = [Answer(float(n), "/health", 0.002 if n < 50 else 0.2, True) for n in range(100)]
    webhook = [Answer(1.0, "/webhook", 0.03, True)]
    kept = memory.Memory({"web": [(0.0, 400.0), (60.0, 401.0)], "web's jobs": [(0.0, 1.0)]})
    found: report.Report = {
        "routes": report.routes([*health, *webhook], [Answer(1.0, "submit", 0.5, True)], [(0, 49)]),
        "trainings": {
            "count": 1, "share": 0.4, "versions": 1, "last": "p7-toonhead-v0001",
            "seconds_until_all": 12.0,
        },
        "corrections": {"submitted": 3, "tasks": 3, "changed_again": 1, "lost": [], "missing": [],
                        "left_out": {}},
        "predictions": {"tasks": 5, "predictions": 5, "doubled": {}},
        "memory": report.memory_of(kept),
        "troubles": [],
        **changes,
    }  # fmt: skip
    return {**found, "targets": report.targets(found)}


def test_a_report_tells_health_while_a_training_runs_apart() -> None:
    found = told()
    assert found["routes"]["/health"]["p99_ms"] == 200.0
    assert found["routes"]["/health while training"]["p99_ms"] == 2.0
    assert set(found["targets"].values()) == {True} and not report.failed(found)


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"predictions": {"tasks": 5, "predictions": 6, "doubled": {3: ["v1"]}}}, True),
        ({"corrections": {**told()["corrections"], "lost": [2]}}, True),
        ({"corrections": {**told()["corrections"], "missing": [2]}}, True),
        ({"corrections": {**told()["corrections"], "left_out": {2: "unreadable"}}}, True),
        ({"routes": report.routes([Answer(1.0, "/webhook", 1.2, True)], [], [])}, False),
        ({"routes": report.routes([Answer(1.0, "/webhook", 0.1, False)], [], [])}, False),
    ],
    ids=["doubled", "lost", "missing", "left out", "slow", "refused"],
)
def test_what_is_lost_or_doubled_fails_what_is_slow_is_told(
    changes: dict[str, Any], failed: bool
) -> None:
    found = told(**changes)
    assert report.failed(found) == failed
    assert False in found["targets"].values()
    assert "NO  " in report.table(found)


def test_the_table_is_for_people() -> None:
    lines = report.table(told(troubles=["Label Studio answered 500"])).splitlines()
    assert "/webhook                    1       0   30   30   30           30" in lines
    assert any("p7-toonhead-v0001 knew all 12 s after" in line for line in lines)
    assert any("1 troubles, the first: Label Studio answered 500" in line for line in lines)
    assert lines[-1] == "        yes  memory is flat"


# The command


def test_a_missing_label_studio_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--state", str(tmp_path / "state"), "--label-studio-python", str(tmp_path / "python")]
    assert main(["loadtest", *words]) == 2
    assert "There is no Label Studio" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_words_that_cannot_be_used_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["loadtest", "--pause", "0"]) == 2
    assert "--pause is over 0 seconds" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["loadtest", "--annotators", "0"])
    assert "0 is not 1 or more" in capsys.readouterr().err
