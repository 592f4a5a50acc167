"""What the arguments of several commands have in common."""

from __future__ import annotations

import argparse
import math
import re

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


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", type=device, default="cpu", help="cpu or cuda [%(default)s]")


def device(text: str) -> str:
    """Raises ArgumentTypeError where there is no such device."""
    if text == "cpu":
        return text
    if re.fullmatch(r"cuda(:\d+)?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither cpu nor cuda")
    import torch  # takes seconds, which those who stay on the CPU need not wait here

    number = int(text.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f"{text} is not here: torch {torch.__version__} finds {torch.cuda.device_count()} "
            "GPUs; install torch for CUDA, or leave it at cpu"
        )
    return text


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 up to, but not, 1")
    return value


def above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


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
