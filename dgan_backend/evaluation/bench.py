"""What runs share: the pictures, the work folder, and what was left in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dgan_backend.evaluation import methods
from dgan_backend.evaluation.baselines import Recipe
from dgan_backend.evaluation.budget import pictures, training
from dgan_backend.evaluation.causes import load_person
from dgan_backend.evaluation.domain import Domain
from dgan_backend.evaluation.few_shot import FewShotSet, check_apart, squares
from dgan_backend.evaluation.keys import depends
from dgan_backend.evaluation.plan import Plan, Run, Scale
from dgan_backend.factory.card import read_order
from dgan_backend.generators.native import read_card, read_tensors, write_tensors
from dgan_backend.generators.references import generator_folder
from dgan_backend.labeled import LabeledPictures, load_pairs
from dgan_backend.segmenter import Segmenter
from dgan_backend.storage import Storage
from dgan_backend.student.augment import AugmentSettings
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.deeplab import DeepLabConfig, deeplab
from dgan_backend.student.lessons import Labeled
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.student import Student
from dgan_backend.versions import CARD as VERSION_CARD

FORMAT = "dgan-backend report 1"


@dataclass(frozen=True)
class Bench:
    """Picklable: every process reads its parts for itself. folder: for what runs leave behind."""

    domain: Domain
    scale: Scale
    folder: Path

    @property
    def data(self) -> FewShotSet:
        return _data(self)

    @property
    def many(self) -> LabeledPictures:
        """More labeled pictures, where the domain has them."""
        assert self.domain.many is not None
        return _many(self.domain.many)

    @property
    def plan(self) -> Plan:
        labeled = 0 if self.domain.many is None else len(self.many)
        style, person = self.domain.style is not None, self.domain.person is not None
        return Plan(self.scale, self.data.largest, labeled, style, person)

    @property
    def side(self) -> int:
        """Of all pictures and masks, px."""
        return int(self.data.pairs.masks[0].shape[0])

    @property
    def resolution(self) -> int:
        """Of the generator's samples, px."""
        return read_card(generator_folder(self.domain.generator)).architecture.resolution

    def check(self) -> None:
        """Raises DganError when a picture that is measured on is also learned from, or a mask of
        the many labels has a value that is no class."""
        self._check_apart()
        if self.domain.many is not None:
            load_pairs(self.domain.many).checked(self.data.partonomy)

    def _check_apart(self) -> None:
        domain = self.domain
        test = load_pairs(domain.test) if domain.test else load_pairs(domain.pairs)
        if domain.test is None:
            test = test.pick(range(self.data.pool, len(test)))
        for path in (domain.many, domain.style):
            if path is not None:
                check_apart(load_pairs(path), test, path, domain.test or domain.pairs)

    def draw(self, run: Run) -> Labeled:
        drawn = self.data.draw(run.labels, run.draw)
        return Labeled(methods.tensors(drawn), methods.masks(drawn))

    def unlabeled(self, run: Run) -> Tensor:
        """Pictures that the draw does not hold: many more, or else the others of the pool."""
        if self.domain.many is not None:
            return methods.tensors(self.many)
        rest = self.data.order(run.draw)[run.labels :]
        return methods.tensors(self.data.pairs.pick(rest))

    def true(self) -> npt.NDArray[np.uint8]:
        """Of the test pictures, [T, S, S]."""
        return np.stack(self.data.test().masks)

    def recipe(self, run: Run, classes: int | None = None) -> Recipe:
        """How a run's network is trained. classes: of pictures of another style."""
        augment = AugmentSettings()
        if classes is None:
            augment = augment.for_classes(self.data.partonomy.mirrored)
        if self.data.turns:
            augment = augment.at_any_angle()
        settings = UNetSettings(
            pictures=pictures(run, self.scale),
            rate=training(run).rate,
            augment=augment,
            seed=run.draw,
        )
        return Recipe(classes or self.data.partonomy.num_classes, settings)

    def voting(self, network: SegmentationNetwork) -> Student:
        """A network that also looks at the mirrored picture, as all that are compared do, unless
        left and right are told apart by what a mirrored picture does not show."""
        augment = self.recipe(Run("")).settings.augment
        return Student([network], augment.mirror, augment.swap)

    def key(self, run: Run) -> str:
        """Of all that a run's figures depend on, beside code."""
        needs = [self.key(needed) for needed in self.plan.needs(run)]
        told = [FORMAT, run.name, self.data.digest, depends(self, run), needs]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]

    def path(self, run: Run) -> Path:
        """What a run leaves behind, if it does."""
        return self.folder / run.method / f"{run.name}-{self.key(run)}"

    def at_hand(self, run: Run) -> bool:
        """Whether the files that others need of it are there."""
        path = self.path(run)
        if run.method == "version":
            return (path / VERSION_CARD).is_file()
        if run.method == "samples":
            return read_order(Storage(path)) is not None
        return self._file(run).is_file()

    def keep(self, run: Run, network: SegmentationNetwork, epoch: int | None = None) -> None:
        """epoch: before the end; what is kept without is kept last."""
        path = self._file(run, epoch)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, network.state_dict(), dtype=None)

    def network(self, run: Run, epoch: int | None = None) -> SegmentationNetwork:
        """As a run left it."""
        stored = read_tensors(self._file(run, epoch))
        classes = next(v for name, v in stored.items() if name == "head.weight").shape[0]
        network = deeplab(DeepLabConfig(), classes)
        network.load_state_dict(stored)
        return network.eval().requires_grad_(False)

    def _file(self, run: Run, epoch: int | None = None) -> Path:
        path = self.path(run)
        told = "" if epoch is None else f"-epoch{epoch}"
        return path.with_name(f"{path.name}{told}.safetensors")

    def segmenter(self, run: Run) -> Segmenter:
        """The version of a run's draw."""
        return Segmenter.load(self.path(Run("version", run.labels, run.draw)))

    def has_judge(self) -> bool:
        judge = self.plan.judge()
        return self.domain.person is not None or (judge is not None and self.at_hand(judge))

    def judge(self) -> SegmentationNetwork:
        """What labels samples in a person's place."""
        if self.domain.person is not None:
            return load_person(self.domain.person, self.data.partonomy.num_classes)
        judge = self.plan.judge()
        assert judge is not None  # no run that wants it is planned otherwise
        return self.network(judge)


@lru_cache(maxsize=2)
def _data(bench: Bench) -> FewShotSet:
    domain = bench.domain
    turns = domain.turns or read_card(generator_folder(domain.generator)).turns
    data = FewShotSet.load(domain.pairs, domain.partonomy, domain.test, turns)
    if bench.scale.test is None:
        return data
    last = min(len(data.pairs), data.pool + bench.scale.test)
    return replace(data, pairs=data.pairs.pick(range(last)))


@lru_cache(maxsize=1)
def _many(path: Path) -> LabeledPictures:
    return squares(load_pairs(path))
