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
            "THREADS": "",
        }
    )
    assert settings.label_studio_url == "https://ls.example"
    assert settings.port == 80
    assert settings.model_dir == Path("/models")
    assert (settings.log_level, settings.log_format) == ("DEBUG", "json")
    assert settings.allowed_image_hosts == ("a.example", "b.example")
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
    ],
)
def test_what_cannot_be_read_is_named(key: str, value: str) -> None:
    with pytest.raises(DganError, match=key):
        Settings.from_env({key: value})
