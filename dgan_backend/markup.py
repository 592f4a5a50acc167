"""HTML and SVG as text; what is not made here is escaped, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Union

_VOID = {"input", "link", "meta", "br", "img"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Union["Html", str, int, float, None, Iterable["Child"]]


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """`tag("p", "a < b", class_="x")` -> `<p class="x">a &lt; b</p>`. Attributes: `_` is `-`, None
    and False are left out."""
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{joined(children)}</{name}>")


def joined(children: Child) -> Html:
    """One after the other; None is nothing."""
    if children is None:
        return Html()
    if isinstance(children, Html):
        return children
    if isinstance(children, (str, int, float)):
        return Html(escape(str(children)))
    return Html("".join(joined(child) for child in children))
