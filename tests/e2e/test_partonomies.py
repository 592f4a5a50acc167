"""The labeling configs of the shipped partonomies in a real Label Studio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dgan_backend.demo import project as demo_project
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.partonomy import load_partonomy, shipped_partonomies
from tests.e2e.conftest import Demo


@pytest.fixture(params=shipped_partonomies())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(api: LabelStudioClient, name: str) -> Iterator[int]:
    """A project made with the partonomy's config."""
    number = int(api.create_project(name, labeling_config(load_partonomy(name)))["id"])
    yield number
    api.request("DELETE", f"/api/projects/{number}/")


def test_label_studio_takes_every_config(api: LabelStudioClient, project: int, name: str) -> None:
    tree = load_partonomy(name)
    for control in ("brush", "bitmask", "polygon"):
        config = labeling_config(tree, control)
        body = {"label_config": config}
        api.request("POST", "/api/projects/validate/", json=body)
        api.request("POST", f"/api/projects/{project}/validate/", json=body)
        api.update_project(project, label_config=config)
        stored = api.project(project)
        assert parse_config(stored["label_config"]) == parse_config(config)
        (read,) = stored["parsed_label_config"].values()  # as Label Studio understands it
        assert read["type"].lower() == f"{control}labels"
        assert sorted(read["labels"]) == sorted(tree.classes[1:])


def test_a_config_that_label_studio_refuses_is_noticed(api: LabelStudioClient, demo: Demo) -> None:
    """Else the test above would prove nothing."""
    config = labeling_config(load_partonomy("cat")).replace('toName="image"', 'toName="gone"')
    with pytest.raises(Exception, match="gone"):
        api.request("POST", "/api/projects/validate/", json={"label_config": config})


@pytest.mark.parametrize("name", ["car"])
def test_without_a_generator_it_connects_and_leaves_pictures_empty(
    demo: Demo, api: LabelStudioClient, project: int
) -> None:
    api.upload_files(project, [demo_project.outside()[0].path])
    api.connect_backend(project, demo.facts["backend_url"])
    assert [row["state"] for row in api.backends(project)] == ["CO"]
    api.request(
        "POST",
        "/api/dm/actions",
        params={"id": "retrieve_tasks_predictions", "project": project},
        json={"selectedItems": {"all": True, "excluded": []}},
    )
    (task,) = api.tasks(project)
    (prediction,) = api.task(task["id"])["predictions"]
    assert (prediction["result"], prediction["score"]) == ([], 0)
    assert prediction["model_version"] == "car-untrained"
    log = "".join(path.read_text() for path in demo.state.rglob("*.log"))
    assert "No generator of 'car' is at hand; it needs cars from outside" in log
