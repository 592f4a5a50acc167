"""The runs that other runs are supplied by: versions, and samples that they label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.few_shot import Stopwatch
from dgan_backend.evaluation.plan import Run
from dgan_backend.factory.card import Subject
from dgan_backend.factory.finishing import finish
from dgan_backend.factory.making import find_version, items
from dgan_backend.factory.order import Order, shard_size
from dgan_backend.factory.shards import Shards
from dgan_backend.fitting import FitPlan
from dgan_backend.interpreter import FitSettings
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.student import StudentSettings

_FIRST = 10_000_000  # seed of the samples that students learn from


def version(bench: Bench, run: Run) -> dict[str, Any]:
    """What `fit` makes of a draw's labels. What is there, since a command was killed before it kept
    these figures, is taken as it is: it is whole."""
    if bench.at_hand(run):
        return {"fit_seconds": None}
    watch, drawn, scale = Stopwatch(), bench.data.draw(run.labels, run.draw), bench.scale
    unet = UNetSettings(pictures=scale.unet_pictures, seed=run.draw)
    if bench.data.turns:
        unet = replace(unet, augment=unet.augment.at_any_angle())
    plan = FitPlan(
        outside="student",
        taught=scale.taught,
        interpreter=FitSettings(steps=scale.interpreter_steps, seed=run.draw),
        student=StudentSettings(unet=unet),
    )
    made = Segmenter.fit(
        bench.domain.generator,
        drawn.images,
        drawn.masks,
        bench.data.partonomy,
        version=bench.path(run).name,
        plan=plan,
    )
    bench.path(run).parent.mkdir(parents=True, exist_ok=True)
    made.save(bench.path(run))
    return {"fit_seconds": watch.seconds()}


def samples(bench: Bench, run: Run) -> dict[str, Any]:
    """A part of a student's generated pictures; what is there of it is gone on with."""
    watch, folder = Stopwatch(), Storage(bench.path(run))
    name = str(bench.path(Run("version", run.labels, run.draw)))
    found = find_version(name, Settings.from_env())
    segmenter, count = found.segmenter, bench.scale.part
    order = Order(
        version=found.name,
        interpreter=found.sha256,
        generator=segmenter.generator.card.sha256,
        generator_id=segmenter.generator.id,
        count=count,
        drop=0.0,
        truncation=segmenter.truncation,
        first=_FIRST + run.part * count,
        shard=shard_size(max(bench.side, segmenter.generator.resolution), count),
        side=bench.side,
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
