"""The HTTP contract, over real HTTP."""

from __future__ import annotations

import base64
import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import numpy as np
import pytest
import redis
import requests
import uvicorn
from fastapi import FastAPI

from dgan_backend import cli
from dgan_backend.errors import DganError
from dgan_backend.labelstudio.binding import bind
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.regions import to_label_map
from dgan_backend.partonomy import load_partonomy
from dgan_backend.predictor import Predictor
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.server import create_app, listen, serve
from dgan_backend.serving.backend import Backend
from dgan_backend.serving.patience import PatientProtocol
from dgan_backend.serving.reason import with_reason
from dgan_backend.settings import Settings
from tests.drawing import click, stroke
from tests.labeling import (
    CONFIG,
    OTHER_CONFIG,
    VERSION,
    TinyRegistry,
    data_uri,
    seed_task,
    task,
)
from tests.sites import Answer, Seen, serving

JSON = {"Content-Type": "application/json"}


@contextmanager
def backend(
    registry: Registry, settings: Settings | None = None, **options: object
) -> Iterator[httpx.Client]:
    """The app under uvicorn as `serve` runs it, and a client of it."""
    app = create_app(settings or Settings(), registry, **options)  # type: ignore[arg-type]
    _apps["last"] = app
    config = uvicorn.Config(app, http=PatientProtocol, ws="none", log_config=None)
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


_apps: dict[str, FastAPI] = {}


def leave(client: httpx.Client) -> None:
    """What SIGTERM does first."""
    assert client.get("/health").status_code == 200
    _apps["last"].state.leave()


@pytest.fixture
def client(registry: TinyRegistry) -> Iterator[httpx.Client]:
    with backend(registry) as client:
        yield client


def setup_body(schema: str = CONFIG, **more: object) -> dict:
    """What Label Studio posts to /setup (facts/label-studio.md, section 1)."""
    return {
        "project": "5.1795491060",
        "schema": schema,
        "hostname": "http://127.0.0.1:1",
        "access_token": "theirs",
        "extra_params": None,
        **more,
    }


def predict_body(tasks: list, label_config: str = CONFIG) -> dict:
    return {
        "tasks": tasks,
        "project": "5.1795491060",
        "label_config": label_config,
        "params": {"login": None, "password": None, "context": None},
    }


def results(client: httpx.Client, tasks: list, label_config: str = CONFIG) -> list[dict]:
    response = client.post("/predict", json=predict_body(tasks, label_config))
    assert response.status_code == 200
    return list(response.json()["results"])


def test_health(client: httpx.Client) -> None:
    for path in ("/", "/health"):
        assert client.get(path).json() == {"status": "UP", "model_class": "DganModel"}


def test_setup_and_predictions_have_one_version(client: httpx.Client, segmenter: Segmenter) -> None:
    assert client.post("/setup", json=setup_body()).json() == {"model_version": VERSION}
    tasks = [seed_task(1, segmenter, seed=7), {"id": 2, "data": {}}, seed_task(3, segmenter, 8)]
    entries = results(client, tasks)
    assert [entry["model_version"] for entry in entries] == [VERSION] * 3
    assert [bool(entry["result"]) for entry in entries] == [True, False, True]
    assert "Task 2 has no picture" in entries[1]["reason"]
    binding = bind(parse_config(CONFIG), 5)
    for entry, seed in ((entries[0], 7), (entries[2], 8)):
        labels = to_label_map(entry["result"], binding, 16, 16)
        np.testing.assert_array_equal(labels, segmenter.segment_seed(seed).labels)


def test_label_studio_stores_a_prediction_once_that_it_asks_for_twice(
    registry: TinyRegistry, segmenter: Segmenter, server: redis.Redis
) -> None:
    """Two people open task 1 in the same moment; others may ask as often as they like."""
    server.flushdb()
    first, both = [seed_task(1, segmenter, seed=7)], [seed_task(n, segmenter, 7) for n in (1, 2)]
    with backend(registry, client=server) as client:
        assert results(client, first)[0]["result"]
        agent = {"user-agent": "heartex/1.23.2"}
        found = [
            client.post("/predict", json=predict_body(tasks), headers=agent).json()["results"]
            for tasks in (first, both)
        ]
        assert results(client, first)[0]["result"]
    assert found[0][0]["result"] and found[1][0] == [] and found[1][1]["result"]


