"""HTML as text: what was not made here is escaped."""

from __future__ import annotations

import pytest

from dgan_backend.markup import Html, joined, tag

EVIL = "<script>alert('x')</script>&\""


def test_text_and_attributes_are_escaped() -> None:
    assert tag("p", "a < b", title='"x"') == '<p title="&quot;x&quot;">a &lt; b</p>'
    assert "<script>" not in tag("td", EVIL, [EVIL, (EVIL,)], class_=EVIL)


def test_html_is_left_as_it_is_and_nothing_is_nothing() -> None:
    assert tag("p", tag("b", 7), None, [], " x") == "<p><b>7</b> x</p>"
    assert joined((Html("<i></i>"), None, 0.5)) == "<i></i>0.5"


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"class_": "x", "for_": "y"}, ' class="x" for="y"'),
        ({"aria_label": "x"}, ' aria-label="x"'),
        ({"open": True, "hidden": False, "id": None}, " open"),
        ({"value": 0}, ' value="0"'),
    ],
)
def test_attributes(attributes: dict, told: str) -> None:
    assert tag("p", **attributes) == f"<p{told}></p>"


def test_elements_that_hold_nothing() -> None:
    assert tag("input", name="x") == '<input name="x">'
