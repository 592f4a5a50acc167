"""Sample pictures into a folder: python -m dgan_backend.demo.samples FOLDER SEED...

A process of its own, so that the demo never imports torch. Pictures that are there are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.records import SeedLatent


def main(folder: Path, seeds: list[int]) -> None:
    """Write sample-SEED.png and, beside it, the latent that re-creates it."""
    missing = [seed for seed in seeds if not _path(folder, seed).exists()]
    if not missing:
        return
    from dgan_backend.segmenter import Segmenter

    folder.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter.load("toonhead")
    for seed in missing:
        picture = Image.fromarray(segmenter.segment_seed(seed).image)
        latent = SeedLatent(segmenter.generator.id, seed, segmenter.truncation)
        path = _path(folder, seed)
        path.with_suffix(".json").write_text(json.dumps(latent.to_json()))
        draft = path.with_suffix(".new")
        picture.save(draft, format="PNG", optimize=True)
        draft.replace(path)


def _path(folder: Path, seed: int) -> Path:
    return folder / f"sample-{seed:04d}.png"


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])
    except DganError as error:
        sys.exit(str(error))
