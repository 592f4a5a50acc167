"""Settings from the environment, read once, cast, and failing by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from dgan_backend.errors import DganError
from dgan_backend.storage import Storage, is_url

PRECISIONS = ("float32", "half", "auto")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Settings:
    """Everything an admin can set; one field for each environment variable of the same name.

    `backend_url` are the addresses at which Label Studio reaches this backend: its
    password and the secret of webhooks go to no others.
    `precision` says what numbers labels of samples are computed in, as `precision.numbers_for` has
    it. `threads` is the number of torch threads of one process; 0 means chosen by what else runs.
    `allowed_image_hosts` are the hosts, beside Label Studio and its storage, that pictures may be
    fetched from: names, at private addresses too, or patterns such as `*.example.com` and `*`, at
    public ones only. `allowed_hosts` are the names that
    this backend is reached by (see `serving.door`). `sweep_seconds` is how often each
    Label Studio is asked for what no webhook told. `model_url` is MODEL_DIR where it is a URL;
    `model_dir` then is the local folder that mirrors it.

    A secret may lie in a file instead: LABEL_STUDIO_API_KEY_FILE, BASIC_AUTH_PASS_FILE, and
    REDIS_PASSWORD_FILE for the password that REDIS_URL then lacks.
    """

    label_studio_url: str = ""
    label_studio_api_key: str = field(default="", repr=False)
    basic_auth_user: str = ""
    basic_auth_pass: str = field(default="", repr=False)
    backend_url: tuple[str, ...] = ()
    redis_url: str = field(default="", repr=False)
    model_dir: Path = Path("~/.local/share/dgan-backend/models")
    model_url: str = ""
    device: str = "cpu"
    precision: str = "auto"
    port: int = 9090
    log_level: str = "INFO"
    log_format: str = "text"
    workers: int = 1
    threads: int = 0
    allowed_image_hosts: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    sweep_seconds: int = 60

    @property
    def models(self) -> Storage:
        """Where versions live."""
        return Storage(self.model_url or self.model_dir)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the settings; raises DganError that names the variable when one cannot be read."""
        source = os.environ if env is None else env
        return cls(
            label_studio_url=_url(source, "LABEL_STUDIO_URL"),
            label_studio_api_key=_secret(source, "LABEL_STUDIO_API_KEY").strip(),
            basic_auth_user=source.get("BASIC_AUTH_USER", ""),
            basic_auth_pass=_secret(source, "BASIC_AUTH_PASS"),
            backend_url=_urls(source, "BACKEND_URL"),
            redis_url=_redis_url(source),
            model_dir=_model_dir(source, cls.model_dir),
            model_url=source.get("MODEL_DIR", "") if is_url(source.get("MODEL_DIR", "")) else "",
            device=source.get("DEVICE") or cls.device,
            precision=_choice(source, "PRECISION", PRECISIONS, cls.precision),
            port=_integer(source, "PORT", cls.port, low=1, high=65535),
            log_level=_choice(source, "LOG_LEVEL", _LEVELS, cls.log_level),
            log_format=_choice(source, "LOG_FORMAT", ("text", "json"), cls.log_format),
            workers=_integer(source, "WORKERS", cls.workers, low=0, high=64),
            threads=_integer(source, "THREADS", cls.threads, low=0, high=256),
            allowed_image_hosts=_names(source, "ALLOWED_IMAGE_HOSTS"),
            allowed_hosts=_names(source, "ALLOWED_HOSTS"),
            sweep_seconds=_integer(source, "SWEEP_SECONDS", cls.sweep_seconds, low=1, high=86400),
        )


def _secret(env: Mapping[str, str], key: str) -> str:
    """A variable, or what the file holds that KEY_FILE names, without the line's end."""
    file, text = env.get(f"{key}_FILE", "").strip(), env.get(key, "")
    if not file:
        return text
    if text:
        raise DganError(f"Set {key} or {key}_FILE, not both.")
    try:
        return Path(file).expanduser().read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DganError(f"{key}_FILE={file} cannot be read: {reason}.") from error


def _redis_url(env: Mapping[str, str]) -> str:
    """With the password of REDIS_PASSWORD_FILE, if it has none of its own: processes that we start
    are given the whole of it."""
    url, password = env.get("REDIS_URL", "").strip(), _secret(env, "REDIS_PASSWORD")
    scheme, mark, rest = url.partition("://")
    if not (password and mark) or "@" in rest:
        return url
    return f"{scheme}://:{quote(password, safe='')}@{rest}"


def _model_dir(env: Mapping[str, str], default: Path) -> Path:
    """Local; of a URL, one that no other URL has."""
    text = env.get("MODEL_DIR", "")
    if not is_url(text):
        return Path(text or default).expanduser()
    digits = hashlib.sha256(text.encode()).hexdigest()[:8]
    cache = Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "dgan-backend" / digits / "models"


def _integer(env: Mapping[str, str], key: str, default: int, low: int, high: int) -> int:
    text = env.get(key, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise DganError(f"{key}={text!r} is not a whole number from {low} to {high}; correct it.")
    return value


def _url(env: Mapping[str, str], key: str) -> str:
    return _checked_url(key, env.get(key, ""))


def _urls(env: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tuple(_checked_url(key, part) for part in env.get(key, "").split(",") if part.strip())


def _checked_url(key: str, text: str) -> str:
    text = text.strip().rstrip("/")
    if text and not text.startswith(("http://", "https://")):
        raise DganError(f"{key}={text!r} must start with http:// or https://.")
    return text


def _choice(env: Mapping[str, str], key: str, choices: tuple[str, ...], default: str) -> str:
    """One of them, however its letters are written."""
    text = env.get(key, "").strip() or default
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    raise DganError(f"{key}={text!r} is none of {', '.join(choices)}.")


def _names(env: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in env.get(key, "").split(",") if name.strip())
