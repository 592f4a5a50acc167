"""The runs that train a network: it is measured, and kept where others need it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgan_backend.evaluation import baselines, methods
from dgan_backend.evaluation.baselines import Trust
from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.few_shot import Stopwatch, squares
from dgan_backend.evaluation.keys import human_share
from dgan_backend.evaluation.measurement import measured, segmented
from dgan_backend.evaluation.plan import Run
from dgan_backend.factory.reading import DataSet, batch_of
from dgan_backend.labeled import load_pairs
from dgan_backend.merging import IGNORE
from dgan_backend.pictures import Picture
from dgan_backend.student.course import finish, weights_by
from dgan_backend.student.lessons import Counted, Labeled, Lessons, mixed
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.teaching import Checkpoint, Watch


def trained(bench: Bench, run: Run) -> dict[str, Any]:
    """Train, or go on with, a run's network, and measure it. `seconds_before`: of a training that
    was gone on with, until it was stopped."""
    watch = Stopwatch()
    checkpoint = _checkpoint(bench, run, watch)
    if run.method in ("supervised", "many", "transfer", "semi_supervised"):
        network, told = _BASELINES[run.method](bench, run, checkpoint)
    else:
        network, told = _student(bench, run, checkpoint)
    checkpoint.path.unlink(missing_ok=True)
    if run.method in ("many", "student"):
        bench.keep(run, network)
    return {**measured(bench, network, watch.seconds()), **told, "seconds_before": watch.before}


def pretrained(bench: Bench, run: Run) -> dict[str, Any]:
    """What transfer learning begins with: other pictures, with parts of their own."""
    assert bench.domain.style is not None  # there is no such run otherwise
    watch, pairs = Stopwatch(), squares(load_pairs(bench.domain.style))
    masks = methods.masks(pairs)
    classes = int(masks[masks != IGNORE].max()) + 1
    checkpoint = _checkpoint(bench, run, watch)
    lessons = Labeled(methods.tensors(pairs), masks)
    bench.keep(run, bench.recipe(run, classes).fit(lessons, checkpoint))
    checkpoint.path.unlink(missing_ok=True)
    told = {"pictures": len(pairs), "classes": classes, "fit_seconds": watch.seconds()}
    return {**told, "seconds_before": watch.before}


def _checkpoint(bench: Bench, run: Run, watch: Stopwatch) -> Checkpoint:
    key = bench.key(run)
    path = bench.folder / "checkpoints" / f"{run.name}-{key}.pt"
    return Checkpoint(path, key, others={"watch": watch})


Fitted = tuple[SegmentationNetwork, dict[str, Any]]  # and what is to be told beside its figures


def _supervised(bench: Bench, run: Run, checkpoint: Checkpoint) -> Fitted:
    return bench.recipe(run).fit(bench.draw(run), checkpoint), {}


def _many(bench: Bench, run: Run, checkpoint: Checkpoint) -> Fitted:
    many = bench.many
    chosen = np.random.RandomState(run.draw).permutation(len(many))[: run.labels]
    pairs = many.pick(chosen)
    lessons = Labeled(methods.tensors(pairs), methods.masks(pairs))
    return bench.recipe(run).fit(lessons, checkpoint), {}


def _transfer(bench: Bench, run: Run, checkpoint: Checkpoint) -> Fitted:
    begin = bench.network(Run("pretrained"))
    return baselines.transfer(bench.recipe(run), begin, bench.draw(run), checkpoint), {}


def _semi_supervised(bench: Bench, run: Run, checkpoint: Checkpoint) -> Fitted:
    """`trusted_share`: of the unlabeled pictures that it saw, those that it taught itself with."""
    trust, unlabeled = Trust(), bench.unlabeled(run)
    network = baselines.semi_supervised(
        bench.recipe(run), bench.draw(run), unlabeled, checkpoint=checkpoint, trust=trust
    )
    return network, {"trusted_share": trust.share, "unlabeled": len(unlabeled)}


_BASELINES = {
    "supervised": _supervised,
    "many": _many,
    "transfer": _transfer,
    "semi_supervised": _semi_supervised,
}


def _student(bench: Bench, run: Run, checkpoint: Checkpoint) -> Fitted:
    """`generated_seen`: how often a generated picture was seen; `generated_distinct`: of how many
    different ones."""
    generated = Counted(_generated(bench, run))
    checkpoint.others["generated"] = generated
    human = human_share(run)
    lessons = mixed([(bench.draw(run), human), (generated, 1 - human)])
    watch = _epochs(bench, run, lessons) if bench.plan.watched(run) else None
    network = bench.recipe(run).fit(lessons, checkpoint, watch=watch)
    return network, {"generated_seen": generated.drawn, "generated_distinct": generated.distinct}


def _epochs(bench: Bench, run: Run, lessons: Lessons) -> Watch[SegmentationNetwork]:
    """Keeps the network after each epoch, ready for use, as `Bench.epoch` reads it."""
    recipe, last = bench.recipe(run), bench.scale.epochs
    weights = weights_by(lessons.frequencies(recipe.classes), recipe.settings.balance)
    ends = {recipe.settings.steps * epoch // last: epoch for epoch in range(1, last + 1)}

    def look(network: SegmentationNetwork, steps: int) -> None:
        if (epoch := ends.get(steps)) is not None:
            ready = deepcopy(network)
            finish(ready, weights, recipe.settings.prior)
            bench.keep(run, ready, epoch)

    return look


def _generated(bench: Bench, run: Run) -> Lessons:
    if run.method == "real_pictures":
        return _real_pictures(bench, run)
    if run.method == "both_sources":
        return mixed([(_real_pictures(bench, run), 0.5), (_networks_labels(bench, run), 0.5)])
    if run.method == "networks_labels":
        return _networks_labels(bench, run)
    found = _sampled(bench, run)
    return Relabeled(found, bench.judge()) if run.method == "judged_labels" else found


def _sampled(bench: Bench, run: Run) -> DataSet:
    folders = [str(bench.path(part)) for part in bench.plan.samples(run)]
    sampled = DataSet.open(folders, bench.data.partonomy, bench.side)
    return sampled.pick(run.synthetic, run.drop)


def _networks_labels(bench: Bench, run: Run) -> Labeled:
    """The samples, with the parts that the version's U-Nets see in them."""
    sampled = _sampled(bench, run)
    return _labeled_by_version(bench, run, [sampled.read(n)[0] for n in range(len(sampled))])


def _real_pictures(bench: Bench, run: Run) -> Labeled:
    """Pictures that nobody labeled, with the parts that the version sees in them."""
    count = min(run.synthetic, len(bench.many))
    return _labeled_by_version(bench, run, bench.many.pick(range(count)).images)


def _labeled_by_version(bench: Bench, run: Run, images: Sequence[Picture]) -> Labeled:
    found = segmented(bench.segmenter(run), images)
    return Labeled(*batch_of(images, [s.labels for s in found]))


class Relabeled:
    """Lessons with the same pictures and a network's labels."""

    def __init__(self, source: Lessons, network: SegmentationNetwork) -> None:
        self._source, self._network = source, network

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        images, _ = self._source.batch(count, random)
        with torch.inference_mode():
            labels = self._network(images).argmax(dim=1).to(torch.uint8)
        return images, labels.clone()

    def frequencies(self, num_classes: int) -> Tensor:
        return self._source.frequencies(num_classes)
