"""What can be read in docker/: nothing is built here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from dgan_backend import cli
from dgan_backend.settings import Settings

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
README = (DOCKER / "README.md").read_text()
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
OURS = {field.name.upper() for field in fields(Settings)}
OURS |= {"LABEL_STUDIO_API_KEY_FILE", "BASIC_AUTH_PASS_FILE", "REDIS_PASSWORD_FILE"}
CUDA: dict[str, Any] = yaml.safe_load((DOCKER / "compose.cuda.yaml").read_text())
# Settings of Label Studio 1.23.2: core/settings/base.py, core/argparser.py and server.py.
LABEL_STUDIO = {
    "LABEL_STUDIO_HOST",
    "LABEL_STUDIO_USERNAME",
    "LABEL_STUDIO_PASSWORD",
    "LABEL_STUDIO_USER_TOKEN",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN",
    "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK",
    "ML_BLOCK_LOCAL_IP",
    "SSRF_PROTECTION_ENABLED",
}


def takes_webhooks(url: str) -> bool:
    """The host rule of Django's URLValidator, which Label Studio holds webhooks against: a name
    whose last part has letters only, `localhost`, or an IPv4 address."""
    host = urlsplit(url).hostname or ""
    part = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    number = r"(?:0|25[0-5]|2[0-4]\d|1\d?\d?|[1-9]\d?)"
    rule = rf"(?:{part}\.)+[a-z]{{2,63}}|localhost|{number}(?:\.{number}){{3}}"
    return re.fullmatch(rule, host) is not None


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("localhost", True),
        ("10.0.0.7", True),
        ("host.docker.internal", True),
        ("backend", False),
        ("ml_backend.local", False),
        ("backend.1", False),
        ("backend-.local", False),
    ],
)
def test_the_rule(host: str, taken: bool) -> None:
    assert takes_webhooks(f"http://{host}:9090/webhook") is taken


def test_the_address_to_connect_gets_a_webhook() -> None:
    (address,) = re.findall(r"^    (http://\S+)$", README, re.MULTILINE)
    assert takes_webhooks(f"{address}/webhook")
    aliases = SERVICES["backend"]["networks"]["default"]["aliases"]
    assert urlsplit(address).hostname in aliases
    assert urlsplit(address).port == Settings.port


def test_services() -> None:
    assert set(SERVICES) == {"redis", "backend", "worker", "label-studio"}
    assert all(service["restart"] == "unless-stopped" for service in SERVICES.values())
    assert all(service["volumes"] for service in SERVICES.values())
    volumes = {volume.split(":")[0] for s in SERVICES.values() for volume in s["volumes"]}
    assert volumes == set(COMPOSE["volumes"])
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["label-studio"]


@pytest.mark.parametrize("name", ["backend", "worker"])
def test_commands_exist(name: str) -> None:
    program, *arguments = SERVICES[name]["command"]
    assert program == "dgan-backend"
    assert cli._parser().parse_args(arguments).command == arguments[0]


def test_what_services_wait_for_has_a_health_check() -> None:
    checked = {"backend"} | {
        name for name, s in SERVICES.items() if "test" in s.get("healthcheck", {})
    }
    waited = {name for service in SERVICES.values() for name in service.get("depends_on", {})}
    assert waited == {"backend", "redis"} and checked == {*waited, "worker"}
    assert "HEALTHCHECK" in DOCKERFILE


@pytest.mark.parametrize(
    ("name", "known"), [("backend", OURS), ("worker", OURS), ("label-studio", LABEL_STUDIO)]
)
def test_every_variable_is_known(name: str, known: set[str]) -> None:
    environment = SERVICES[name]["environment"]
    handed_on = {key for key, value in environment.items() if value is None}
    assert {key for key in handed_on if not key.startswith("AWS_")} <= {"MODEL_DIR"}
    assert {key for key in environment if not key.startswith("AWS_")} <= known
    told = [value for key, value in environment.items() if key not in handed_on]
    assert all(isinstance(value, (str, int)) for value in told)
    assert not any(isinstance(value, bool) for value in environment.values())


def test_the_backend_accepts_its_environment(tmp_path: Path) -> None:
    given = {k: v for k, v in SERVICES["backend"]["environment"].items() if v is not None}
    filled = {k: resolved(str(v)) for k, v in given.items()}
    for key, value in filled.items():
        if key.endswith("_FILE"):
            name = value.removeprefix("/run/secrets/")
            assert name in SERVICES["backend"]["secrets"]
            (tmp_path / name).write_text("" if name == "basic-auth-pass" else "secret\n")
            filled[key] = str(tmp_path / name)
    settings = Settings.from_env({**filled, "MODEL_DIR": "/data/models"})
    assert settings.redis_url == "redis://:secret@redis:6379/0"
    assert urlsplit(settings.label_studio_url).hostname in SERVICES
    assert settings.label_studio_api_key == "secret"
    assert settings.basic_auth_user == settings.basic_auth_pass == ""


def resolved(text: str) -> str:
    """As compose fills it in when only what must be set is set, to `secret`."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "secret", text)


