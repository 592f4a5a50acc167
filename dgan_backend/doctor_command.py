"""The command `doctor`."""

from __future__ import annotations

import argparse

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from dgan_backend.labelstudio.doctor import examine
from dgan_backend.labelstudio.project import project_uid
from dgan_backend.settings import Settings
from dgan_backend.vault import Vault


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="find what Label Studio gets wrong silently about a project, and mend it",
        description="Needs LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY. Run it in the backend's own "
        "environment, so that it knows BASIC_AUTH_USER and BASIC_AUTH_PASS, BACKEND_URL, to which "
        "alone they may go, and MODEL_DIR, where the secret of webhooks is.",
    )
    doctor.add_argument("--project", type=int, required=True, help="the number in its URL")
    doctor.add_argument(
        "--url",
        default="",
        help="the backend's address as connected, which --fix may then give the password to [the "
        "backend that serves a version of ours]",
    )
    doctor.add_argument("--fix", action="store_true", help="mend what can be mended")
    doctor.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line a check; 0 when nothing is wrong (any more), else 1."""
    settings = Settings.from_env()
    if not (settings.label_studio_url and settings.label_studio_api_key):
        raise DganError("Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, as for the backend.")
    with LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key) as site:
        findings = examine(
            site,
            args.project,
            settings=settings,
            url=args.url.strip(),
            mend=args.fix,
            secret=_secret(site, args.project, Vault(settings.models)),
        )
    for finding in findings:
        print(finding)
    return int(any(finding.state == "wrong" for finding in findings))


def _secret(site: LabelStudioClient, project: int, vault: Vault) -> str:
    """That of the project's webhook, where the backend has made its key: it is never made here,
    where MODEL_DIR may be another one's."""
    try:
        return vault.known_webhook_secret(project_uid(site.project(project)))
    except LabelStudioError:
        return ""  # `examine` says what is wrong
