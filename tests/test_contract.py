"""The OpenAPI document and the routes are of one mind."""

from __future__ import annotations

from pathlib import Path

from fastapi.routing import APIRoute

from dgan_backend.registry import Registry
from dgan_backend.server import create_app
from dgan_backend.serving.contract import contract
from dgan_backend.settings import Settings
from dgan_backend.vault import HEADER

_NOT_TOLD = {"/", "/openapi.json"}  # the same as /health; the document itself


def test_every_route_is_in_the_document_and_the_other_way_round(tmp_path: Path) -> None:
    app = create_app(Settings(model_dir=tmp_path), Registry(tmp_path))
    routes = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute) and route.path not in _NOT_TOLD
        for method in route.methods
    }
    told = {(m.upper(), path) for path, item in contract()["paths"].items() for m in item}
    assert routes == told


def test_the_secrets_header_is_the_one_that_is_looked_at() -> None:
    (header,) = contract()["paths"]["/webhook"]["post"]["parameters"]
    assert header["name"] == HEADER
