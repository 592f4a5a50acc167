"""Which Label Studio a project lives in, and with which token it is spoken to."""

from __future__ import annotations

import threading

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.project import Project, project_number
from dgan_backend.settings import Settings
from dgan_backend.vault import Vault

_MAX_SITES = 32


class Sites:
    """Clients by address and token. Safe to use from many threads.

    The API key goes only to LABEL_STUDIO_URL; anybody who reaches the backend could name another
    host in /setup. A token that came with /setup, which workers find in the vault, goes only to
    the address that came with it, or to LABEL_STUDIO_URL.
    """

    def __init__(self, settings: Settings) -> None:
        self._named = settings.label_studio_url
        self._key = settings.label_studio_api_key
        self._vault = Vault(settings.models)
        self._clients: dict[tuple[str, str], LabelStudioClient] = {}
        self._lock = threading.Lock()

    def check_home(self, uid: str, now: str, known: str | None) -> None:
        """Raises DganError where a project that is known at one address comes from another:
        anybody who reaches the backend could say so, and have it trained on what they made up.
        LABEL_STUDIO_URL makes all of them one.

        now, known: addresses; "" and None where there is none.
        """
        if self._named:
            return
        number = project_number(uid)
        if now and number is not None and "." not in uid:
            raise DganError(
                f"/setup gave project {number} without the time of its creation, which tells Label "
                "Studios apart; set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
            )
        if known and known != now:
            raise DganError(
                f"Project {number} is known from {known}, and this /setup came from "
                f"{now or 'nowhere'}. If Label Studio has moved, start the backend with "
                "LABEL_STUDIO_URL (and LABEL_STUDIO_API_KEY), or run `dgan-backend forget "
                f"--project {uid} --connection`; then reload Settings > Model."
            )

    def find(self, project: Project) -> LabelStudioClient | None:
        """The Label Studio in the settings, else the one that /setup named; None without both."""
        url = self._named or project.hostname
        if not url:
            return None
        token = (self._named and self._key) or project.access_token or self._kept(project)
        with self._lock:
            if (url, token) not in self._clients:
                if len(self._clients) >= _MAX_SITES:
                    self._clients.clear()
                self._clients[url, token] = LabelStudioClient(url, token, trusted=bool(self._named))
            return self._clients[url, token]

    def _kept(self, project: Project) -> str:
        return self._vault.token(project.uid, project.hostname) if project.uid else ""

    def get(self, project: Project) -> LabelStudioClient:
        """As `find`; raises DganError where there is none."""
        found = self.find(project)
        if found is None:
            raise DganError(
                f"Where {project.name} lives is not known; set LABEL_STUDIO_URL and "
                "LABEL_STUDIO_API_KEY."
            )
        return found
