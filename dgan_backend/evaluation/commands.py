"""The commands `evaluate version`, `few-shot`, `causes` and `inversion`."""

from __future__ import annotations

import argparse
from functools import partial

from tqdm import tqdm

from dgan_backend.errors import DganError
from dgan_backend.evaluation import methods, report
from dgan_backend.evaluation.causes import load_person, tell_apart
from dgan_backend.evaluation.few_shot import LABELS, FewShotSet
from dgan_backend.evaluation.refinement import Refinements, compare
from dgan_backend.evaluation.ruler import Results, Ruler, run
from dgan_backend.evaluation.version import judge, measure_version, scores_of
from dgan_backend.generators import load_generator
from dgan_backend.generators.native import generator_folder, read_card, write_json
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import load_encoder
from dgan_backend.labeled import load_pairs
from dgan_backend.pictures import load_picture, save_picture
from dgan_backend.segmenter import Segmenter
from dgan_backend.sheets import segmentation_sheet

_WORST = 12  # pictures on a sheet


def version(args: argparse.Namespace) -> int:
    """Hold a version's masks and scores against labeled pictures; print, and keep as JSON."""
    pairs = load_pairs(args.pairs)
    if args.skip >= len(pairs):
        raise DganError(f"{args.pairs} has {len(pairs)} pictures; --skip {args.skip} leaves none.")
    others = [load_picture(path) for path in args.others]
    segmenter = Segmenter.load(args.version, device=args.device)
    bar = partial(tqdm, unit="picture")
    found = judge(segmenter, pairs.pick(range(args.skip, len(pairs))), bar)
    strange = scores_of(segmenter, bar(others)) if others else []
    measured = measure_version(segmenter, found, strange)
    print(report.version(measured))
    if args.json:
        write_json(args.json, measured)
    if args.sheet:
        worst = found.worst(_WORST)
        shown = segmentation_sheet(
            [j.segmentation for j in worst], segmenter.partonomy, [j.true for j in worst]
        )
        save_picture(args.sheet, shown)
        print(f"{args.sheet}: the {len(worst)} pictures with the lowest mIoU, the worst first")
    return 0


def few_shot(args: argparse.Namespace) -> int:
    """Measure all methods from few labels; print tables, draw a plot, keep all in a JSON file."""
    if args.plot:
        report.check_plot(args.plot)
    results = Results(args.json)
    networks = args.json.with_suffix(".networks")
    turns = args.turns or read_card(generator_folder(args.generator)).turns
    ruler = Ruler(args.pairs, args.partonomy, args.generator, networks, args.test, turns)
    bar = partial(tqdm, unit="cell", smoothing=0)
    cells = run(ruler, results, args.methods, args.counts, args.draws, args.jobs, bar)
    print(report.tables(results.value, cells))
    if args.plot:
        report.plot(cells, args.plot)
    return 0


def inversion(args: argparse.Namespace) -> int:
    """What refinement steps are worth: mIoU of the interpreter's path, and seconds a picture."""
    data = FewShotSet.load(args.pairs, args.partonomy, args.test)
    generator = load_generator(args.generator)
    encoder, errors = load_encoder(args.generator)
    refinements = Refinements(data, generator, encoder, errors, args.maps, args.draws)
    each = [InversionSettings(steps=n, perceptual=args.perceptual) for n in args.steps]
    print(report.inversion(compare(refinements, each, args.json, partial(tqdm, unit="row"))))
    return 0


def causes(args: argparse.Namespace) -> int:
    """Where the interpreter loses: on samples, on reconstructions, or on the pictures."""
    data = FewShotSet.load(args.pairs, args.partonomy, args.test)
    person = load_person(args.person, data.partonomy.num_classes)
    generator = load_generator(args.generator)
    latents = methods.inverted(data, generator, *load_encoder(args.generator)).w
    bar = partial(tqdm, unit="picture", leave=False)
    found = {}
    for draw in range(args.draws):
        found[f"draw{draw}"] = tell_apart(data, generator, latents, person, draw, bar)
        write_json(args.json, {"generator": generator.id, "labels": LABELS, "draws": found})
    print(report.causes(found))
    return 0
