"""The command `evaluate few-shot`."""

from __future__ import annotations

import argparse
from functools import partial

from tqdm import tqdm

from dgan_backend.evaluation import report
from dgan_backend.evaluation.ruler import Results, Ruler, run


def few_shot(args: argparse.Namespace) -> int:
    """Measure all methods from few labels; print tables, draw a plot, keep all in a JSON file."""
    results = Results(args.json)
    ruler = Ruler(args.pairs, args.partonomy, args.generator)
    bar = partial(tqdm, unit="cell", smoothing=0)
    run(ruler, results, args.methods, args.counts, args.draws, args.jobs, bar)
    cells = results.by_method()
    print(report.tables(results.value, cells))
    if args.plot:
        report.plot(cells, args.plot)
    return 0
