"""The jobs of the loop: each brings one project to the state that it should be in.

They carry a project's id and nothing else, ask Label Studio for all that they need, and may run
twice or be killed at any time. A job holds its project's lease for its kind of work, works off
the marks that it sees, and leaves the later ones to the next.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.inversion.latents import latents_of
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from dgan_backend.labelstudio.doctor import SECRET, examine
from dgan_backend.labelstudio.images import load_image
from dgan_backend.labelstudio.project import Project, is_project
from dgan_backend.labelstudio.regions import fits
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import ARMED, SPELLED, TITLE, Lease, Progress, Work
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.ears import why_empty
from dgan_backend.loop.labeling import Labeler
from dgan_backend.loop.making import Maker
from dgan_backend.loop.naming import announce
from dgan_backend.loop.outcome import FINDINGS, NOTE, outcome
from dgan_backend.loop.stopping import (
    STOPS,
    Due,
    Gone,
    Outdated,
    awaited,
    checking,
    giving_way,
    giving_way_to,
)
from dgan_backend.loop.training import Training, read_corrections
from dgan_backend.pictures import Picture
from dgan_backend.vault import fingerprint

log = logging.getLogger(__name__)

QUIET_SECONDS = 1.0  # without a further mark before a training begins
LONGEST_WAIT = 10.0
_PAUSE = 0.1
_LABEL_SECONDS = 30.0  # of labeling before a training goes on
_ANNOUNCED = "announced"  # note of the version that Label Studio was told serves the project


def do(bench: Bench, uid: str, work: Work, job: str = "") -> None:
    """One job: the work of one kind that there is for one project. job: its id."""
    connection = bench.board.connection(uid)
    if connection is None:
        return  # forgotten meanwhile
    bodies: Mapping[Work, Callable[[Bench, Connection, Lease], None]] = {
        "train": _train,
        "label": _label,
        "check": _check,
        "make": _make,
    }
    with bench.board.lease(uid, work) as lease:
        if lease is None:
            return  # another process is at it, and will see the marks
        bench.board.clear(uid, work)
        if bench.board.paused(uid) or not bench.board.unsettled(uid, work):
            return  # of a paused project the marks wait
        job = job or uuid.uuid4().hex
        bench.board.begin(uid, work, job)
        try:
            bodies[work](bench, connection, lease)
            bench.board.succeeded(uid, work)
            bench.board.count(work, "done")
        except STOPS as error:
            log.info("Project %s: %s", connection.number, error)
            bench.board.count(work, "stopped")
        except DganError as error:
            log.warning("Project %s: %s", connection.number, error)
            bench.board.complain(uid, str(error))
            bench.board.failed(uid, work)
            bench.board.count(work, "failed")
        except Exception as error:
            bench.board.complain(
                uid, f"The backend failed ({error!r}); the worker's log says where."
            )
            bench.board.failed(uid, work)
            bench.board.count(work, "broke")
            raise
        finally:
            bench.board.tell(uid, work, None)
            bench.board.ended(uid, work, job)


def _train(bench: Bench, connection: Connection, lease: Lease) -> None:
    uid = connection.uid
    project, site = _open(bench, connection)
    marks = _settled_down(bench, uid)
    seen = site.fingerprint(_number(project))
    training = Training(
        bench.registry,
        bench.twins,
        project,
        _fetching(bench, project, site),
        latents=latents_of(bench.settings.models, uid),
        device=bench.settings.device,
        check=checking(bench, uid, lease),
        progress=_telling(bench, uid, "train"),
    )
    corrections = read_corrections(site, _number(project))
    trained = training.run(corrections)
    if trained.version:  # a row of failures is over, whatever comes now
        bench.board.succeeded(uid, "train")
    for left in trained.left_out:
        bench.board.complain(uid, left.reason, left.task)
    lease.check()
    bench.board.note(uid, NOTE, outcome(project, corrections, trained))
    log.info("Project %s: %s", project.number, trained.said)

    def settle() -> None:
        bench.board.settle(uid, "train", marks)
        if not any(left.again for left in trained.left_out):
            bench.board.note(uid, "annotations", seen)

    version = bench.predictor.version(project)
    if not version.startswith(f"p{project.number}-"):  # a shipped one, or none
        settle()
        return
    if _is_news(bench, uid, version):
        announce(site, project, version)
        if project.options.synthetic_per_version:
            bench.board.note(uid, "to make", version)
            bench.board.mark(uid, "make")
        _label_at_once(bench, connection, version, settle)
    else:
        settle()
    training.prepare(version, lambda: bench.board.unsettled(uid, "train"))


def _is_news(bench: Bench, uid: str, version: str) -> bool:
    """Whether Label Studio was not told yet that this version serves: it is new, another was
    chosen by hand, or the job that published it was killed."""
    return version != bench.board.noted(uid, _ANNOUNCED)


def _label_at_once(
    bench: Bench, connection: Connection, version: str, settle: Callable[[], None]
) -> None:
    """Refresh predictions in this very process; after a while new corrections come first. What is
    left then, or fails, is left to a job of its own.

    settle: called when it is sure that predictions will be refreshed, whatever happens. The mark
    is made under the lease, or a job of its own would be started for it.
    """
    with bench.board.lease(connection.uid, "label") as lease:
        bench.board.mark(connection.uid, "label")
        bench.board.note(connection.uid, _ANNOUNCED, version)
        settle()
        if lease is None:
            return
        try:
            _label(bench, connection, lease, lambda: bench.board.unsettled(connection.uid, "train"))
        except DganError as error:
            log.warning("Project %s: %s", connection.number, error)
        finally:
            bench.board.tell(connection.uid, "label", None)


def _label(
    bench: Bench,
    connection: Connection,
    lease: Lease,
    urgent: Callable[[], bool] | None = None,
) -> None:
    """urgent: whether a training waits for this process [one of any project could begin now].
    Labeling gives way to it after _LABEL_SECONDS, waiting for Label Studio at once."""
    uid, until = connection.uid, time.monotonic() + _LABEL_SECONDS
    project, site = _open(bench, connection)
    marks = bench.board.marks(uid, "label")
    version = bench.predictor.version(project)
    if not bench.predictor.trained(project):
        bench.board.settle(uid, "label", marks)
        return
    began = time.time()
    told, check = Due(), checking(bench, uid, lease)
    give_way = giving_way_to(urgent or (lambda: awaited(bench.board, "train") is not None))
    assert project.binding is not None  # `_open` has looked
    binding = project.binding
    written_otherwise = bench.board.noted(uid, SPELLED) != binding.spelling
    if written_otherwise:
        bench.board.note(uid, SPELLED, "")  # until all is looked at

    def predict(task: Mapping[str, Any]) -> dict[str, Any]:
        entry = bench.predictor.predict(project, version, task)
        bench.board.explain(uid, {int(task["id"]): why_empty(entry)})
        return entry

    def progress(done: int, total: int) -> None:
        if told.due() or done == total:
            bench.board.tell(uid, "label", Progress("pre-labeling", done, total, began))

    def still() -> None:
        _still(bench, project, version, check)
        if time.monotonic() > until:
            give_way()

    labeled = Labeler(
        site,
        project,
        version,
        predict,
        served=lambda: bench.board.served(uid),
        store=lambda tasks: bench.board.store(uid, version, tasks),
        check=still,
        idle=give_way,
        progress=progress,
        outdated=lambda prediction: not fits(prediction["result"], binding),
        look_at_all=written_otherwise,
    ).run()
    _still(bench, project, version, check)
    if not labeled.postponed:
        bench.board.note(uid, SPELLED, binding.spelling)
    if _is_news(bench, uid, version):
        announce(site, project, version)
        bench.board.note(uid, _ANNOUNCED, version)
    bench.board.settle(uid, "label", marks)
    left = site.count_without(_number(project), version)
    bench.board.note(uid, "unlabeled", f"{version} {left}")
    log.info("Project %s: %d tasks labeled by %s", project.number, labeled.written, version)


def _check(bench: Bench, connection: Connection, lease: Lease) -> None:
    """What Label Studio gets wrong about the project without a word: mended, or told."""
    project, board = connection.open(), bench.board
    site, marks = bench.sites.get(project), board.marks(connection.uid, "check")
    secret = _webhook_secret(bench, connection.uid)
    found = examine(site, _number(project), settings=bench.settings, mend=True, secret=secret)
    lease.check()
    carried = any(f.check == SECRET and f.state in ("ok", "fixed") for f in found)
    board.note(connection.uid, ARMED, fingerprint(secret) if carried else "")
    # Label Studio makes webhooks without the secret: that it was set now is no news.
    news = [f for f in found if f.state != "ok" and (f.check, f.state) != (SECRET, "fixed")]
    board.note(connection.uid, FINDINGS, json.dumps([asdict(f) for f in news]))
    board.settle(connection.uid, "check", marks)


def _webhook_secret(bench: Bench, uid: str) -> str:
    """ "" where none can be kept; then webhooks are believed without."""
    try:
        return bench.vault.webhook_secret(uid)
    except DganError as error:
        bench.board.complain(uid, f"Webhooks are believed without a secret: {error}")
        return ""


def _make(bench: Bench, connection: Connection, lease: Lease) -> None:
    """Seed tasks where there is nothing yet; synthetic tasks, once for each version that was made
    current: a batch that people took back is not made again."""
    uid, board = connection.uid, bench.board
    project, site = _open(bench, connection)
    marks = board.marks(uid, "make")
    maker = Maker(
        bench.registry,
        site,
        project,
        device=bench.settings.device,
        complain=lambda text: board.complain(uid, text),
        check=giving_way(bench, uid, lease),
        progress=_telling(bench, uid, "make"),
    )
    asked = str(project.options.seed_tasks)
    if board.noted(uid, "seeded") != asked and maker.seeds():
        board.note(uid, "seeded", asked)  # what people delete is not made again
    version = board.noted(uid, "to make")
    if version and version != board.noted(uid, "made"):
        maker.synthetic(version)
        board.note(uid, "made", version)
    board.settle(uid, "make", marks)


def _still(bench: Bench, project: Project, version: str, check: Callable[[], None]) -> None:
    check()
    if bench.predictor.version(project) != version:
        raise Outdated(f"Version {version} is not current any more; its labeling ends here.")


def _open(bench: Bench, connection: Connection) -> tuple[Project, LabelStudioClient]:
    """The project as Label Studio has it now, and where it lives."""
    project = connection.open()
    site = bench.sites.get(project)
    try:
        now = site.project(_number(project))
    except LabelStudioError as error:
        if error.gone:
            _forget(bench, connection.uid)
            raise Gone(f"{project.name} is not in Label Studio any more.") from error
        raise
    bench.board.note(connection.uid, TITLE, str(now.get("title") or ""))
    if not is_project(connection.uid, now):
        _forget(bench, connection.uid)
        raise Gone(f"The number of {project.name} is another project's now, at {site.url}.")
    current = connection.with_schema(str(now.get("label_config") or connection.schema))
    if current != connection:
        bench.board.update(current)  # a webhook told of it, but not what
    fresh = current.open()
    if fresh.binding is None:
        raise DganError(fresh.problem)
    return fresh, site


def _forget(bench: Bench, uid: str) -> None:
    bench.board.forget(uid)
    bench.vault.forget(uid)


def _number(project: Project) -> int:
    if project.number is None:
        raise DganError("Label Studio gave a project without a number; connect it again.")
    return project.number


def _settled_down(bench: Bench, uid: str) -> int:
    """The marks to work off, once no further one has come for a moment."""
    until = time.monotonic() + LONGEST_WAIT
    while True:
        marks = bench.board.marks(uid, "train")
        quiet = bench.board.marked_ago(uid, "train") >= QUIET_SECONDS
        if quiet or time.monotonic() > until:
            return marks
        time.sleep(_PAUSE)


def _fetching(
    bench: Bench, project: Project, site: LabelStudioClient
) -> Callable[[Mapping[str, Any]], Picture]:
    assert project.binding is not None
    key = project.binding.config.image_key

    def fetch(task: Mapping[str, Any]) -> Picture:
        return load_image(task, key, site, bench.settings.allowed_image_hosts)

    return fetch


def _telling(bench: Bench, uid: str, work: Work) -> Callable[[str, Iterable[int]], Iterator[int]]:
    """A progress that people can read on the status page."""

    def steps(name: str, numbers: Iterable[int]) -> Iterator[int]:
        every, began, told = list(numbers), time.time(), Due()
        for done, number in enumerate(every):
            if told.due():
                bench.board.tell(uid, work, Progress(name, done, len(every), began))
            yield number

    return steps
