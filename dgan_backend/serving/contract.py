"""GET /openapi.json: what this backend answers, written by hand beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from fastapi import FastAPI
from fastapi.responses import JSONResponse


@cache
def contract() -> dict[str, Any]:
    """The OpenAPI document."""
    text = (files("dgan_backend.serving") / "openapi.yaml").read_text()
    return dict(yaml.safe_load(text))


def add_contract_route(app: FastAPI) -> None:
    @app.get("/openapi.json")
    async def openapi() -> JSONResponse:
        return JSONResponse(contract())