def test_label_studio_lets_the_backend_in() -> None:
    environment = SERVICES["label-studio"]["environment"]
    assert environment["ML_BLOCK_LOCAL_IP"] == environment["SSRF_PROTECTION_ENABLED"] == "false"
    assert "${LABEL_STUDIO_API_KEY:?" in environment["LABEL_STUDIO_USER_TOKEN"]
    assert "LABEL_STUDIO_API_KEY=$(cat secrets/label-studio-api-key)" in README


def test_secrets_have_no_default_and_all_variables_are_explained() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    for name, kind in re.findall(r"\$\{(\w+):([-?])", text):
        secret = name in {"LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_API_KEY"}
        assert kind == ("?" if secret else "-"), name
        assert f"`{name}`" in README, name


def copied() -> list[str]:
    lines = re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_the_image_copies_is_there() -> None:
    let_in = re.findall(r"^!(.+)$", (DOCKER / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(copied()) == sorted(let_in)
    assert all((ROOT / source).exists() for source in copied())
    backend = SERVICES["backend"]["build"]
    assert (DOCKER / backend["context"]).resolve() == ROOT
    assert (ROOT / backend["dockerfile"]).exists()


def test_the_image() -> None:
    torch = re.search(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert torch is not None and torch[0] in DOCKERFILE
    assert DOCKERFILE.index("useradd") < DOCKERFILE.index("\nUSER 1001") < DOCKERFILE.index("CMD [")
    assert f"EXPOSE {Settings.port}" in DOCKERFILE and "MODEL_DIR=/data/models" in DOCKERFILE
    assert 'CMD ["dgan-backend", "start", "--host", "0.0.0.0"]' in DOCKERFILE


def test_ours_and_redis_run_without_rights_on_a_root_that_cannot_be_written() -> None:
    for name in ("backend", "worker", "redis"):
        service = SERVICES[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert any(place.startswith("/tmp:") for place in service["tmpfs"])
    assert SERVICES["redis"]["user"] == "999:1000"  # the image's own


def test_no_secret_of_ours_is_a_variable() -> None:
    for name in ("backend", "worker"):
        named = {key for key in SERVICES[name]["environment"] if not key.startswith("AWS_")}
        assert not named & {"LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS", "REDIS_PASSWORD"}


def test_secrets_are_files_that_the_readme_makes_and_git_ignores() -> None:
    """Into containers whose root cannot be written Docker mounts secrets from files only."""
    assert "secrets/" in (DOCKER / ".gitignore").read_text().splitlines()
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"} and name in README
    used = {name for service in SERVICES.values() for name in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])


def test_images_are_pinned() -> None:
    for service in SERVICES.values():
        if not service["image"].startswith("dgan-backend"):
            assert re.search(r":\d+\.\d+", service["image"])
    assert "BASE=python:3.11-slim-bookworm" in DOCKERFILE


def test_the_variant_for_cuda() -> None:
    for name in ("backend", "worker"):
        assert CUDA["services"][name]["environment"] == {"DEVICE": "cuda"}
        assert CUDA["services"][name]["image"] == "dgan-backend:cuda"
    assert set(CUDA["services"]["backend"]["build"]["args"]) == {"TORCH_INDEX"}
    assert "ARG TORCH_INDEX=" in DOCKERFILE


def tool(name: str) -> str:
    """One that the test extra brings."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not there; `pip install -e .[test]` brings it")
    return found


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.cuda.yaml"]])
def test_compose_accepts_the_files(files: list[str]) -> None:
    options = [word for file in files for word in ("-f", file)]
    secrets = {"LABEL_STUDIO_PASSWORD": "x", "LABEL_STUDIO_API_KEY": "y"}
    command = [tool("docker-compose"), *options, "config", "--quiet"]
    env = {**os.environ, **secrets}
    done = subprocess.run(command, cwd=DOCKER, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_dockerfile_is_without_fault() -> None:
    done = subprocess.run(
        [tool("hadolint"), "--no-color", DOCKER / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_readme_says_what_was_not_tested() -> None:
    assert "were not built in our own tests" in README and "Not run yet" in README
