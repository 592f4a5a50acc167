"""What the arguments of several commands have in common."""

from __future__ import annotations

import argparse
import math

from dgan_backend.settings import PRECISIONS, Settings


def set_up_computing() -> None:
    """Go on in a process whose memory allocator and threads are set for computing."""
    from dgan_backend.supervision import compute

    compute.restart_with(compute.environment(compute.share(1, Settings.from_env().threads)))


def add_precision(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="numbers that labels are computed in; half: 16 bits, faster where the hardware "
        "multiplies bfloat16 [PRECISION, or else auto: the fastest with the labels of float32]",
    )


def seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 2^32 - 1")
    return value


def natural(text: str) -> int:
    return 0 if text == "0" else positive(text)


def minutes(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value