def test_predict_works_without_setup_and_without_tasks(
    client: httpx.Client, segmenter: Segmenter
) -> None:
    assert results(client, [seed_task(1, segmenter, seed=7)])[0]["result"]
    assert results(client, []) == []


# Smart tools


def pointed(client: httpx.Client, tasks: list, context: object) -> list[dict]:
    """What Label Studio posts when a person used a smart tool, and the answer."""
    body = {**predict_body(tasks), "params": {"context": context}}
    response = client.post("/predict", json=body)
    assert response.status_code == 200
    return list(response.json()["results"])


def regions_of(entry: dict) -> np.ndarray:
    return to_label_map(entry["result"], bind(parse_config(CONFIG), 5), 16, 16)


def test_a_click_is_answered_with_the_part_under_it(
    client: httpx.Client, segmenter: Segmenter
) -> None:
    labels = segmenter.segment_seed(7).labels
    row, column = np.argwhere(labels)[0]
    task = seed_task(1, segmenter, seed=7)
    (entry,) = pointed(client, [task], {"result": [click(row, column, (16, 16))]})
    (region,) = entry["result"]
    assert entry["model_version"] == VERSION and "reason" not in entry
    assert entry["score"] == pytest.approx(region["score"])
    part = regions_of(entry)
    assert part[row, column] == labels[row, column]
    assert set(np.unique(part)) <= {0, labels[row, column]}
    np.testing.assert_array_equal(part[part > 0], labels[part > 0])


def test_a_stroke_with_a_label_is_answered_with_that_class(
    client: httpx.Client, segmenter: Segmenter
) -> None:
    labels = segmenter.segment_seed(7).labels
    index = int(labels.max())
    drawn = stroke(labels > 0, segmenter.partonomy.classes[index])
    (entry,) = pointed(client, [seed_task(1, segmenter, seed=7)], {"result": [drawn]})
    (region,) = entry["result"]
    assert region["value"]["brushlabels"] == [segmenter.partonomy.classes[index]]


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ({"result": []}, "Task 1: The context must be"),
        ("click", "Task 1: The context must be"),
        ({"result": [{"type": "choices", "value": {}}]}, "Task 1: Nothing in the context"),
        ({"result": [click(1, 1, (20, 20))]}, "Task 1: its picture is 16 x 16, but a region was"),
    ],
)
def test_a_context_that_cannot_be_used_is_said(
    client: httpx.Client, segmenter: Segmenter, context: object, reason: str
) -> None:
    (entry,) = pointed(client, [seed_task(1, segmenter, seed=7)], context)
    assert (entry["result"], entry["score"], entry["model_version"]) == ([], 0.0, VERSION)
    assert entry["reason"].startswith(reason)


def test_clicks_on_background_and_on_broken_tasks_get_nothing_and_a_reason(
    client: httpx.Client, segmenter: Segmenter
) -> None:
    seed = next(s for s in range(50) if (segmenter.segment_seed(s).labels == 0).any())
    row, column = np.argwhere(segmenter.segment_seed(seed).labels == 0)[0]
    context = {"result": [click(row, column, (16, 16))]}
    (entry,) = pointed(client, [seed_task(1, segmenter, seed=seed)], context)
    assert entry["result"] == [] and "there is no part at that place" in entry["reason"]
    for broken, reason in (({"id": 2, "data": {}}, "Task 2 has no picture"), (7, "must be an")):
        (entry,) = pointed(client, [broken], context)
        assert entry["result"] == [] and reason in entry["reason"]


@pytest.mark.parametrize("context", [None, {}])
def test_without_a_context_whole_pictures_are_answered(
    client: httpx.Client, segmenter: Segmenter, context: object
) -> None:
    task = seed_task(1, segmenter, seed=7)
    assert len(pointed(client, [task], context)[0]["result"]) == len(
        results(client, [task])[0]["result"]
    )


