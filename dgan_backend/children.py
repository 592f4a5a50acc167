"""Processes that compute for a command, and end when it ends, however it ends."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread


def pool(processes: int) -> ProcessPoolExecutor:
    """Of processes that begin anew, as threads of torch do not outlive a fork."""
    return ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_end_with_parent
    )


def _end_with_parent() -> None:
    """A pool's process notices that nobody waits for it only when its task, of minutes, is done."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
