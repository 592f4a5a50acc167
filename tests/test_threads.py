from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator

import pytest
import torch

from dgan_backend.interpreter.threads import shares, side_by_side

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def told(part: int) -> tuple[int, int, bool, bool]:
    torch.ones(4).sum()
    threads = torch.get_num_threads()
    return part, threads, torch.is_inference_mode_enabled(), torch.is_grad_enabled()


def test_each_part_has_one_thread_and_the_callers_mode() -> None:
    assert side_by_side(told, [3, 1, 2], CPU) == [(n, 1, False, True) for n in (3, 1, 2)]
    with torch.inference_mode():
        assert [found[2] for found in side_by_side(told, [1, 2], CPU)] == [True, True]
    with torch.no_grad():
        assert [found[3] for found in side_by_side(told, [1, 2], CPU)] == [False, False]
    assert torch.get_num_threads() == 2


def test_threads_that_come_later_are_as_they_were() -> None:
    side_by_side(told, [1, 2], CPU)
    found: list[int] = []
    later = threading.Thread(target=lambda: found.append(told(0)[1]))
    later.start()
    later.join()
    assert found == [2]


def test_an_exception_is_raised_when_all_have_ended() -> None:
    ended: list[int] = []
    first = threading.Event()

    def work(part: int) -> None:
        if part == 0:
            first.set()
            raise ValueError("part 0")
        first.wait(10)
        ended.append(part)

    with pytest.raises(ValueError, match="part 0"):
        side_by_side(work, [0, 1, 2, 3], CPU)
    assert sorted(ended) == [1, 2, 3]


def test_elsewhere_parts_follow_each_other() -> None:
    names = side_by_side(lambda _: threading.current_thread().name, [1, 2], torch.device("meta"))
    assert set(names) == {threading.current_thread().name}


def in_child(answers: multiprocessing.SimpleQueue[int]) -> None:
    answers.put(len(side_by_side(told, [1, 2], CPU)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    side_by_side(told, [1, 2], CPU)
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    child = context.Process(target=in_child, args=(answers,))
    child.start()
    child.join(60)
    assert child.exitcode == 0 and answers.get() == 2


def test_shares_are_as_many_as_threads_and_no_larger_than_they_may_be() -> None:
    assert [len(s) for s in shares(torch.arange(4000), 10_000)] == [2000, 2000]
    assert [len(s) for s in shares(torch.arange(4000), 1500)] == [1500, 1500, 1000]
    assert [len(s) for s in shares(torch.arange(600), 10_000)] == [512, 88]
    assert [len(s) for s in shares(torch.arange(100), 10_000)] == [100]
