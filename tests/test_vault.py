"""What only one installation may know, and where it lies."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.project import open_project
from dgan_backend.labelstudio.sites import Sites
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.vault import FOLDER, Vault, fingerprint, same
from tests.labeling import CONFIG

UID, OTHER = "17.1795491060", "18.1795491060"


def vault(folder: Path) -> Vault:
    return Vault(Storage(folder))


def test_all_processes_derive_the_same_secret_of_a_project(tmp_path: Path) -> None:
    secret = vault(tmp_path).webhook_secret(UID)
    assert len(secret) == 64
    assert (
        vault(tmp_path).webhook_secret(UID) == vault(tmp_path).known_webhook_secret(UID) == secret
    )
    assert vault(tmp_path).webhook_secret(OTHER) != secret
    assert vault(tmp_path / "another").webhook_secret(UID) != secret


def test_looking_makes_no_key(tmp_path: Path) -> None:
    assert vault(tmp_path).known_webhook_secret(UID) == ""
    assert not (tmp_path / FOLDER).exists()


def test_many_that_begin_at_once_get_the_same(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(vault(tmp_path).webhook_secret(UID)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert len(os.listdir(tmp_path / FOLDER)) == 1


def test_a_key_that_was_replaced_is_seen(tmp_path: Path) -> None:
    one = vault(tmp_path)
    before = one.webhook_secret(UID)
    (tmp_path / FOLDER / "webhook.key").unlink()
    after = vault(tmp_path).webhook_secret(UID)
    assert one.known_webhook_secret(UID) == before
    assert one.known_webhook_secret(UID, anew=True) == after != before


def test_a_key_that_is_cut_short_is_no_key(tmp_path: Path) -> None:
    vault(tmp_path).webhook_secret(UID)
    (tmp_path / FOLDER / "webhook.key").write_bytes(b"")
    with pytest.raises(DganError, match=r"webhook\.key is cut short; delete it"):
        vault(tmp_path).webhook_secret(UID)


def test_tokens_are_kept_for_the_address_that_they_came_with(tmp_path: Path) -> None:
    vault(tmp_path).keep_token(UID, "http://ls:8080", "theirs")
    assert vault(tmp_path).token(UID, "http://ls:8080") == "theirs"
    assert vault(tmp_path).token(UID, "http://evil.example") == ""
    assert vault(tmp_path).token(OTHER, "http://ls:8080") == ""
    vault(tmp_path).keep_token(UID, "http://ls:8080", "a new one")
    assert vault(tmp_path).token(UID, "http://ls:8080") == "a new one"
    vault(tmp_path).forget(UID)
    assert vault(tmp_path).token(UID, "http://ls:8080") == ""


@pytest.mark.parametrize("held", [b"{", b"[]", b'{"hostname": "http://ls:8080"}'])
def test_a_broken_token_is_none(tmp_path: Path, held: bytes) -> None:
    vault(tmp_path).keep_token(UID, "http://ls:8080", "theirs")
    (file,) = (tmp_path / FOLDER).iterdir()
    file.write_bytes(held)
    assert vault(tmp_path).token(UID, "http://ls:8080") == ""


def test_only_their_user_can_read_the_files(tmp_path: Path) -> None:
    one = vault(tmp_path)
    one.webhook_secret(UID)
    one.keep_token(UID, "http://ls:8080", "theirs")
    assert (tmp_path / FOLDER).stat().st_mode & 0o077 == 0
    files = list((tmp_path / FOLDER).iterdir())
    assert len(files) == 2
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_a_uid_never_becomes_a_path(tmp_path: Path) -> None:
    vault(tmp_path / "a").keep_token("../../b/x", "h", "t")
    assert not (tmp_path / "b").exists()
    assert len(list((tmp_path / "a" / FOLDER).iterdir())) == 1


def test_where_nothing_can_be_written_that_is_said(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file, where the folder should be")
    with pytest.raises(DganError, match="MODEL_DIR must be writable"):
        vault(tmp_path).webhook_secret(UID)


def test_on_storage_that_is_no_folder(tmp_path: Path) -> None:
    place = Storage(f"memory://{tmp_path.name}")
    secret = Vault(place).webhook_secret(UID)
    assert Vault(place).known_webhook_secret(UID) == secret
    Vault(place).keep_token(UID, "http://ls:8080", "theirs")
    assert Vault(place).token(UID, "http://ls:8080") == "theirs"


def test_secrets_are_compared_and_told_apart() -> None:
    assert same("a" * 64, "a" * 64) and not same("a" * 63, "a" * 64)
    assert not same("", "")  # without a secret nobody knows it
    assert not same("é", "a")
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")
    assert fingerprint("") == ""


def test_a_worker_speaks_to_label_studio_with_the_token_of_setup(tmp_path: Path) -> None:
    """It reads the connection from Redis, where the token is not."""
    settings = Settings(model_dir=tmp_path)
    Vault(settings.models).keep_token(UID, "http://ls:8080", "theirs")
    for hostname, token in (("http://ls:8080", "Token theirs"), ("http://evil.example", "")):
        project = open_project(UID, CONFIG, None, hostname)
        site = Sites(settings).get(project)
        assert site.url == hostname
        assert site._token.header().get("Authorization", "") == token