def test_clicks_on_an_opened_task_wait_for_nothing(
    registry: TinyRegistry, segmenter: Segmenter
) -> None:
    """Neither for its picture or a computation, nor for what others have asked for."""
    picture = base64.b64decode(data_uri(20, 30).partition(",")[2])
    served: list[str] = []

    def answer(seen: Seen) -> Answer:
        if seen.path.startswith("/slow"):
            time.sleep(1.5)
            return Answer(status=404)
        served.append(seen.path)
        return Answer(body=picture)

    settings = Settings(allowed_image_hosts=("127.0.0.1",))
    with (
        serving(answer) as site,
        backend(registry, settings) as client,
        ThreadPoolExecutor() as pool,
    ):
        opened = task(1, f"{site.url}/a.png")
        (entry,) = results(client, [opened])
        whole = to_label_map(entry["result"], bind(parse_config(CONFIG), 5), 20, 30)
        row, column = (int(n) for n in np.argwhere(whole)[0])
        slow = [task(n, f"{site.url}/slow.png") for n in range(2, 10)]
        waiting = pool.submit(results, client, slow)
        time.sleep(0.3)
        with httpx.Client(base_url=client.base_url) as other:
            context = {"result": [click(row, column, (20, 30))]}
            answers: list[dict] = []
            assert elapsed(lambda: answers.extend(pointed(other, [opened], context))) < 1.0
        assert not waiting.done()
        part = to_label_map(answers[0]["result"], bind(parse_config(CONFIG), 5), 20, 30)
        assert part[row, column] == whole[row, column]
        assert served == ["/a.png"]
        waiting.result()


def test_a_picture_that_was_replaced_is_looked_at_again(registry: TinyRegistry) -> None:
    sizes = [(20, 30), (24, 16)]
    served = [base64.b64decode(data_uri(*size).partition(",")[2]) for size in sizes]
    settings = Settings(allowed_image_hosts=("127.0.0.1",))
    with (
        serving(lambda seen: Answer(body=served.pop(0))) as site,
        backend(registry, settings) as client,
    ):
        opened = task(1, f"{site.url}/a.png")
        (entry,) = results(client, [opened])
        assert entry["result"][0]["original_width"] == 30
        everywhere = stroke(np.ones((24, 16), dtype=bool))
        (entry,) = pointed(client, [opened], {"result": [everywhere]})
        assert entry["result"][0]["original_width"] == 16


def test_nobody_gets_the_parts_of_a_picture_of_another_label_studio(
    registry: TinyRegistry,
) -> None:
    """The address of an upload and the number of its task tell nothing about whose it is."""
    picture = base64.b64decode(data_uri(20, 30).partition(",")[2])
    context = {"result": [stroke(np.ones((20, 30), dtype=bool))]}
    with serving(lambda seen: Answer(body=picture)) as site, backend(registry) as client:
        upload = task(1, "/data/upload/1/a.png")
        client.post("/setup", json=setup_body(hostname=site.url))
        assert pointed(client, [upload], context)[0]["result"]
        other = {"project": "5.1700000000"}
        client.post("/setup", json=setup_body(hostname="http://127.0.0.1:1", **other))
        body = {**predict_body([upload]), "params": {"context": context}, **other}
        assert client.post("/predict", json=body).json()["results"][0]["result"] == []


# Where a project lives


def home_of(client: httpx.Client, **fields: object) -> tuple[int, str]:
    """Status and text of a /setup."""
    answer = client.post("/setup", json=setup_body(**fields))  # type: ignore[arg-type]
    return answer.status_code, answer.text


def test_a_known_project_is_not_taken_from_another_address(registry: TinyRegistry) -> None:
    """Whoever reaches the backend could have its corrections read from a site of theirs."""
    picture = base64.b64decode(data_uri(20, 30).partition(",")[2])
    with (
        serving(lambda _: Answer(body=picture)) as site,
        serving(lambda _: Answer(body=picture)) as other,
        backend(registry) as client,
    ):
        assert home_of(client, hostname=site.url)[0] == 200
        for hostname in (other.url, "", "http://127.0.0.1:1"):
            status, text = home_of(client, hostname=hostname)
            assert status == 400
            assert site.url in text and "LABEL_STUDIO_URL" in text and "forget" in text
        assert home_of(client, hostname=f"{site.url}/")[0] == 200
        assert results(client, [task(1, "/data/upload/1/a.png")])[0]["result"]
        assert site.paths() == ["/data/upload/1/a.png"] and other.seen == []
        assert home_of(client, project="5.1700000000", hostname=other.url)[0] == 200
        status, text = home_of(client, project="5", hostname=other.url)
        assert status == 400 and "time of its creation" in text


