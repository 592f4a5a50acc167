"""How long and how fast each network of a report learns, and in which order they do."""

from __future__ import annotations

import pytest

from dgan_backend.evaluation.budget import minutes, pictures, training
from dgan_backend.evaluation.plan import DROP, FULL, LONG, Plan, Run

PLAN = Plan(FULL, 40, 2000, style=True, person=True)


@pytest.mark.parametrize(
    ("labels", "rate"), [(1, 0.02), (2, 0.02), (4, 0.05), (15, 0.05), (16, 0.1), (40, 0.1)]
)
def test_fewer_labels_alone_are_learned_more_slowly(labels: int, rate: float) -> None:
    for method in ("supervised", "semi_supervised", "transfer"):
        assert training(Run(method, labels)).rate == rate
    for method in ("student", "many", "pretrained"):
        assert training(Run(method, labels)).rate == 0.1


def test_where_there_is_more_to_see_more_is_seen() -> None:
    seen = [pictures(Run("many", n), FULL) for n in (100, 499, 500, 1999, 2000)]
    assert seen == [9600, 9600, 19200, 19200, 38400]
    assert pictures(PLAN.student(16, 0, 3000, DROP), FULL) == 9600
    long = PLAN.long_student(20000)
    assert long.times == LONG and pictures(long, FULL) == 38400
    assert long.name == "student-16-draw0-of20000-drop0.1-times4"
    assert minutes(long) == LONG * minutes(PLAN.student(16, 0, 3000, DROP))


def test_the_curve_is_one_of_long_trainings() -> None:
    students = [run for run in PLAN.runs() if run.method == "student" and run.times == LONG]
    assert [run.synthetic for run in students] == [100, 1000, 3000, 10000, 20000]
    assert PLAN.student(16, 0, 3000, DROP) in PLAN.runs()
    made = len(PLAN.samples(students[-1])) * FULL.part
    assert 0 <= made - 20000 / (1 - DROP) < 10  # no samples that no student is given


def test_rows_that_say_most_come_first() -> None:
    runs = PLAN.runs()
    place = {run: n for n, run in enumerate(runs)}
    judges, few = PLAN.many(), [(n, draw) for draw in range(3) for n in (1, 4, 16)]
    assert runs[: len(judges)] == judges
    rows = [place[PLAN.compared("student", n, draw)] for n, draw in few]
    assert rows == sorted(rows)
    alone = [place[run] for run in runs if run.method in (
        "calibration", "ensemble", "protocol", "generated_only", "judged_labels")]  # fmt: skip
    assert rows[2] < min(alone) and max(alone) < rows[3]  # behind draw 0, before draw 1
    forty = [place[run] for run in runs if run.labels == 40 and run.method != "many"]
    assert min(forty) > rows[-1]
    long = [place[run] for run in runs if run.times == LONG]
    assert min(long) > max(forty), "the table before the curve"
    assert {run.draw for run in runs if run.labels == 40} == {0}
    assert {run.draw for run in runs if run.labels == 16} == {0, 1, 2}
