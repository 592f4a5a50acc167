"""Reads damaged and hostile generator files in a process of its own, and tells what it took.

    python -m tests.corrupted FOLDER EXAMPLES

Ends with an error when reading raises anything but a DganError, when Python's audit hooks tell of
anything run or written, or when one file takes more than 2x its size + 200 MB, or 5 s.
"""

from __future__ import annotations

import codecs
import json
import resource
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgan_backend.errors import DganError
from dgan_backend.generators.checkpoints import network_of, read_foreign
from dgan_backend.generators.stylegan1 import StyleGAN1
from tests.bombs import BOMBS
from tests.builders import tiny_stylegan1_config
from tests.pickled import (
    ada_pickle,
    small_stylegan3,
    small_tensors,
    tf_pickle,
    torch_saved,
    training_checkpoint,
)

SECONDS, MEGABYTES = 5.0, 200
_RUNS = (
    "exec",
    "compile",
    "import",
    "os.",
    "subprocess.",
    "pickle.",
    "ctypes.",
    "socket.",
    "shutil.",
)
_OPCODES = [bytes([code]) for code in range(256)]
_FRAGMENTS = [
    *_OPCODES,
    b"cposix\nsystem\nX\x0b\x00\x00\x00touch pwned\x85R",
    b"\x8c\x05posix\x8c\x06system\x93\x8c\x0btouch pwned\x85R",
    b"cbuiltins\nexec\nX\x07\x00\x00\x001/0 # x\x85R",
    b"(S'touch pwned'\nios\nsystem\n",
    b"\x8b\xff\xff\xff\x7f",
    b"\x8e" + struct.pack("<Q", 2**40),
    b"\x8d" + struct.pack("<Q", 2**63),
    b"r\xff\xff\xff\xff",
    b"(" * 3000,
    b"]" * 3000,
    b"}b" * 50,
]
_PLACE = st.integers(0, 2**20)
_EDIT = st.one_of(
    st.tuples(st.just("flip"), _PLACE, st.integers(1, 255)),
    st.tuples(st.just("cut"), _PLACE),
    st.tuples(st.just("insert"), _PLACE, st.sampled_from(_FRAGMENTS)),
    st.tuples(st.just("splice"), _PLACE, _PLACE, st.integers(1, 400)),
)


class Watch:
    """What happens while a file is read."""

    def __init__(self, folder: Path) -> None:
        self._path, self._armed = folder / "x.pkl", False
        self.slowest, self.refused, self.read = 0.0, Counter[str](), 0
        sys.addaudithook(self._heard)

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        opened = event == "open" and args[0] != str(self._path)
        if opened or event.startswith(_RUNS):
            self._armed = False
            raise SystemExit(f"{event} {args!r:.300} while a file was read")

    def take(self, data: bytes) -> str:
        """Why it was refused, or ""."""
        self._path.write_bytes(data)
        began, said = time.process_time(), ""
        self._armed = True
        try:
            network_of(read_foreign(self._path))
            self.read += 1
        except DganError as error:
            said = str(error)
            self.refused[said.split(":")[0][:40]] += 1
        finally:
            self._armed = False
        self.slowest = max(self.slowest, time.process_time() - began)
        if self.slowest > SECONDS:
            raise SystemExit(f"{self.slowest} s for {data[:100]!r} ...")
        return said


def originals() -> list[bytes]:
    """One file of each format and protocol."""
    tensors = small_tensors()
    weights = {
        "style.1.weight": torch.zeros(4, 4),
        "style.1.bias": torch.zeros(4),
        "input.input": torch.zeros(1, 4, 4, 4),
    }
    return [
        *(ada_pickle(tensors, protocol, old=protocol < 4) for protocol in (2, 3, 4)),
        tf_pickle(tensors, {"mapping_lrmul": 0.01}),
        small_stylegan3(),
        torch_saved(dict(StyleGAN1(tiny_stylegan1_config()).state_dict())),
        torch_saved(training_checkpoint(weights)),
        torch_saved(training_checkpoint(weights), legacy=True),
    ]


def edited(data: bytes, edits: list[tuple[Any, ...]]) -> bytes:
    for what, place, *how in edits:
        at = place % max(1, len(data))
        if what == "flip" and data:
            data = data[:at] + bytes([data[at] ^ how[0]]) + data[at + 1 :]
        elif what == "cut":
            data = data[:at]
        elif what == "insert":
            data = data[:at] + how[0] + data[at:]
        elif what == "splice":
            source = how[0] % max(1, len(data))
            data = data[:at] + data[source : source + how[1]] + data[at:]
    return data


def corrupt(watch: Watch, examples: int) -> None:
    files = originals()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples <= 1000,  # more look at other files each time
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(files), st.lists(_EDIT, min_size=1, max_size=3))
    def take(data: bytes, edits: list[tuple[Any, ...]]) -> None:
        watch.take(edited(data, edits))

    take()


def explode(watch: Watch) -> dict[str, dict[str, Any]]:
    """Each bomb, by the memory that it took beyond twice its size, in MB."""
    found = {}
    for name, make in BOMBS.items():
        data = make()
        before = _forget_peak()
        said = watch.take(data)
        found[name] = {"said": said, "megabytes": _peak() - before - 2 * len(data) / 2**20}
    return found


def _peak() -> float:
    """Of this process since `_forget_peak`, in MB. (ru_maxrss begins with the parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _forget_peak() -> float:
    """What is taken now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _limit_memory() -> None:
    """200 MB and twice the largest file beyond what is taken now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (MEGABYTES + 64) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    folder, examples = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    watch = Watch(folder)
    whole = sum(not watch.take(data) for data in originals())  # what is imported late, is now
    codecs.lookup("cp437")  # which zipfile imports when it reads old names
    _limit_memory()
    before = _forget_peak()
    corrupt(watch, examples)
    peak = _peak() - before
    bombs = explode(watch)
    told = {
        "whole": whole,
        "read": watch.read,
        "refused": dict(watch.refused),
        "slowest": watch.slowest,
        "megabytes": peak,
        "bombs": bombs,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
