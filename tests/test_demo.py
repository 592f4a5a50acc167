"""The demo's parts that need no Label Studio; tests/e2e runs it with a real one."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from dgan_backend import demo
from dgan_backend.cli import main
from dgan_backend.demo import project, stack, studio
from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient
from tests.studio import studio_with

LOGIN = studio.Login("demo@example.com", "secret", "0" * 40)


class FakeStudio(LabelStudioClient):
    """Answers from a table and keeps what it was asked."""

    def __init__(self, answers: dict[tuple[str, str], Any]) -> None:
        super().__init__("http://127.0.0.1:1", "0" * 40)
        self.answers = answers
        self.asked: list[tuple[str, str]] = []
        self.sent: list[Any] = []

    def request(self, method: str, path: str, **options: Any) -> Any:
        self.asked.append((method, path.partition("?")[0].rstrip("/")))
        self.sent.append(options.get("json"))
        return self.answers.get(self.asked[-1])


@pytest.fixture
def label_studio(tmp_path: Path) -> Path:
    """Looks like the Python of an environment with Label Studio."""
    for name in ("python", "label-studio"):
        (tmp_path / name).touch(mode=0o755)
    return tmp_path / "python"


def test_a_missing_label_studio_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(DganError, match=r"no Label Studio beside .*pip install label-studio=="):
        demo.run(demo.Options(tmp_path / "state", label_studio_python=tmp_path / "python"))
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [("--port", "Label Studio) is in use by"), ("--backend-port", "the backend) is in use by")],
)
def test_a_port_in_use_ends_with_status_2(
    tmp_path: Path,
    label_studio: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    said: str,
) -> None:
    with socket.socket() as listener, socket.socket() as free:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        free.bind(("127.0.0.1", 0))
        ports = {"--port": free.getsockname()[1], "--backend-port": free.getsockname()[1]}
        ports[option] = listener.getsockname()[1]
        free.close()
        command = ["demo", "--state", str(tmp_path / "state")]
        command += ["--label-studio-python", str(label_studio)]
        for name, port in ports.items():
            command += [name, str(port)]
        assert main(command) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_a_login_is_made_once_and_private(tmp_path: Path) -> None:
    login = studio.Login.of(tmp_path)
    assert studio.Login.of(tmp_path) == login
    assert len(login.token) == 40 and len(login.password) >= 8
    assert (tmp_path / "login.json").stat().st_mode & 0o077 == 0


def test_a_damaged_login_is_said(tmp_path: Path) -> None:
    (tmp_path / "login.json").write_text("{")
    with pytest.raises(DganError, match=r"login\.json is damaged"):
        studio.Login.of(tmp_path)


def test_label_studio_calls_nobody_and_takes_no_settings_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LABEL_STUDIO_HOST", "HEARTEX_PORT", "POSTGRE_HOST", "HOST", "DEBUG"):
        monkeypatch.setenv(name, "from outside")
    env = studio.environment(tmp_path, LOGIN)
    assert "from outside" not in env.values()
    assert env["COLLECT_ANALYTICS"] == env["LATEST_VERSION_CHECK"] == "false"
    assert env["SENTRY_DSN"] == env["FRONTEND_SENTRY_DSN"] == ""
    assert env["SSRF_PROTECTION_ENABLED"] == env["ML_BLOCK_LOCAL_IP"] == "false"


def test_production_settings_of_the_environment_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "LABEL_STUDIO_URL": "https://admins.example.com",
        "LABEL_STUDIO_API_KEY": "admins",
        "REDIS_URL": "redis://admins.example.com",
        "MODEL_DIR": "/admins",
        "BASIC_AUTH_USER": "admins",
        "BACKEND_URL": "http://admins.example.com:9090",
        "PORT": "1234",
        "WORKERS": "3",
    }.items():
        monkeypatch.setenv(name, value)
    settings = stack._settings(stack.Ports(8080, 9090), LOGIN, tmp_path)
    assert settings.workers == 3
    env = stack._backend_env(settings)
    assert not [value for value in env.values() if "admins" in value]
    assert env["LABEL_STUDIO_URL"] == "http://127.0.0.1:8080"
    assert env["PORT"] == "9090" and not {"BASIC_AUTH_USER", "BACKEND_URL"} & set(env)


def test_twelve_outside_pictures_are_shipped_with_attribution() -> None:
    pictures = project.outside()
    assert len(pictures) == 12
    assert "CC BY 4.0" in (pictures[0].path.parent / "ATTRIBUTION.txt").read_text()


def test_sampled_pictures_carry_their_latent(tmp_path: Path) -> None:
    latent = {"generator": "toonhead-0123abcd", "seed": 1, "truncation": 0.7}
    (tmp_path / "sample-0001.png").touch()
    (tmp_path / "sample-0001.json").write_text(json.dumps(latent))
    assert [picture.data for picture in project.sampled(tmp_path)] == [{"latent": latent}]


def test_a_project_is_made_once_and_again_after_it_was_deleted(tmp_path: Path) -> None:
    made = {("POST", "/api/projects"): {"id": 7}}
    nothing = FakeStudio({**made, ("GET", "/api/projects"): {"results": []}})
    assert project.ensure_project(nothing, project.Record.of(tmp_path)) == 7
    project.Record.of(tmp_path).finish()

    there = FakeStudio({("GET", "/api/projects"): {"results": [{"id": 3}, {"id": 7}]}})
    assert project.ensure_project(there, project.Record.of(tmp_path)) == 7
    assert there.asked == [("GET", "/api/projects")]

    record = project.Record.of(tmp_path)
    assert record.imported
    project.ensure_project(nothing, record)
    assert not project.Record.of(tmp_path).imported


def test_a_backend_on_another_port_is_replaced_with_its_webhook() -> None:
    old = "http://127.0.0.1:9090"
    api = FakeStudio(
        {
            ("GET", "/api/ml"): [
                {"id": 1, "url": old, "description": project.BACKEND},
                {"id": 2, "url": "http://127.0.0.1:7", "description": "someone else's"},
            ],
            ("GET", "/api/webhooks"): [
                {"id": 5, "url": f"{old}/webhook"},
                {"id": 6, "url": "http://example.com/webhook"},
            ],
            ("POST", "/api/ml"): {"id": 3, "url": "new", "title": "x", "model_version": "v1"},
        }
    )
    project.ensure_backend(api, 7, "http://127.0.0.1:9999")
    assert [call for call in api.asked if call[0] != "GET"] == [
        ("DELETE", "/api/ml/1"),
        ("DELETE", "/api/webhooks/5"),
        ("POST", "/api/ml"),
        ("PATCH", "/api/ml/3"),
    ]
    connected, named = [body for body in api.sent if body is not None]
    assert connected["url"] == "http://127.0.0.1:9999"
    assert named["title"] == "v1"


def test_a_connected_backend_stays() -> None:
    url = "http://127.0.0.1:9090"
    row = {"id": 1, "url": url, "title": "v1", "model_version": "v1"}
    api = FakeStudio({("GET", "/api/ml"): [row]})
    project.ensure_backend(api, 7, url)
    assert api.asked == [("GET", "/api/ml")]


def test_an_interrupted_import_goes_on_with_the_missing_pictures(tmp_path: Path) -> None:
    pictures = []
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"picture")
        pictures.append(project.Picture(tmp_path / name, {"latent": name}))
    with studio_with((7, "<View/>")) as (there, api):
        project.import_pictures(api, 7, pictures[:1])
        there.tries = 2
        project.import_pictures(api, 7, pictures)
        project.import_pictures(api, 7, pictures)
        told = [task["data"] for task in there.of(7)]
    assert [(data["name"], data["latent"]) for data in told] == [
        (name, name) for name in ("a.png", "b.png", "c.png")
    ]
    assert all(data["image"].endswith(f"-{data['name']}") for data in told)


def test_an_http_proxy_is_not_asked_for_what_is_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    monkeypatch.setenv("no_proxy", "")
    stack.talk_directly()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet,127.0.0.1,localhost"
