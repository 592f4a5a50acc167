"""Several projects on one backend: each has versions of its own, and sees no other's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.labelstudio.project import project_uid
from dgan_backend.partonomy import from_labels
from dgan_backend.registry import Registry
from tests.e2e.conftest import Demo
from tests.e2e.test_loop import Team, served, until

SHIPPED = "toonhead-shipped"
LABELS = ["hair", "skin", "thing"]
# What each of toonhead's classes is among these: hair and rear hair, all of the face, clothes.
MERGED = np.array([0, 1, 2, 2, 2, 2, 3, 2, 2, 2, 1, 2, 2, 2, 2, 1], np.uint8)
PICTURES = 4  # of each project
DRAWN = 2  # of the one with labels of its own
FIRST_SECONDS = 800.0  # a first version is fitted from nothing


@dataclass(frozen=True)
class Three:
    """Two projects of the same partonomy, and one of another."""

    one: Team
    other: Team
    own: Team

    @property
    def all(self) -> tuple[Team, Team, Team]:
        return self.one, self.other, self.own


@pytest.fixture(scope="module")
def three(demo: Demo, api: LabelStudioClient, tmp_path_factory: pytest.TempPathFactory) -> Three:
    config = labeling_config(from_labels("own", LABELS))
    first, pictures = 160, range(PICTURES)
    own = Team(demo, api, "Projects: own labels", [first + n for n in pictures], config)
    own.pairs = replace(own.pairs, masks=[MERGED[mask] for mask in own.pairs.masks])
    teams = Three(
        Team(demo, api, "Projects: one", [first + 10 + n for n in pictures]),
        Team(demo, api, "Projects: the other", [first + 20 + n for n in pictures]),
        own,
    )
    for team in teams.all:
        team.connect(seed_tasks=0)
        team.import_pictures(tmp_path_factory.mktemp("pictures"))
    return teams


def test_at_first_none_has_a_version_of_its_own(three: Three) -> None:
    for team in (three.one, three.other):
        until(lambda team=team: team.labeled_by(SHIPPED, team.tasks), "pre-labels")
        assert shown(team) == {SHIPPED}
    assert shown(three.own) == {three.own.shown_version}
    assert [told_of(team) for team in three.all] == [set(), set(), set()]
    assert [kept(team) for team in three.all] == [[], [], []]


def test_a_version_serves_only_the_project_whose_correction_made_it(three: Three) -> None:
    three.one.correct(0)
    version = first_version(three.one)
    wait_for(three.one, version, three.one.tasks[1:])
    assert shown(three.one) == {version}
    assert shown(three.other) == {SHIPPED}
    assert shown(three.own) == {three.own.shown_version}
    assert [told_of(team) for team in three.all] == [{version}, set(), set()]
    assert [kept(team) for team in three.all] == [[version], [], []]


def test_the_other_of_that_partonomy_gets_its_own(three: Three) -> None:
    three.other.correct(1)
    one, other = first_version(three.one), first_version(three.other)
    wait_for(three.other, other, [three.other.tasks[n] for n in (0, 2, 3)])
    assert shown(three.one) == {one}
    assert shown(three.other) == {other}
    assert shown(three.own) == {three.own.shown_version}
    assert [told_of(team) for team in three.all] == [{one}, {other}, set()]
    assert [kept(team) for team in three.all] == [[one], [other], []]


def test_labels_of_its_own_get_a_version_that_knows_no_others(three: Three) -> None:
    team = three.own
    assert not any(task.predictions for task in team.summaries().values())
    for n in range(DRAWN):
        team.draw(n)
    version = first_version(team)
    wait_for(team, version, team.tasks[DRAWN:])
    for task in team.tasks[DRAWN:]:
        (prediction,) = team.api.predictions(task)
        labels = {name for r in prediction["result"] for name in r["value"]["brushlabels"]}
        assert {"hair", "skin"} <= labels <= set(LABELS)
    every = [first_version(team) for team in three.all]
    assert [shown(team) for team in three.all] == [{version} for version in every]
    assert [told_of(team) for team in three.all] == [{version} for version in every]
    assert [kept(team) for team in three.all] == [[version] for version in every]


def test_each_version_has_learned_from_its_project_alone(three: Three) -> None:
    learned = [three.one.tasks[:1], three.other.tasks[1:2], three.own.tasks[:DRAWN]]
    for team, tasks in zip(three.all, learned, strict=True):
        sources = registry(team).sources(first_version(team))
        assert [s.task for s in sources if s.task is not None] == tasks
        (version,) = registry(team).versions(team.project)
        assert version.uid == project_uid(team.api.project(team.project))
        assert len(version.training["corrections"]) == len(tasks)


def first_version(team: Team) -> str:
    return f"p{team.project}-{team.binding.partonomy.name}-v0001"


def wait_for(team: Team, version: str, tasks: list[int]) -> None:
    """Until these tasks have one prediction each, of that version, and Label Studio shows it."""
    told = f"predictions of {version}"
    until(lambda: team.labeled_by(version, tasks), told, FIRST_SECONDS)
    until(lambda: {len(team.api.predictions(task)) for task in tasks} == {1}, "one each")
    until(lambda: team.api.project(team.project)["model_version"] == version, "the choice")


def shown(team: Team) -> set[str]:
    """What serves a project, in all places: Label Studio's backend (as /setup answered it, too) and
    choice, predictions of tasks that nobody has begun with, and what /versions says of it."""
    (backend,) = team.api.backends(team.project)
    predicted = {v for t in team.summaries().values() if not t.touched for v in t.versions}
    return {
        backend["title"],
        backend["model_version"],
        team.api.project(team.project)["model_version"],
        *served(team.demo, team.api, team.project),
        *predicted,
    }


def told_of(team: Team) -> set[str]:
    """Every trained version that stands anywhere in what Label Studio has of a project."""
    project = team.project
    known: list[Any] = [team.api.project(project), *team.api.backends(project)]
    known += [*team.api.tasks(project), *(team.api.predictions(task) for task in team.tasks)]
    known.append(team.api.request("GET", f"/api/projects/{project}/model-versions/"))
    for backend in team.api.backends(project):  # which asks without naming the project
        known.append(team.api.request("GET", f"/api/ml/{backend['id']}/versions"))
    return set(re.findall(r"\bp\d+-[\w-]+-v\d{4,}", json.dumps(known)))


def registry(team: Team) -> Registry:
    return Registry(team.demo.state / "models")


def kept(team: Team) -> list[str]:
    """A project's versions on disk; the last one serves it."""
    names = [version.name for version in registry(team).versions(team.project)]
    uid = project_uid(team.api.project(team.project))
    serving = registry(team).current(team.binding.partonomy, team.project, uid)
    assert serving == (names[-1] if names else shipped(team))
    return names


def shipped(team: Team) -> str | None:
    return None if team.binding.partonomy.name != "toonhead" else SHIPPED
