"""A report's runs: one that fails or dies costs its own figures alone, and what is kept stays."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.evaluation import reporting
from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.domain import Domain
from dgan_backend.evaluation.keys import content_digest
from dgan_backend.evaluation.plan import Plan, Run, Scale
from dgan_backend.evaluation.running import Figures, carry_out, compute, missing
from dgan_backend.student.lessons import Labeled
from dgan_backend.versions import read_version
from tests.test_report import TINY, arguments, domain, generator, write_pairs

__all__ = ["domain", "generator"]  # fixtures
FAST = replace(TINY, labels=(2,), once=(), curve=(), drops=(), causes=False)


class Few(Plan):
    """Those baselines alone that need nothing of a generator."""

    def runs(self) -> list[Run]:
        told = ("supervised", "pretrained", "transfer", "semi_supervised")
        return [run for run in super().runs() if run.method in told]


@dataclass(frozen=True)
class Small(Bench):
    @property
    def plan(self) -> Plan:
        return Few(self.scale, 4, style=self.domain.style is not None)


@dataclass(frozen=True)
class Deadly(Small):
    """Its process dies where a supervised network is to be trained."""

    def draw(self, run: Run) -> Labeled:
        if run.method == "supervised":
            os._exit(9)
        return super().draw(run)


@pytest.fixture
def style(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "style", 3, first=200)


def small(domain: Path, generator: Path, style: Path | None, scale: Scale = FAST) -> Small:
    told = Domain("blocks", domain, str(domain / "partonomy.yaml"), str(generator),
                  test=domain / "kept-out", style=style)  # fmt: skip
    return Small(told, scale, domain.parent / "work")


def of_nothing(style: Path) -> None:
    """Every pixel of its masks is ignored: nothing can be learned from it."""
    for path in (style / "masks").iterdir():
        Image.fromarray(np.full((32, 32), 255, np.uint8)).save(path)


def test_a_failure_is_told_and_tried_again_and_all_else_is_done(
    domain: Path, generator: Path, style: Path, tmp_path: Path
) -> None:
    bench, figures = small(domain, generator, style), Figures(tmp_path / "a.json")
    masks = {path: path.read_bytes() for path in (style / "masks").iterdir()}
    of_nothing(style)
    failures = carry_out(bench, figures, 1)
    assert {run.method: why for run, why in failures.items()}.keys() == {"pretrained", "transfer"}
    assert failures[Run("transfer", 2)] == "it needs pretrained-0-draw0, which failed"
    assert {run.method for run in figures.of(bench)} == {"supervised", "semi_supervised"}
    for path, found in masks.items():
        path.write_bytes(found)
    content_digest.cache_clear()  # as another process
    assert {run.method for run in missing(bench, figures.of(bench))} == {"pretrained", "transfer"}
    assert carry_out(bench, figures, 1) == {}
    assert missing(bench, figures.of(bench)) == []


def test_a_process_that_dies_takes_no_other_run_along(
    domain: Path, generator: Path, style: Path, tmp_path: Path
) -> None:
    bench = small(domain, generator, style)
    deadly = Deadly(bench.domain, bench.scale, tmp_path / "work")
    figures = Figures(tmp_path / "a.json")
    told: list[int] = []
    failures = carry_out(deadly, figures, 2, lambda done, running: told.append(len(done)))
    assert list(failures) == [Run("supervised", 2)]
    assert failures[Run("supervised", 2)].startswith("its process died")
    left = {"pretrained", "transfer", "semi_supervised"}
    assert {run.method for run in Figures(figures.path).of(deadly)} == left and told[-1] == 3


def test_what_was_killed_between_a_version_and_its_figures_goes_on(
    domain: Path, generator: Path, tmp_path: Path
) -> None:
    bench = Bench(small(domain, generator, None).domain, FAST, tmp_path / "work")
    run = Run("version", 2)
    assert compute(bench, run)["fit_seconds"] > 0
    made = read_version(bench.path(run))[1]
    assert compute(bench, run)["fit_seconds"] is None
    assert torch.equal(made.w1, read_version(bench.path(run))[1].w1)


def test_two_commands_do_not_write_over_each_other(
    domain: Path, generator: Path, tmp_path: Path
) -> None:
    args = arguments(domain, generator, tmp_path / "out")
    with reporting._alone(tmp_path / "out" / "work"), pytest.raises(DganError, match="another"):
        reporting.report(args)
    assert not (tmp_path / "out" / "blocks.json").exists()


def test_a_report_with_failures_has_its_page_and_exit_code(
    domain: Path, generator: Path, style: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    of_nothing(style)
    monkeypatch.setattr(reporting, "QUICK", FAST)
    monkeypatch.setattr(reporting, "Bench", Small)
    words = ["--style", str(style), "--no-pictures"]
    assert reporting.report(arguments(domain, generator, tmp_path / "out", *words)) == 1
    assert "transfer-2-draw0: it needs pretrained-0-draw0" in capsys.readouterr().err
    page = (tmp_path / "out" / "blocks.html").read_text()
    assert "Not measured: pretrained-0-draw0" in page and "2 runs are still missing" in page
    found = json.loads((tmp_path / "out" / "blocks.json").read_text())
    assert found["miou"]["supervised_2"] > 0 and set(found["failures"]) == {
        "pretrained-0-draw0", "transfer-2-draw0"}  # fmt: skip


def test_figures_of_another_scale_stay(domain: Path, generator: Path, tmp_path: Path) -> None:
    full, figures = small(domain, generator, None), Figures(tmp_path / "a.json")
    quick = small(domain, generator, None, replace(FAST, pictures=4))
    run = Run("supervised", 2)
    for bench, miou in ((full, 0.6), (quick, 0.2)):
        figures.add(run, {"key": bench.key(run), "miou": miou})
    again = Figures(figures.path)
    assert again.of(full)[run]["miou"] == 0.6 and again.of(quick)[run]["miou"] == 0.2


def test_keys_know_what_is_in_files(domain: Path, generator: Path, tmp_path: Path) -> None:
    many = write_pairs(tmp_path / "many", 3, first=300)
    before = content_digest(many)
    mask = many / "masks" / "300.png"
    size = mask.stat().st_size
    content_digest.cache_clear()
    assert content_digest(many) == before
    mask.write_bytes(mask.read_bytes()[:-1] + b"\0")
    assert mask.stat().st_size == size
    content_digest.cache_clear()
    assert content_digest(many) != before

    bench = small(domain, generator, None)
    judged = Run("judged_labels", 2, synthetic=6, drop=0.1)
    keys = []
    for word in (b"one", b"two"):
        path = tmp_path / f"{word!r}.safetensors"
        path.write_bytes(word)
        keys.append(replace(bench, domain=replace(bench.domain, person=path)).key(judged))
    assert len({*keys, bench.key(judged)}) == 3


def test_what_is_measured_on_is_learned_from_nowhere(
    domain: Path, generator: Path, style: Path
) -> None:
    bench = small(domain, generator, style)
    bench.check()
    for option in ("many", "style"):
        leaking = replace(bench, domain=replace(bench.domain, **{option: domain / "kept-out"}))
        with pytest.raises(DganError, match="is the same picture as"):
            leaking.check()


def test_a_network_that_has_one_opinion_has_no_uncertainty(
    domain: Path, generator: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "partonomy.yaml"
    text = (domain / "partonomy.yaml").read_text()
    tree.write_text(text.replace("{name: block,", "{name: left block,"))
    bench = small(domain, generator, None)
    bench = replace(bench, domain=replace(bench.domain, partonomy=str(tree)), folder=tmp_path)
    figures = Figures(tmp_path / "a.json")
    assert carry_out(bench, figures, 1) == {}
    cell = figures.of(bench)[Run("supervised", 2)]
    assert bench.voting(bench.recipe(Run("")).network()).members == 1
    assert "auroc" not in cell and "spearman" not in cell and cell["miou"] > 0
