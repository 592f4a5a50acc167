"""Commands on projects: pause, resume, forget."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dgan_backend.errors import DganError
from dgan_backend.settings import Settings
from dgan_backend.vault import Vault

if TYPE_CHECKING:
    from dgan_backend.loop.board import Board

_WAIT_SECONDS = 30.0  # for jobs of a project that is forgotten; they notice within a second or so


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pause = commands.add_parser(
        "pause",
        help="train nothing and renew no prediction of a project until it is resumed",
        description="Its jobs end within seconds. Pictures that somebody opens are labeled all "
        "the same.",
    )
    pause.set_defaults(run=partial(_pause, True))
    resume = commands.add_parser("resume", help="go on with a paused project")
    resume.set_defaults(run=partial(_pause, False))
    forget = commands.add_parser(
        "forget",
        help="remove all that the backend holds of a project",
        description="Its versions with the pictures and masks in them, and all that is noted of "
        "it. Nothing in Label Studio changes; disconnect the backend there first, or the project "
        "is learned anew from its annotations.",
    )
    forget.add_argument(
        "--connection",
        action="store_true",
        help="only which Label Studio it is in, as when that has moved, and what is noted of it",
    )
    forget.add_argument("--yes", action="store_true", help="do not ask")
    forget.set_defaults(run=_forget)
    for command in (pause, resume, forget):
        command.add_argument(
            "--project",
            required=True,
            metavar="N",
            help="its number, or its uid (17.1795491060) where several Label Studios have it",
        )
        command.add_argument(
            "--state", type=Path, help="folder of the running `start` or demo [beside MODEL_DIR]"
        )


def _pause(paused: bool, args: argparse.Namespace) -> int:
    board = _board(args)
    if board is None:
        raise DganError(
            "No Redis is known, so nothing is trained that could be paused; set REDIS_URL, or "
            "--state to the folder of the running backend."
        )
    uid = _uid(args.project, {connection.uid for connection in board.connections()})
    board.pause(uid, paused)
    print(f"Project {uid} is paused." if paused else f"Project {uid} goes on.")
    return 0


def _forget(args: argparse.Namespace) -> int:
    from dgan_backend.inversion.latents import latents_of, projects_with_latents
    from dgan_backend.loop.twins import Twins
    from dgan_backend.registry import Registry

    settings, board = Settings.from_env(), _board(args)
    registry = Registry.of(settings)
    connected = {connection.uid for connection in board.connections()} if board else set()
    by_hand = {str(kept.project) for kept in registry.versions() if not kept.uid}
    trained = {kept.uid for kept in registry.versions() if kept.uid}
    inverted = projects_with_latents(settings.models)
    uid = _uid(args.project, _all(connected | trained | inverted, by_hand))
    if args.connection:
        return _disconnect(board, uid, settings)
    latents = latents_of(settings.models, uid)
    number = int(uid.partition(".")[0])
    alone = not any(_is_of(other, str(number)) for other in connected | trained if other != uid)
    versions = [k.name for k in registry.versions(number) if alone or k.uid == uid]
    held = [*versions, *([f"what is noted of {uid}"] if uid in connected else [])]
    held += [f"latents of {len(latents)} pictures"] if len(latents) else []
    print(f"Of project {uid}, this backend holds: {', '.join(held) or 'nothing'}.")
    if not args.yes and not _confirmed():
        print("Nothing was removed.")
        return 1
    if board is not None:
        _forget_on_board(board, uid)
    twins = Twins.of_settings(settings)
    gone = registry.forget(number, "" if alone else uid)
    for version in gone:
        twins.delete(version)
    if alone:
        twins.forget(number)
    latents.forget()
    Vault(settings.models).forget(uid)
    print(f"Removed: {', '.join(held)}." if held else "There was nothing to remove.")
    if uid in connected:
        print(
            "Label Studio keeps its tasks, annotations and predictions. Where the backend is still "
            "connected, the project is known again with the next request."
        )
    return 0


def _disconnect(board: Board | None, uid: str, settings: Settings) -> int:
    """Versions and latents stay."""
    if board is not None:
        _forget_on_board(board, uid)
    Vault(settings.models).forget(uid)
    print(f"Which Label Studio project {uid} is in is forgotten; its next /setup says it anew.")
    return 0


def _forget_on_board(board: Board, uid: str) -> None:
    """Also what jobs still write until they notice that the project is gone."""
    from dgan_backend.loop.board import WORKS

    board.forget(uid)
    until = time.monotonic() + _WAIT_SECONDS
    while any(board.busy(uid, work) for work in WORKS) and time.monotonic() < until:
        time.sleep(0.2)
    board.forget(uid)


def _confirmed() -> bool:
    try:
        return input("Remove all of it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _all(uids: set[str], by_hand: set[str]) -> set[str]:
    """Numbers of versions fitted by hand count where no uid has that number."""
    return uids | {n for n in by_hand if not any(_is_of(uid, n) for uid in uids)}


def _is_of(uid: str, number: str) -> bool:
    return uid.partition(".")[0] == number


def _uid(named: str, uids: set[str]) -> str:
    """The one project that is meant; raises DganError that lists those that may be."""
    found = sorted(uid for uid in uids if named in (uid, uid.partition(".")[0]))
    if len(found) == 1:
        return found[0]
    if found:
        raise DganError(
            f"Several Label Studios have a project {named}: {', '.join(found)} (number and time "
            f"of creation). Say which, e.g. --project {found[0]}."
        )
    raise DganError(
        f"There is no project {named}; this backend knows: {', '.join(sorted(uids)) or 'none'}."
    )


def _board(args: argparse.Namespace) -> Board | None:
    """None where there never was a Redis; raises DganError when it cannot be reached."""
    from dgan_backend import jobs
    from dgan_backend.loop.board import Board

    client = jobs.reach(Settings.from_env(), args.state)
    return None if client is None else Board(client)
