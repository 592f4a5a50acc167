"""What a report is about: pictures of one kind, labeled ones to draw from and to measure on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dgan_backend.errors import DganError

TOONHEAD = "toonhead"
_EXAMPLES = Path("examples")
_REFERENCE = Path("tests/data/toonhead/reference.npz")
_RENDERED_SEED = 7_000_000  # seeds of no other set
_SIDE_BY_SIDE = ("toonhead",)  # renderers that know --jobs
_DONE = "done"
_KEPT_OUT = "kept-out"
_PARTONOMY = "partonomy.yaml"


@dataclass(frozen=True)
class Domain:
    """pairs: labels are drawn from these. test: measured on; None: those of `pairs` behind the
    first 60. many: more labeled pictures, for the rows of a network trained on many, whose
    pictures are also the unlabeled ones; None: those rows are left out, and what the draw leaves
    of `pairs` is unlabeled. style: labeled pictures of another style, with parts of their own,
    that transfer learning begins with; None: no such row. person: weights of a network that judges
    samples in a person's place; None: the one of the most labels does. turns: no up."""

    name: str
    pairs: Path
    partonomy: str
    generator: str
    test: Path | None = None
    many: Path | None = None
    style: Path | None = None
    person: Path | None = None
    turns: bool = False
    notes: tuple[str, ...] = ()


def find_domain(
    text: str,
    generator: str | None = None,
    test: Path | None = None,
    partonomy: str | None = None,
) -> Domain:
    """`toonhead` in a checkout, or a folder that `import-labels --keep-out` made.

    test, partonomy: in place of the domain's own. Raises DganError that says what is missing.
    """
    if text == TOONHEAD and not Path(text).is_dir():
        if not _REFERENCE.is_file():
            raise DganError(
                f"{_REFERENCE} is not here: `evaluate toonhead` runs in a checkout of dgan-backend."
            )
        return Domain(TOONHEAD, _REFERENCE, partonomy or TOONHEAD, generator or TOONHEAD, test)
    folder = Path(text)
    if not (folder / "images").is_dir():
        raise DganError(
            f"there is no domain {text!r}: give {TOONHEAD}, or a folder with images/ and masks/, "
            "such as `dgan-backend import-labels ... --out FOLDER --keep-out 60` makes."
        )
    if generator is None:
        raise DganError(f"name the generator of {text}'s pictures with --generator.")
    if test is None and (folder / _KEPT_OUT).is_dir():
        test = folder / _KEPT_OUT
    tree = folder / _PARTONOMY
    if partonomy is None and not tree.is_file():
        raise DganError(
            f"{tree} is not there, so what the masks' values mean is not known; name the parts "
            "with --partonomy, a shipped one (`dgan-backend partonomy list`) or a yaml."
        )
    return Domain(
        folder.resolve().name,
        folder,
        partonomy or str(tree),
        generator,
        test,
        many=folder if test is not None else None,  # else it holds the test pictures, too
    )


def rendered(
    domain: Domain,
    folder: Path,
    pictures: int,
    jobs: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Domain:
    """With so many pictures that the examples render, where the domain is toonhead and Node is
    there; what is missing is noted. folder: where they are kept; what is there is not made again.
    jobs: side by side; 0 = only what is there. Raises DganError when that is not all, since figures
    that were measured with the rest could not be told from others."""
    if domain.name != TOONHEAD:
        return domain
    found = domain
    for name, field, what in (
        ("toonhead", "many", "rows of hundreds of labels, and pictures without labels"),
        ("personas", "style", "the row of transfer learning"),
    ):
        if getattr(domain, field) is not None:
            continue
        if not jobs and not (folder / f"{name}-{pictures}" / _DONE).is_file():
            raise DganError(
                f"{folder / f'{name}-{pictures}'} is not there, and figures are known by the "
                "pictures they were measured with; name the --work folder that has it, or give "
                "--jobs 1 or more, which renders it again."
            )
        try:
            pairs = _render(name, folder / f"{name}-{pictures}", pictures, jobs, tell)
        except DganError as error:
            found = replace(found, notes=(*found.notes, f"Left out: {what}. {error}"))
        else:
            found = replace(found, **{field: pairs})  # type: ignore[arg-type]
    return found


def _render(name: str, out: Path, pictures: int, jobs: int, tell: Callable[[str], None]) -> Path:
    """Labeled pictures by the program in examples/NAME."""
    if (out / _DONE).is_file():
        return out
    source = _EXAMPLES / name
    if not (source / "render.mjs").is_file():
        raise DganError(f"{source} is not here; run this in a checkout, or name a folder of pairs.")
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise DganError("Its pictures are rendered by Node 20 and npm, which are not installed.")
    tell(f"rendering {pictures} pictures by {source}")
    if not (source / "node_modules").is_dir():
        _run(["npm", "ci", "--silent"], source)
    told = ["--out", str(out.resolve()), "--count", str(pictures), "--masks"]
    told += ["--seed", str(_RENDERED_SEED)]
    if name in _SIDE_BY_SIDE:
        told += ["--jobs", str(jobs)]
    _run(["node", "render.mjs", *told], source)
    (out / _DONE).touch()
    return out


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise DganError(f"`{' '.join(command[:3])}` in {folder} failed: {last[0]}")
