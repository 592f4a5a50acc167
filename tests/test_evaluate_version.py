"""A version held against labeled pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dgan_backend import metrics
from dgan_backend.cli import main
from dgan_backend.errors import DganError
from dgan_backend.evaluation.version import Judged, Judgement, judge, measure_version
from dgan_backend.labeled import LabeledPictures, load_pairs
from dgan_backend.records import Segmentation
from dgan_backend.segmenter import Segmenter

REFERENCE = Path(__file__).parent / "data" / "toonhead" / "reference.npz"


def _judged(
    true: list[list[int]], found: list[list[int]], unsure: list[list[float]], score: float
) -> Judged:
    masks = np.array(true, np.uint8), np.array(found, np.uint8)
    looked = masks[0] != 255
    picture = np.zeros((*masks[0].shape, 3), np.uint8)
    segmentation = Segmentation(picture, masks[1], np.array(unsure, np.float32), score, 1.0)
    counts = metrics.confusion(masks[0][looked], masks[1][looked], 3)
    return Judged(f"score {score}", segmentation, masks[0], counts)


def test_scores_and_uncertainty_are_held_against_the_masks() -> None:
    judgement = Judgement(
        [
            _judged([[0, 1], [2, 255]], [[0, 1], [1, 2]], [[0.9, 0.1], [0.8, 1.0]], 0.3),
            _judged([[0, 1], [2, 0]], [[0, 1], [2, 0]], [[0.9, 0.2], [0.1, 0.9]], 0.9),
            _judged([[255, 255]], [[0, 1]], [[0.5, 0.5]], 0.5),
        ],
        seconds=0.0,
    )
    # Foreground pixels that count: wrong .8; right .1, .2, .1. Background and 255 do not.
    assert judgement.auroc() == 1.0
    assert judgement.ious() == pytest.approx([(1 + 0.5 + 0) / 3, 1.0])
    assert judgement.spearman() == pytest.approx(1.0)
    assert [j.name for j in judgement.worst(5)] == ["score 0.3", "score 0.9"]


def test_the_shipped_version_is_right_and_knows_where_it_is_not() -> None:
    segmenter = Segmenter.load("toonhead")
    pairs = load_pairs(REFERENCE).pick(range(60, 76))
    pairs.masks[0] = np.full_like(pairs.masks[0], 255)
    measured = measure_version(segmenter, judge(segmenter, pairs), [0.0])
    assert measured["miou"] > 0.75
    assert measured["auroc"] > 0.85
    assert measured["median_score"] > 0.6
    assert measured["pictures"][0]["miou"] is None
    json.dumps(measured, allow_nan=False)


def test_a_mask_with_an_unknown_class_is_named() -> None:
    picture, mask = np.zeros((32, 32, 3), np.uint8), np.full((32, 32), 16, np.uint8)
    with pytest.raises(DganError, match=r"mask of a\.png holds 16"):
        judge(Segmenter.load("toonhead"), LabeledPictures(["a.png"], [picture], [mask]))


def test_the_command_writes_json_and_the_worst_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.supervision.compute.restart_with", lambda extra: None)
    pairs = load_pairs(REFERENCE)
    np.savez(tmp_path / "p.npz", image=np.stack(pairs.images[:4]), mask=np.stack(pairs.masks[:4]))
    stranger = Path(__file__).parents[1] / "docs" / "outside.png"
    command = ["evaluate", "version", str(tmp_path / "p.npz"), "--skip", "1"]
    command += ["--sheet", str(tmp_path / "worst.png"), "--json", str(tmp_path / "v.json")]
    assert main([*command, "--others", str(stranger)]) == 0
    told = capsys.readouterr().out
    assert "| version toonhead-shipped | 3 pictures |" in told
    assert "something else | 0.0" in told
    assert (tmp_path / "worst.png").is_file()
    assert len(json.loads((tmp_path / "v.json").read_text())["pictures"]) == 3
    with pytest.raises(SystemExit):
        main([*command[:3], "--skip", "-1"])
    assert main(["evaluate", "version", str(tmp_path / "p.npz"), "--skip", "4"]) == 2
