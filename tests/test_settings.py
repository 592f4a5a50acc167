"""Settings fail by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgan_backend.errors import DganError
from dgan_backend.settings import Settings


def test_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.port == 9090
    assert settings.workers == 1
    assert not str(settings.model_dir).startswith("~")


def test_values() -> None:
    settings = Settings.from_env(
        {
            "LABEL_STUDIO_URL": "https://ls.example/ ",
            "PORT": "80",
            "MODEL_DIR": "/models",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "JSON",
            "ALLOWED_IMAGE_HOSTS": "A.example, b.example,",
            "BACKEND_URL": "http://b:9090/, https://b.example",
            "THREADS": "",
        }
    )
    assert settings.label_studio_url == "https://ls.example"
    assert settings.port == 80
    assert settings.model_dir == Path("/models")
    assert (settings.log_level, settings.log_format) == ("DEBUG", "json")
    assert settings.allowed_image_hosts == ("a.example", "b.example")
    assert settings.backend_url == ("http://b:9090", "https://b.example")
    assert settings.threads == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PORT", "nine"),
        ("PORT", "0"),
        ("WORKERS", "-1"),
        ("THREADS", "1.5"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("LABEL_STUDIO_URL", "localhost:8080"),
        ("BACKEND_URL", "http://b:9090,b:9091"),
    ],
)
def test_what_cannot_be_read_is_named(key: str, value: str) -> None:
    with pytest.raises(DganError, match=key):
        Settings.from_env({key: value})


def test_secrets_may_lie_in_files(tmp_path: Path) -> None:
    for name, text in (("key", "the key\n"), ("word", "a word\r\n"), ("redis", "p@ss/word\n")):
        (tmp_path / name).write_text(text)
    settings = Settings.from_env(
        {
            "LABEL_STUDIO_API_KEY_FILE": str(tmp_path / "key"),
            "BASIC_AUTH_PASS_FILE": str(tmp_path / "word"),
            "REDIS_URL": "redis://redis:6379/0",
            "REDIS_PASSWORD_FILE": str(tmp_path / "redis"),
        }
    )
    assert settings.label_studio_api_key == "the key"
    assert settings.basic_auth_pass == "a word"
    assert settings.redis_url == "redis://:p%40ss%2Fword@redis:6379/0"
    again = {"REDIS_URL": settings.redis_url, "REDIS_PASSWORD_FILE": str(tmp_path / "redis")}
    assert Settings.from_env(again).redis_url == settings.redis_url


def test_a_secret_in_two_places_or_in_none_is_said(tmp_path: Path) -> None:
    key = "LABEL_STUDIO_API_KEY"
    with pytest.raises(DganError, match=f"Set {key} or {key}_FILE, not both"):
        Settings.from_env({key: "5ecret", f"{key}_FILE": "/x"})
    with pytest.raises(DganError, match=f"{key}_FILE=.* cannot be read: No such file"):
        Settings.from_env({f"{key}_FILE": str(tmp_path / "none")})
