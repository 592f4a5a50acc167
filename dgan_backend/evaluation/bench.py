"""Where runs are carried out: each reads what it needs in the work folder, and tells figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgan_backend import metrics
from dgan_backend.evaluation import baselines, methods
from dgan_backend.evaluation.baselines import Recipe
from dgan_backend.evaluation.calibration import Guesses, calibrated
from dgan_backend.evaluation.causes import load_person
from dgan_backend.evaluation.domain import Domain
from dgan_backend.evaluation.few_shot import Cell, FewShotSet, Outcome, Stopwatch, measure, squares
from dgan_backend.evaluation.minutes import saved
from dgan_backend.evaluation.plan import Plan, Run, Scale
from dgan_backend.evaluation.protocol import compared
from dgan_backend.factory.card import Subject, read_order
from dgan_backend.factory.finishing import finish
from dgan_backend.factory.making import find_version, items
from dgan_backend.factory.order import Order, shard_size
from dgan_backend.factory.reading import DataSet, batch_of
from dgan_backend.factory.shards import Shards
from dgan_backend.fitting import FitPlan
from dgan_backend.generators import load_generator
from dgan_backend.generators.native import file_hash, read_card, read_tensors, write_tensors
from dgan_backend.generators.references import generator_folder
from dgan_backend.interpreter import Ensemble, FitSettings
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import load_encoder
from dgan_backend.labeled import LabeledPictures, load_pairs
from dgan_backend.merging import IGNORE
from dgan_backend.pictures import Picture
from dgan_backend.reading import images_and_maps
from dgan_backend.records import Segmentation
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.student.augment import AugmentSettings
from dgan_backend.student.course import UNetSettings, weights_by
from dgan_backend.student.course import finish as finish_network
from dgan_backend.student.deeplab import DeepLabConfig, deeplab
from dgan_backend.student.lessons import Labeled, Lessons, mixed
from dgan_backend.student.native import backbone_id
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.student import Student, StudentSettings
from dgan_backend.student.teaching import Checkpoint
from dgan_backend.versions import CARD as VERSION_CARD

FORMAT = "dgan-backend report 1"
HUMAN = 0.5  # share of people's labels in a student's batches
_FIRST = 10_000_000  # seed of the samples that students learn from
_FIRST_JUDGED = 20_000_000  # and of those that calibration is measured on
_AT_ONCE = 16  # pictures
_SHARE = {"generated_only": 0.0}


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
    def plan(self) -> Plan:
        many = _many(self.domain)
        labeled = 0 if many is None else len(many)
        style, person = self.domain.style is not None, self.domain.person is not None
        return Plan(self.scale, self.data.largest, labeled, style, person)

    @property
    def side(self) -> int:
        """Of all pictures and masks, px."""
        return int(self.data.pairs.masks[0].shape[0])

    def key(self, run: Run) -> str:
        """Of all that a run's figures depend on, beside code."""
        needs = [self.key(needed) for needed in self.plan.needs(run)]
        told = [FORMAT, run.name, self.data.digest, self._numbers(run), needs]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]

    def _numbers(self, run: Run) -> list[Any]:
        scale, domain = self.scale, self.domain
        generator = [read_card(generator_folder(domain.generator)).sha256]
        if run.method == "version":
            fit = [scale.unet_pictures, scale.interpreter_steps, scale.taught]
            return [*generator, backbone_id(domain.generator), *fit]
        if run.method == "samples":
            return [scale.part, self.side]
        if run.method == "inversion":
            settings = asdict(InversionSettings())
            return [*generator, methods.INTERPRETER_MEMBERS, settings]
        if run.method in ("calibration", "ensemble"):
            judge = file_hash(domain.person) if domain.person else ""
            members = list(scale.members) if run.method == "ensemble" else []
            return [scale.judged, judge, members]
        if run.method == "prelabeler":
            return []
        trained: list[Any] = [asdict(self.recipe(run).settings), DeepLabConfig().to_json()]
        if run.method in ("many", "semi_supervised", "rendered_pictures"):
            trained.append(_folder_digest(domain.many))
        if run.method == "pretrained":
            trained.append(_folder_digest(domain.style))
        if run.synthetic:
            trained.append(HUMAN)
        if run.method == "protocol":
            trained.append(scale.epochs)
        return trained

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
        return self._network_file(run).is_file()

    def _network_file(self, run: Run) -> Path:
        path = self.path(run)
        return path.with_name(path.name + ".safetensors")

    def compute(self, run: Run) -> dict[str, Any]:
        """Carry out a run; what it needs is there. Returns its figures, as JSON."""
        torch.set_num_threads(1)
        by_method = {
            "version": self._version,
            "samples": self._samples,
            "prelabeler": self._prelabeler,
            "inversion": self._inversion,
            "calibration": self._calibration,
            "ensemble": self._ensemble,
            "protocol": self._protocol,
            "pretrained": self._pretrained,
        }
        found = by_method.get(run.method, self._trained)(run)
        return {"key": self.key(run), **asdict(run), **found}

    # Pictures -----------------------------------------------------------------------------------

    def draw(self, run: Run) -> Labeled:
        drawn = self.data.draw(run.labels, run.draw)
        return Labeled(methods.tensors(drawn), methods.masks(drawn))

    def unlabeled(self, run: Run) -> Tensor:
        """Pictures that the draw does not hold: many more, or else the others of the pool."""
        many = _many(self.domain)
        if many is not None:
            return methods.tensors(many)
        rest = self.data.order(run.draw)[run.labels :]
        return methods.tensors(self.data.pairs.pick(rest))

    def true(self) -> npt.NDArray[np.uint8]:
        return np.stack(self.data.test().masks)

    # Networks -----------------------------------------------------------------------------------

    def recipe(self, run: Run, classes: int | None = None) -> Recipe:
        augment = AugmentSettings()
        if classes is None:
            augment = augment.for_classes(self.data.partonomy.mirrored)
        if self.data.turns:
            augment = augment.at_any_angle()
        settings = UNetSettings(pictures=self.scale.pictures, augment=augment, seed=run.draw)
        return Recipe(classes or self.data.partonomy.num_classes, settings)

    def network(self, run: Run) -> SegmentationNetwork:
        """As a run left it."""
        stored = read_tensors(self._network_file(run))
        classes = next(v for name, v in stored.items() if name == "head.weight").shape[0]
        network = deeplab(DeepLabConfig(), classes)
        network.load_state_dict(stored)
        return network.eval().requires_grad_(False)

    def _keep(self, run: Run, network: SegmentationNetwork) -> None:
        path = self._network_file(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, network.state_dict(), dtype=None)

    def voting(self, network: SegmentationNetwork) -> Student:
        """A network that also looks at the mirrored picture, as all that are compared do."""
        augment = self.recipe(Run("")).settings.augment
        return Student([network], augment.mirror, augment.swap)

    def judge(self) -> SegmentationNetwork:
        """What labels samples in a person's place."""
        if self.domain.person is not None:
            return load_person(self.domain.person, self.data.partonomy.num_classes)
        return self.network(self.plan.judges()[-1])

    def segmenter(self, run: Run) -> Segmenter:
        return Segmenter.load(self.path(Run("version", run.labels, run.draw)))

    # Runs ---------------------------------------------------------------------------------------

    def _trained(self, run: Run) -> dict[str, Any]:
        watch = Stopwatch()
        checkpoint = Checkpoint(self.folder / "checkpoints" / f"{run.name}.pt", self.key(run))
        network = self._fitted(run, checkpoint)
        checkpoint.path.unlink(missing_ok=True)
        if run.method in ("many", "student"):
            self._keep(run, network)
        return self._measured(network, watch.seconds())

    def _fitted(self, run: Run, checkpoint: Checkpoint) -> SegmentationNetwork:
        recipe = self.recipe(run)
        if run.method == "supervised":
            return recipe.fit(self.draw(run), checkpoint)
        if run.method == "many":
            many = _many(self.domain)
            assert many is not None  # there is no such run otherwise
            chosen = np.random.RandomState(run.draw).permutation(len(many))[: run.labels]
            pairs = many.pick(chosen)
            return recipe.fit(Labeled(methods.tensors(pairs), methods.masks(pairs)), checkpoint)
        if run.method == "transfer":
            begin = self.network(Run("pretrained"))
            return baselines.transfer(recipe, begin, self.draw(run), checkpoint)
        if run.method == "semi_supervised":
            return baselines.semi_supervised(recipe, self.draw(run), self.unlabeled(run))
        return recipe.fit(self.lessons(run), checkpoint)

    def lessons(self, run: Run) -> Lessons:
        """What a student learns from."""
        human = _SHARE.get(run.method, HUMAN)
        return mixed([(self.draw(run), human), (self._generated(run), 1 - human)])

    def _generated(self, run: Run) -> Lessons:
        if run.method == "rendered_pictures":
            return self._labeled_by_version(run)
        folders = [str(self.path(part)) for part in self.plan.samples(run)]
        sampled = DataSet.open(folders, self.data.partonomy, self.side)
        found = sampled.pick(run.synthetic, run.drop)
        return Relabeled(found, self.judge()) if run.method == "judged_labels" else found

    def _labeled_by_version(self, run: Run) -> Labeled:
        many = _many(self.domain)
        assert many is not None  # there is no such run otherwise
        pairs = many.pick(range(min(run.synthetic, len(many))))
        found = _segmented(self.segmenter(run), pairs.images)
        return Labeled(*batch_of(pairs.images, [s.labels for s in found]))

    def _pretrained(self, run: Run) -> dict[str, Any]:
        assert self.domain.style is not None  # there is no such run otherwise
        watch, pairs = Stopwatch(), squares(load_pairs(self.domain.style))
        masks = methods.masks(pairs)
        classes = int(masks[masks != IGNORE].max()) + 1
        labels = Labeled(methods.tensors(pairs), masks)
        self._keep(run, self.recipe(run, classes).fit(labels))
        return {"pictures": len(pairs), "classes": classes, "fit_seconds": watch.seconds()}

    def _measured(self, network: SegmentationNetwork, seconds: float) -> dict[str, Any]:
        watch, student = Stopwatch(), self.voting(network)
        found = [student.predict(image) for image in methods.tensors(self.data.test()).split(1)]
        each = watch.seconds() / len(found)
        return self._told(methods.outcome_of(found, [1.0] * len(found), seconds, each))

    def _told(self, outcome: Outcome) -> dict[str, Any]:
        """The ruler's figures, and those that only the report has."""
        true, classes = self.true(), self.data.partonomy.num_classes
        pairs = zip(true, outcome.labels, strict=True)
        counts = np.stack([metrics.confusion(t, p, classes) for t, p in pairs])
        low, high = metrics.bootstrap(counts)
        boundary = metrics.boundary_counts(true, outcome.labels, classes).class_f()
        return {
            **measure(true, outcome, classes),
            "miou_foreground": _number(metrics.foreground_mean_iou(counts.sum(axis=0))),
            "miou_low": low,
            "miou_high": high,
            "class_boundary_f": [_number(value) for value in boundary],
            "minutes": saved(true, outcome.labels),
        }

    def _version(self, run: Run) -> dict[str, Any]:
        watch, drawn, scale = Stopwatch(), self.data.draw(run.labels, run.draw), self.scale
        unet = UNetSettings(pictures=scale.unet_pictures, seed=run.draw)
        if self.data.turns:
            unet = replace(unet, augment=unet.augment.at_any_angle())
        plan = FitPlan(
            outside="student",
            taught=scale.taught,
            interpreter=FitSettings(steps=scale.interpreter_steps, seed=run.draw),
            student=StudentSettings(unet=unet),
        )
        made = Segmenter.fit(
            self.domain.generator,
            drawn.images,
            drawn.masks,
            self.data.partonomy,
            version=self.path(run).name,
            plan=plan,
        )
        self.path(run).parent.mkdir(parents=True, exist_ok=True)
        made.save(self.path(run))
        return {"fit_seconds": watch.seconds()}

    def _samples(self, run: Run) -> dict[str, Any]:
        watch, folder = Stopwatch(), Storage(self.path(run))
        name = str(self.path(Run("version", run.labels, run.draw)))
        version = find_version(name, Settings.from_env())
        segmenter, count = version.segmenter, self.scale.part
        order = Order(
            version=version.name,
            interpreter=version.sha256,
            generator=segmenter.generator.card.sha256,
            generator_id=segmenter.generator.id,
            count=count,
            drop=0.0,
            truncation=segmenter.truncation,
            first=_FIRST + run.part * count,
            shard=shard_size(max(self.side, segmenter.generator.resolution), count),
            side=self.side,
        )
        shards = Shards(folder, order)
        if Shards.found(folder) is None:
            shards.begin()
        done = shards.done()
        for number in range(order.shards):
            if number not in done:
                shards.write(number, items(segmenter, order, number))
        finish(folder, shards, Subject(segmenter.partonomy, segmenter.generator.card))
        return {"pictures": count, "seconds": watch.seconds()}

    def _prelabeler(self, run: Run) -> dict[str, Any]:
        outcome, _ = self._by_version(run)
        return self._told(outcome)

    def _by_version(self, run: Run) -> tuple[Outcome, Segmenter]:
        """The test pictures as the backend labels them."""
        segmenter, watch = self.segmenter(run), Stopwatch()
        found = _segmented(segmenter, self.data.test().images)
        outcome = Outcome(
            np.stack([s.labels for s in found]),
            np.stack([s.uncertainty for s in found]),
            np.array([s.score for s in found]),
            0.0,
            watch.seconds() / len(found),
            {},
        )
        return outcome, segmenter

    def _inversion(self, run: Run) -> dict[str, Any]:
        generator = load_generator(self.domain.generator)
        latents = methods.inverted(self.data, generator, *load_encoder(self.domain.generator))
        cell = Cell("interpreter", run.labels, run.draw)
        return self._told(methods.interpreter(self.data, cell, generator, latents, "generator"))

    def _calibration(self, run: Run) -> dict[str, Any]:
        outcome, segmenter = self._by_version(run)
        assert outcome.uncertainty is not None
        classes, judge = self.data.partonomy.num_classes, self.judge()
        made = self._judged_samples(segmenter)
        samples = Guesses(
            methods.unet_labels(judge, _tensors(made)),
            np.stack([s.labels for s in made]),
            np.stack([s.uncertainty for s in made]),
            classes,
        )
        true = self.true()
        outside = Guesses(true, outcome.labels, outcome.uncertainty, classes)
        by_judge = methods.unet_labels(judge, methods.tensors(self.data.test()))
        return {
            "samples": calibrated(samples),
            "outside": calibrated(outside),
            "judge_miou": metrics.mean_iou(metrics.confusion(true, by_judge, classes)),
        }

    def _judged_samples(self, segmenter: Segmenter) -> list[Segmentation]:
        seeds = range(_FIRST_JUDGED, _FIRST_JUDGED + self.scale.judged)
        return list(segmenter.segment_seeds(seeds, side=self.side))

    def _ensemble(self, run: Run) -> dict[str, Any]:
        """The interpreter with fewer members, by majority and by mean probability."""
        segmenter, classes = self.segmenter(run), self.data.partonomy.num_classes
        true = methods.unet_labels(self.judge(), _tensors(self._judged_samples(segmenter)))
        sizes = [m for m in self.scale.members if m <= segmenter.ensemble.members]
        rows = []
        for size in sizes:
            found = _labeled_by(segmenter, _first_members(segmenter.ensemble, size), self)
            vote, mean, uncertainty = (np.stack(part) for part in zip(*found, strict=True))
            auroc = Guesses(true, vote, uncertainty, classes).auroc() if size > 1 else None
            rows.append(
                {
                    "members": size,
                    "vote": metrics.mean_iou(metrics.confusion(true, vote, classes)),
                    "mean": metrics.mean_iou(metrics.confusion(true, mean, classes)),
                    "auroc": auroc,
                }
            )
        return {"rows": rows, "pictures": len(true)}

    def _protocol(self, run: Run) -> dict[str, Any]:
        recipe, lessons, classes = self.recipe(run), self.lessons(run), self.recipe(run).classes
        settings = recipe.settings
        weights = weights_by(lessons.frequencies(classes), settings.balance)
        every = max(1, settings.steps // self.scale.epochs)
        images, true, counts = methods.tensors(self.data.test()), self.true(), []

        def look(network: SegmentationNetwork, steps: int) -> None:
            if steps % every:
                return
            copy = deepcopy(network)
            finish_network(copy, weights, settings.prior)
            labels = methods.unet_labels(copy, images)
            pairs = zip(true, labels, strict=True)
            counts.append([metrics.confusion(t, p, classes) for t, p in pairs])

        recipe.fit(lessons, watch=look)
        return compared(np.array(counts))


@dataclass(frozen=True)
class Relabeled:
    """Lessons with the same pictures and a network's labels."""

    source: Lessons
    network: SegmentationNetwork

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        images, _ = self.source.batch(count, random)
        with torch.inference_mode():
            labels = self.network(images).argmax(dim=1).to(torch.uint8)
        return images, labels.clone()

    def frequencies(self, num_classes: int) -> Tensor:
        return self.source.frequencies(num_classes)


def _segmented(segmenter: Segmenter, images: Sequence[Picture]) -> list[Segmentation]:
    """A few at a time, as they are all held at once."""
    parts = (images[n : n + _AT_ONCE] for n in range(0, len(images), _AT_ONCE))
    return [found for part in parts for found in segmenter.segment_images(part)]


def _tensors(made: Sequence[Segmentation]) -> Tensor:
    return methods.tensors(LabeledPictures([""] * len(made), [s.image for s in made], []))


@torch.inference_mode()
def _labeled_by(
    segmenter: Segmenter, ensemble: Ensemble, bench: Bench
) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """Vote, label of the largest mean probability, and uncertainty of each judged sample."""
    generator, side = segmenter.generator, bench.side
    found = []
    for seed in range(_FIRST_JUDGED, _FIRST_JUDGED + bench.scale.judged):
        z = generator.latent_from_seed(seed)
        w = generator.mapping(z, truncation=segmenter.truncation)
        _, maps = images_and_maps(generator, w, segmenter.card.maps)
        said = ensemble.predict(maps, (side, side))
        mean = said.probabilities.argmax(dim=0)
        parts = (said.vote.to(torch.uint8), mean.to(torch.uint8), said.uncertainty.float())
        found.append(tuple(part.numpy() for part in parts))
    return found  # type: ignore[return-value]


def _first_members(ensemble: Ensemble, count: int) -> Ensemble:
    names = ("w1", "b1", "w2", "b2", "w3", "b3")
    return replace(ensemble, **{name: getattr(ensemble, name)[:count] for name in names})


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


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
def _many(domain: Domain) -> LabeledPictures | None:
    return None if domain.many is None else squares(load_pairs(domain.many))


@lru_cache(maxsize=8)
def _folder_digest(path: Path | None) -> str:
    """Of names and sizes of all files; "" where there is none."""
    if path is None:
        return ""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    told = [(str(p.relative_to(path)), p.stat().st_size) for p in files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
