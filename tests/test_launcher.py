"""Supervision, with small Python scripts as children."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dgan_backend.errors import DganError
from dgan_backend.supervision import launcher as launcher_module
from dgan_backend.supervision import processes
from dgan_backend.supervision.launcher import Child, Launcher

NAP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(60)"
)


def child(name: str, code: str, **more: object) -> Child:
    return Child(name, (sys.executable, "-c", code), dict(os.environ), **more)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def signal_soon(number: signal.Signals, after: float = 0.3) -> None:
    threading.Timer(after, os.kill, (os.getpid(), number)).start()


def test_children_stop_in_reverse_order_and_log_under_their_name(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    open({order!r}, 'a').write({name!r} + '\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with Launcher(tmp_path) as launcher:
        for name in ("first", "second"):
            log = launcher.logs / f"{name}.log"
            started = child(
                name,
                code.format(order=str(order), name=name),
                ready=lambda log=log: "ready" in log.read_text(),
            )
            launcher.start(started)
        pids = launcher.pids
    assert order.read_text().split() == ["second", "first"]
    assert not any(alive(pid) for pid in pids.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_watch_and_is_no_error(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Launcher(tmp_path) as launcher:
        launcher.start(child("nap", NAP))
        pid = launcher.pids["nap"]
        signal_soon(number)
        launcher.watch()
    assert not alive(pid)
    assert signal.getsignal(number) is before


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    said: list[str] = []
    with Launcher(tmp_path, report=said.append, grace=0.3) as launcher:
        log = launcher.logs / "deaf.log"
        launcher.start(child("deaf", STUBBORN, ready=lambda: "deaf" in log.read_text()))
        pid = launcher.pids["deaf"]
    assert not alive(pid)
    assert said == ["deaf did not stop by itself and was killed."]


def test_a_second_signal_ends_the_grace_period(tmp_path: Path) -> None:
    began = time.monotonic()
    with Launcher(tmp_path, report=lambda line: None, grace=50) as launcher:
        log = launcher.logs / "deaf.log"
        launcher.start(child("deaf", STUBBORN, ready=lambda: "deaf" in log.read_text()))
        signal_soon(signal.SIGTERM, 0.2)
        signal_soon(signal.SIGTERM, 0.6)
        launcher.watch()
    assert time.monotonic() - began < 20


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    with Launcher(tmp_path, report=said.append) as launcher:
        launcher.start(child("nap", NAP))
        first = launcher.pids["nap"]
        os.kill(first, signal.SIGKILL)

        def restarted_then_stop(line: str) -> None:
            said.append(line)
            if "started again" in line:
                signal_soon(signal.SIGTERM, 0.0)

        launcher._report = restarted_then_stop
        launcher.watch()
        pytest.fail("the signal should have ended the block")
    assert said[0].startswith("nap was ended by SIGKILL; starting it again in 0.5 s.")
    assert "was started again (pid" in said[1]


def test_a_child_that_fails_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_module, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(launcher_module, "GIVE_UP_AFTER", 4)
    said: list[str] = []
    with (
        pytest.raises(DganError, match="giving up") as caught,
        Launcher(tmp_path, report=said.append) as launcher,
    ):
        launcher.spawn(child("broken", "import sys; print('no luck'); sys.exit(3)"))
        launcher.watch()
    delays = [re.search(r"in ([\d.]+) s", line) for line in said if "starting it again" in line]
    assert [float(match[1]) for match in delays if match] == [0.01, 0.02, 0.04]
    assert "broken stopped with status 3" in str(caught.value)
    assert "| no luck" in str(caught.value)
    assert str(tmp_path / "logs" / "broken.log") in str(caught.value)


def test_a_child_that_dies_while_starting_is_an_error_with_this_runs_log(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "broken.log").write_text("of an earlier run\n")
    with (
        pytest.raises(DganError, match="stopped with status 5") as caught,
        Launcher(tmp_path) as up,
    ):
        up.start(child("broken", "import sys; print('oh'); sys.exit(5)", ready=lambda: False))
    assert "| oh" in str(caught.value)
    assert "earlier" not in str(caught.value)


def test_a_child_that_is_never_ready_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DganError, match="not ready within 0 s"), Launcher(tmp_path) as launcher:
        launcher.start(child("nap", NAP, ready=lambda: False, ready_seconds=0.2))


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(DganError, match="nope cannot be started"), Launcher(tmp_path) as launcher:
        launcher.start(Child("nope", ("/no/such/program",), {}))


def test_grandchildren_in_sessions_of_their_own_do_not_stay(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-c', {NAP!r}], start_new_session=True)\n"
        f"open({str(note)!r}, 'w').write(str(p.pid))\n"
        "time.sleep(60)\n"
    )
    with Launcher(tmp_path) as launcher:
        launcher.start(
            child("parent", code, ready=lambda: note.exists() and bool(note.read_text()))
        )
        grandchild = int(note.read_text())
        assert alive(grandchild)
    wait_until(lambda: not alive(grandchild))


LAUNCHER_SCRIPT = f"""
import os, sys
from pathlib import Path
from dgan_backend.supervision.launcher import Child, Launcher
with Launcher(Path(sys.argv[1])) as launcher:
    for name in ("one", "two"):
        launcher.start(Child(name, (sys.executable, "-c", {NAP!r}), dict(os.environ)))
    print(*launcher.pids.values(), flush=True)
    launcher.watch()
assert "torch" not in sys.modules
print("ended", flush=True)
"""


def start_launcher(state: Path) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER_SCRIPT, str(state)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


def test_a_launcher_killed_hard_leaves_no_process(tmp_path: Path) -> None:
    with start_launcher(tmp_path)[0] as process:
        pids = processes.marked(str(tmp_path))
        assert len(pids) == 2
        process.kill()
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_one_launcher_a_state_folder_and_never_torch(tmp_path: Path) -> None:
    process, pids = start_launcher(tmp_path)
    with process:
        with pytest.raises(DganError, match=rf"in use by another launcher \(pid {process.pid}\)"):
            Launcher(tmp_path).__enter__()
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.read() == "ended\n"
    assert process.returncode == 0
    assert not any(alive(pid) for pid in pids)


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_module, "LOG_BYTES", 10)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "nap.log").write_text("a long story")
    with Launcher(tmp_path) as launcher:
        launcher.start(child("nap", NAP))
    assert (tmp_path / "logs" / "nap.log.1").read_text() == "a long story"
    assert (tmp_path / "logs" / "nap.log").read_text() == ""
