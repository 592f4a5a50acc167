"""Sheets: colours say what they should."""

from __future__ import annotations

import numpy as np

from dgan_backend.partonomy import load_partonomy
from dgan_backend.records import Segmentation
from dgan_backend.sheets import colored, heat, overlaid, segmentation_sheet


def _segmentation(height: int = 8, width: int = 8) -> Segmentation:
    labels = np.zeros((height, width), np.uint8)
    labels[2:5, 2:5] = 3
    image = np.full((height, width, 3), 100, np.uint8)
    return Segmentation(image, labels, np.zeros((height, width), np.float32), 1.0, np.log(3))


def test_labels_take_the_partonomys_colors() -> None:
    tree = load_partonomy("toonhead")
    shown = colored(_segmentation().labels, tree)
    assert tuple(shown[3, 3]) == tuple(tree.palette[3])


def test_background_stays_clear_in_an_overlay() -> None:
    shown = overlaid(_segmentation(), load_partonomy("toonhead"))
    assert (shown[0, 0] == 100).all()
    assert (shown[3, 3] != 100).any()


def test_heat_goes_from_black_to_white() -> None:
    shown = heat(np.array([[0.0, 2.0, 9.0]]), bound=2.0)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[0, 1].tolist() == shown[0, 2].tolist() == [255, 255, 255]


def test_a_sheet_holds_every_picture() -> None:
    tree = load_partonomy("toonhead")
    some = [_segmentation(), _segmentation(300, 40), _segmentation(8, 20)] * 3
    sheet = segmentation_sheet(some, tree)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 15 * 130 - 2
    assert sheet.shape[0] > 2 * 130
