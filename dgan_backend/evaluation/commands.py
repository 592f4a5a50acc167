"""The commands `evaluate few-shot` and `evaluate causes`."""

from __future__ import annotations

import argparse
from functools import partial

from tqdm import tqdm

from dgan_backend.evaluation import methods, report
from dgan_backend.evaluation.causes import load_person, tell_apart
from dgan_backend.evaluation.few_shot import FewShotSet
from dgan_backend.evaluation.ruler import Results, Ruler, run
from dgan_backend.generators import load_generator
from dgan_backend.inversion.native import load_encoder


def few_shot(args: argparse.Namespace) -> int:
    """Measure all methods from few labels; print tables, draw a plot, keep all in a JSON file."""
    if args.plot:
        report.check_plot(args.plot)
    results = Results(args.json)
    networks = args.json.with_suffix(".networks")
    ruler = Ruler(args.pairs, args.partonomy, args.generator, networks)
    bar = partial(tqdm, unit="cell", smoothing=0)
    cells = run(ruler, results, args.methods, args.counts, args.draws, args.jobs, bar)
    print(report.tables(results.value, cells))
    if args.plot:
        report.plot(cells, args.plot)
    return 0


def causes(args: argparse.Namespace) -> int:
    """Where the interpreter loses: on samples, on reconstructions, or on the pictures."""
    results = Results(args.json)
    data = FewShotSet.load(args.pairs, args.partonomy)
    person = load_person(args.person, data.partonomy.num_classes)
    generator = load_generator(args.generator)
    latents = methods.inverted(data, generator, *load_encoder(args.generator)).w
    bar = partial(tqdm, unit="picture", leave=False)
    found = {}
    for draw in range(args.draws):
        found[f"draw{draw}"] = tell_apart(data, generator, latents, person, draw, bar)
        results.keep("causes", f"draw{draw}", found[f"draw{draw}"])
    print(report.causes(found))
    return 0
