"""Ports and their owners."""

from __future__ import annotations

import os
import socket

import pytest

from dgan_backend.errors import DganError
from dgan_backend.supervision.processes import check_port, port_owner


def test_a_free_port_passes() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    check_port("127.0.0.1", port, "the backend", "choose another")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_said_with_its_owner(host: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(DganError) as caught:
            check_port(host, port, "Label Studio", "choose another with --port")
    said = str(caught.value)
    assert f"Port {port} (Label Studio) is in use by" in said
    assert f"(pid {os.getpid()})" in said
    assert "choose another with --port" in said


def test_nobody_owns_a_port_that_nobody_listens_on() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert port_owner(bound.getsockname()[1]) == ""
