"""The runs that train a network: it is measured, and kept where others need it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from dgan_backend import metrics
from dgan_backend.evaluation import baselines, methods
from dgan_backend.evaluation.baselines import Trust
from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.few_shot import Stopwatch, squares
from dgan_backend.evaluation.keys import human_share
from dgan_backend.evaluation.measurement import measured, segmented
from dgan_backend.evaluation.plan import Run
from dgan_backend.evaluation.softening import Softened, softened
from dgan_backend.factory.reading import DataSet, batch_of
from dgan_backend.labeled import LabeledPictures, load_pairs
from dgan_backend.merging import IGNORE
from dgan_backend.pictures import Picture, to_tensor
from dgan_backend.student.course import finish, weights_by
from dgan_backend.student.lessons import Counted, Labeled, Lessons, mixed
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.teaching import Checkpoint, Watch


def trained(bench: Bench, run: Run) -> dict[str, Any]:
    """Train, or go on with, a run's network, and measure it. `seconds_before`: of a training that
    was gone on with, until it was stopped."""
    watch = Stopwatch()
    checkpoint = _checkpoint(bench, run, watch)
    if run.method in _BASELINES:
        network, told = _BASELINES[run.method](bench, run, checkpoint)
    else:
        network, told = _student(bench, run, checkpoint)
    checkpoint.path.unlink(missing_ok=True)
    if run.method in ("many", "judge", "student"):
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
    return bench.recipe(run).fit(_labels_of_many(bench, run), checkpoint), {}


def _judge(bench: Bench, run: Run, checkpoint: Checkpoint) -> Fitted:
    """`miou_soft`: of test pictures that are made as soft as samples are."""
    labels, resolution = _labels_of_many(bench, run), bench.resolution
    lessons = Softened(labels.images, labels.masks, resolution)
    network = bench.recipe(run).fit(lessons, checkpoint)
    soft = softened(methods.tensors(bench.data.test()), resolution)
    said = methods.unet_labels(network, soft)
    counts = metrics.confusion(bench.true(), said, bench.data.partonomy.num_classes)
    return network, {"miou_soft": metrics.mean_iou(counts), "resolution": resolution}


def _labels_of_many(bench: Bench, run: Run) -> Labeled:
    many = bench.many
    chosen = np.random.RandomState(run.draw).permutation(len(many))[: run.labels]
    return _true(many.pick(chosen))


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
    "judge": _judge,
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
    """What a student learns from beside people's labels: samples, but for some methods."""
    match run.method:
        case "real_pictures":
            return _real_pictures(bench, run)
        case "both_sources":
            return mixed([(_real_pictures(bench, run), 0.5), (_networks_labels(bench, run), 0.5)])
        case "networks_labels":
            return _networks_labels(bench, run)
        case "judged_labels":
            return _judged(bench, _images_of(_sampled(bench, run)))
        case "judged_pictures":
            return _judged(bench, _unlabeled(bench, run).images)
        case "true_pictures":
            return _true(_unlabeled(bench, run))
    return _sampled(bench, run)


def _sampled(bench: Bench, run: Run) -> DataSet:
    folders = [str(bench.path(part)) for part in bench.plan.samples(run)]
    sampled = DataSet.open(folders, bench.data.partonomy, bench.side)
    return sampled.pick(run.synthetic, run.drop)


def _images_of(samples: DataSet) -> list[Picture]:
    return [samples.read(n)[0] for n in range(len(samples))]


def _networks_labels(bench: Bench, run: Run) -> Labeled:
    """The samples, with the parts that the version's U-Nets see in them."""
    return _labeled_by_version(bench, run, _images_of(_sampled(bench, run)))


def _real_pictures(bench: Bench, run: Run) -> Labeled:
    """Pictures that nobody labeled, with the parts that the version sees in them."""
    return _labeled_by_version(bench, run, _unlabeled(bench, run).images)


def _unlabeled(bench: Bench, run: Run) -> LabeledPictures:
    """As many real pictures as there are samples, if there are; their labels are for causes."""
    return bench.many.pick(range(min(run.synthetic, len(bench.many))))


def _labeled_by_version(bench: Bench, run: Run, images: Sequence[Picture]) -> Labeled:
    found = segmented(bench.segmenter(run), images)
    return Labeled(*batch_of(images, [s.labels for s in found]))


def _judged(bench: Bench, images: Sequence[Picture]) -> Labeled:
    """Pictures with the judge's labels."""
    tensors = to_tensor(np.stack(images))
    return Labeled(tensors, torch.from_numpy(methods.unet_labels(bench.judge(), tensors)))


def _true(pairs: LabeledPictures) -> Labeled:
    return Labeled(methods.tensors(pairs), methods.masks(pairs))