def test_one_label_studio_may_be_called_anything(registry: TinyRegistry) -> None:
    settings = Settings(label_studio_url="http://127.0.0.1:1", label_studio_api_key="key")
    with backend(registry, settings) as client:
        for hostname in ("http://localhost:8080", "https://ls.example", ""):
            assert home_of(client, hostname=hostname)[0] == 200


def test_untrained_projects_are_told_so(client: httpx.Client) -> None:
    answer = client.post("/setup", json=setup_body(OTHER_CONFIG)).json()
    assert answer == {"model_version": "project-5-untrained"}
    entry = results(client, [task(1, "x")], OTHER_CONFIG)[0]
    assert (entry["result"], entry["model_version"]) == ([], "project-5-untrained")
    assert "not trained yet" in entry["reason"]


@pytest.mark.parametrize("name", ["car", "head", "bedroom"])
def test_a_partonomy_without_generator_says_what_to_bring(client: httpx.Client, name: str) -> None:
    tree = load_partonomy(name)
    config = labeling_config(tree)
    answer = client.post("/setup", json=setup_body(config))
    assert (answer.status_code, answer.json()) == (200, {"model_version": f"{name}-untrained"})
    entry = results(client, [task(1, "x")], config)[0]
    assert (entry["result"], entry["model_version"]) == ([], f"{name}-untrained")
    assert f"No generator of '{name}' is at hand; it needs {tree.wanted}" in entry["reason"]
    assert "dgan-backend generator train" in entry["reason"]
    assert f"label {tree.labels_needed} pictures" in entry["reason"]
    assert f"--partonomy {name} --out MODEL_DIR/p5-{name}-v0001`" in entry["reason"]


def test_the_extra_params_of_setup_hold_for_predict(client: httpx.Client) -> None:
    client.post("/setup", json=setup_body(extra_params={"partonomy": "own"}))
    assert results(client, [task(1, "x")])[0]["model_version"] == "project-5-untrained"


def test_a_misfit_is_shown_to_the_admin(client: httpx.Client) -> None:
    """Label Studio shows `str(requests.HTTPError)` and nothing else of a refusal."""
    body = setup_body(OTHER_CONFIG, extra_params={"partonomy": "toonhead"})
    response = requests.post(f"{client.base_url}/setup", json=body, timeout=10)
    with pytest.raises(requests.HTTPError) as caught:
        response.raise_for_status()
    said = str(caught.value)
    assert said.startswith("400 Client Error: These labels do not fit the partonomy 'toonhead'")
    assert "wing. These fit: face, ear" in said
    assert response.json()["detail"] in said


def test_letters_beyond_latin_1_do_not_break_the_status_line(client: httpx.Client) -> None:
    config = OTHER_CONFIG.replace("wing", "翼\r\nX-Evil: 1").replace("nose", "nez é")
    body = setup_body(config, extra_params={"partonomy": "toonhead"})
    response = client.post("/setup", json=body)
    assert response.status_code == 400
    assert "x-evil" not in response.headers
    assert "翼" in response.json()["detail"]
    assert "?" in response.reason_phrase


def test_a_reason_goes_into_the_status_line_of_refusals_only() -> None:
    head = b"HTTP/1.1 400 Bad Request\r\na: b\r\nX-Reason: too late\r\n\r\nbody X-Reason: no"
    assert with_reason(head).startswith(b"HTTP/1.1 400 too late\r\na: b\r\n")
    assert with_reason(head).endswith(b"\r\n\r\nbody X-Reason: no")
    for other in (b"HTTP/1.1 200 OK\r\nX-Reason: x\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n\r\n"):
        assert with_reason(other) == other


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/versions"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff\xfe", "not valid JSON"),
    ],
)
def test_bodies_that_are_no_json(client: httpx.Client, path: str, body: bytes, said: str) -> None:
    response = client.post(path, content=body, headers=JSON)
    assert response.status_code == 400
    assert said in response.json()["detail"]


