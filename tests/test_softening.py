"""Pictures as soft as a generator's samples."""

from __future__ import annotations

import torch

from dgan_backend.evaluation.softening import Softened, softened


def test_what_is_finer_than_the_resolution_is_gone_and_the_rest_stays() -> None:
    flat = torch.full((1, 3, 8, 8), 0.25)
    assert torch.equal(softened(flat, 4), flat)
    checks = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1.0  # of one pixel each
    assert softened(checks.expand(1, 3, 8, 8), 4).abs().max() == 0.0
    assert torch.equal(softened(checks.expand(1, 3, 8, 8), 8), checks.expand(1, 3, 8, 8))


def test_every_other_picture_is_soft_and_masks_are_as_they_were() -> None:
    checks = ((torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1.0).expand(4, 3, 8, 8)
    masks = torch.arange(4, dtype=torch.uint8)[:, None, None].expand(4, 8, 8)
    random = torch.Generator().manual_seed(0)
    images, found = Softened(checks, masks, 4).batch(200, random)
    soft = images.abs().amax(dim=(1, 2, 3)) == 0
    assert 70 < int(soft.sum()) < 130 and torch.equal(
        images[~soft], checks[:1].expand_as(images[~soft])
    )
    assert set(found.unique().tolist()) == {0, 1, 2, 3}