def test_other_refusals(client: httpx.Client) -> None:
    assert "`tasks`" in client.post("/predict", json={}).json()["detail"]
    assert "no labeling config" in client.post("/setup", json={}).json()["detail"]
    assert client.get("/nowhere").status_code == 404
    assert client.get("/predict").status_code == 405


def test_versions(client: httpx.Client) -> None:
    client.post("/setup", json=setup_body())
    assert VERSION in client.get("/versions").json()["versions"]  # as Label Studio asks
    client.post("/setup", json=setup_body(OTHER_CONFIG, project="6.1795491060"))
    asked = client.post("/versions", json={"project": "5.1795491060"})
    assert asked.json() == {"versions": [VERSION]}
    assert client.get("/versions").json() == {"versions": ["toonhead-shipped"]}  # nobody's own


# Time


def elapsed(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


@contextmanager
def slow_pictures(seconds: float) -> Iterator[str]:
    """A host whose pictures take long and do not exist in the end."""

    def answer(_: Seen) -> Answer:
        time.sleep(seconds)
        return Answer(status=404)

    with serving(answer) as site:
        yield site.url


def test_the_deadline_holds_and_finished_tasks_are_answered(
    registry: TinyRegistry, segmenter: Segmenter
) -> None:
    settings = Settings(allowed_image_hosts=("127.0.0.1",))
    with slow_pictures(3.0) as url, backend(registry, settings, deadline=1.0) as client:
        tasks = [seed_task(1, segmenter, seed=7), *[task(n, f"{url}/a.png") for n in range(2, 9)]]
        entries: list[dict] = []
        assert elapsed(lambda: entries.extend(results(client, tasks))) < 2.0
    assert entries[0]["result"] and len(entries) == 8
    for number, entry in enumerate(entries[1:], start=2):
        # No `result`: Label Studio logs the reason, stores nothing and asks again next time.
        assert set(entry) == {"reason", "score", "model_version"}
        assert entry["reason"].startswith(f"Task {number} was not reached in time")


def test_the_deadline_holds_for_smart_tools(registry: TinyRegistry) -> None:
    settings = Settings(allowed_image_hosts=("127.0.0.1",))
    with slow_pictures(3.0) as url, backend(registry, settings, deadline=1.0) as client:
        answers: list[dict] = []
        context = {"result": [click(1, 1, (20, 30))]}
        opened = task(3, f"{url}/a.png")
        assert elapsed(lambda: answers.extend(pointed(client, [opened], context))) < 2.5
    assert (answers[0]["result"], answers[0]["score"]) == ([], 0.0)
    assert answers[0]["reason"].startswith("Task 3 was not reached in time; point")


def test_when_the_process_is_to_end_the_rest_is_handed_back(
    registry: TinyRegistry, segmenter: Segmenter
) -> None:
    """uvicorn would wait for 5 s and then hang up, and Label Studio drop what was done."""
    settings = Settings(allowed_image_hosts=("127.0.0.1",))
    with (
        slow_pictures(8.0) as url,
        backend(registry, settings) as client,
        ThreadPoolExecutor() as pool,
    ):
        tasks = [seed_task(1, segmenter, seed=7), task(2, f"{url}/a.png")]
        asked = pool.submit(results, client, tasks)
        time.sleep(1.0)
        assert not asked.done()
        leave(client)
        began = time.monotonic()
        done, late = asked.result()
        assert time.monotonic() - began < 5.0
    assert done["result"] and "result" not in late
    assert late["reason"].startswith("Task 2 was not reached in time")


def test_nothing_else_waits_for_predictions(registry: TinyRegistry, segmenter: Segmenter) -> None:
    settings = Settings(allowed_image_hosts=("127.0.0.1",))
    with (
        slow_pictures(1.0) as url,
        backend(registry, settings, deadline=20) as client,
        ThreadPoolExecutor() as pool,
    ):
        waiting = pool.submit(results, client, [task(n, f"{url}/a.png") for n in range(16)])
        time.sleep(0.3)
        assert elapsed(lambda: client.get("/health")) < 0.5
        assert elapsed(lambda: client.post("/setup", json=setup_body())) < 0.5
        assert elapsed(lambda: client.post("/webhook", json={"action": "X"})) < 0.5
        # A large request leaves room for the next one.
        assert elapsed(lambda: results(client, [seed_task(1, segmenter, seed=7)])) < 2.5
        assert not waiting.done()
        waiting.result()


class SlowRegistry(TinyRegistry):
    """Loads its version when it may."""

    def __init__(self, like: TinyRegistry) -> None:
        super().__init__(like._model_dir)
        self.may_load = threading.Event()

    def segmenter(self, version: str) -> Segmenter:
        self.may_load.wait(10)
        return super().segmenter(version)


def test_only_predictions_wait_for_loading(registry: TinyRegistry, segmenter: Segmenter) -> None:
    slow = SlowRegistry(registry)
    with backend(slow) as client, ThreadPoolExecutor() as pool:
        waiting = pool.submit(results, client, [seed_task(1, segmenter, seed=7)])
        time.sleep(0.3)
        assert client.get("/health").status_code == 200
        assert client.post("/setup", json=setup_body()).json() == {"model_version": VERSION}
        assert not waiting.done()
        slow.may_load.set()
        assert waiting.result()[0]["result"]


def test_webhooks_are_answered_before_they_are_handled(registry: TinyRegistry) -> None:
    handled: list[dict] = []
    done = threading.Event()

    def on_event(event: dict) -> None:
        if event["action"] == "BROKEN":
            raise ValueError("a handler's own trouble")
        time.sleep(1.0)
        handled.append(event)
        done.set()

    about = {"id": 5, "created_at": "2026-11-24T17:31:00Z", "label_config": CONFIG}
    event = {"action": "ANNOTATION_CREATED", "project": {**about, "title": "Heads"}}
    event["annotation"] = {"id": 1}  # it is read from Label Studio
    with backend(registry, on_event=on_event) as client:
        assert client.post("/webhook", json={"action": "BROKEN"}).status_code == 200
        with httpx.Client(base_url=client.base_url) as hook:
            assert elapsed(lambda: hook.post("/webhook", json=event).raise_for_status()) < 0.5
        assert handled == []
        assert done.wait(5)
    assert handled == [{"action": "ANNOTATION_CREATED", "project": about}]


# Access


def test_basic_auth_guards_all_routes(registry: TinyRegistry) -> None:
    settings = Settings(basic_auth_user="admin", basic_auth_pass="wörd:x")
    routes = [("GET", "/"), ("GET", "/health"), ("POST", "/setup"), ("POST", "/predict"),
              ("GET", "/versions"), ("POST", "/webhook"), ("GET", "/nowhere")]  # fmt: skip
    with backend(registry, settings) as client:
        for method, path in routes:
            for auth in (None, ("admin", "word"), ("root", "wörd:x")):
                response = client.request(method, path, auth=auth)
                assert response.status_code == 401, (method, path, auth)
                assert response.headers["www-authenticate"].startswith("Basic")
        assert client.get("/health", auth=("admin", "wörd:x")).status_code == 200


def test_half_a_login_is_refused() -> None:
    with pytest.raises(DganError, match="BASIC_AUTH_PASS"):
        create_app(Settings(basic_auth_user="admin"))


def test_tokens_are_not_logged(registry: TinyRegistry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with backend(registry) as client:
        client.post("/setup", json=setup_body(access_token="secret-token"))
        assert (
            "cannot be fetched" in results(client, [task(1, "/data/upload/1/a.png")])[0]["reason"]
        )
    assert "Task 1" in caplog.text
    assert "secret-token" not in caplog.text


def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DganError, match=f"Port {port} of 127.0.0.1 cannot be used"):
            serve(Settings(port=port), host="127.0.0.1")


def test_a_large_body_is_refused(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgan_backend.server.LARGE", 1000)
    assert client.post("/predict", json={"tasks": ["x" * 2000]}).status_code == 413


def test_large_bodies_at_once_have_a_budget(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.serving.bodies.MOST_AT_ONCE", 1000)
    assert client.post("/predict", json={"tasks": ["x" * 2000]}).status_code == 503
    assert client.post("/predict", json={"tasks": []}).status_code == 200  # nothing is kept of it


def test_as_many_tasks_as_somebody_may_choose(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """ "Retrieve predictions" sends all of them in one request."""
    assert client.post("/predict", json=predict_body([0] * 10_001)).status_code == 413
    client.timeout = httpx.Timeout(120)
    entries = results(client, [{"id": number, "data": {}} for number in range(2000)])
    assert len(entries) == 2000 and "Task 1999 has no picture" in entries[-1]["reason"]
    told = [record for record in caplog.records if "has no picture" in record.getMessage()]
    assert len(told) < 1000


def test_of_a_setup_what_it_tells_is_kept_and_nothing_else(registry: TinyRegistry) -> None:
    kept = Backend(Predictor(Settings(), registry), 1.0)
    kept.setup(setup_body(junk="x" * 10_000_000))
    (about,) = kept._known.values()
    assert set(about) == {"project", "schema", "hostname", "access_token", "extra_params"}
    for key in ("hostname", "access_token", "extra_params", "project"):
        with pytest.raises(DganError, match=f"`{key}` of /setup is over"):
            kept.setup(setup_body(**{key: {"partonomy": "own", "a": "x" * 200_000}}))
    for number in range(1200):
        kept._keep(f"{number}.1", {"schema": "x" * 100_000, "extra_params": None})
    assert 600 < len(kept._known) < 700


@pytest.mark.parametrize("half", [r"\ud800", r"\udc00", r"\udc00\ud800"])
def test_half_a_letter_is_no_text(client: httpx.Client, half: str) -> None:
    for path in ("/setup", "/predict", "/webhook", "/versions"):
        body = f'{{"tasks": [], "schema": "{half}"}}'.encode()
        assert client.post(path, content=body, headers=JSON).status_code == 400
    whole = f'{{"tasks": [], "a": "{LETTER}", "b": "{BACKSLASH}"}}'.encode()
    assert client.post("/predict", content=whole, headers=JSON).status_code == 200


LETTER, BACKSLASH = r"\ud83d\ude00", r"\\ud800"


def said_slowly(client: httpx.Client, first: bytes, rest: bytes, pause: float) -> bytes:
    """What comes back to a request in two parts."""
    address = (client.base_url.host, client.base_url.port or 0)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(first)
        time.sleep(pause)
        with suppress(OSError):
            connection.sendall(rest)
        with suppress(OSError):
            return connection.recv(65536)
    return b""


def test_whoever_says_nothing_is_not_waited_for(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.serving.patience.HEAD_SECONDS", 0.3)
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    assert b" 200 " in said_slowly(client, head, b"\r\n", 0.0)
    assert said_slowly(client, head, b"\r\n", 2.0) == b""
    assert said_slowly(client, b"", b"GET", 2.0) == b""
    again = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea"
    assert said_slowly(client, again, b"lth HTTP/1.1\r\n\r\n", 2.0).count(b" 200 ") == 1


def test_a_body_that_does_not_come_is_not_waited_for(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.serving.bodies.SECONDS", 0.3)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n"
    head += b"Content-Type: application/json\r\n\r\n"
    assert b" 200 " in said_slowly(client, head, b'{"tasks":[]}', 0.0)
    assert b" 408 " in said_slowly(client, head + b"{", b'"tasks":[]}', 2.0)


def test_nothing_listens_beyond_this_machine_unless_that_is_said() -> None:
    assert inspect.signature(serve).parameters["host"].default == "127.0.0.1"
    for command in ("serve", "start"):
        assert cli._parser().parse_args([command]).host == "127.0.0.1"


def test_answers_do_not_wait_for_the_other_side_to_acknowledge() -> None:
    """Linux hands the option on to the connections."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
