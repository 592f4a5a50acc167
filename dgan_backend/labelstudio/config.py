"""A project's labeling config: its picture, its segmentation control and its labels."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.partonomy import Partonomy

# Control tag -> kind of region, the preferred one first: brush has the better export tools.
CONTROLS = {"BrushLabels": "brush", "BitmaskLabels": "bitmask", "PolygonLabels": "polygon"}
MAX_LENGTH = 2**20  # characters of a labeling config
_MAX_LABELS = 255  # as a partonomy has classes, at most
_MAX_LEVELS = 16  # of a label that is a path, `head/eye/iris`
_MAX_NAME = 300  # characters of a label, or of its parent
_KINDS = {tag.lower(): kind for tag, kind in CONTROLS.items()}
_TAGS = {kind: tag for tag, kind in CONTROLS.items()}


@dataclass(frozen=True)
class Label:
    """One `<Label>`; empty strings stand for attributes that it does not have."""

    value: str
    alias: str = ""
    color: str = ""
    parent: str = ""

    @property
    def spelling(self) -> str:
        """What Label Studio writes into regions: the alias where there is one."""
        return self.alias or self.value


@dataclass(frozen=True)
class LabelingConfig:
    """What the backend needs of a labeling config.

    image:     name of the `<Image>` tag (`to_name` of regions)
    image_key: key of the picture's URL in a task's data
    kind:      "brush", "bitmask" or "polygon"
    from_name: name of the control tag
    smart:     whether a control on that image is a smart tool, of whatever kind
    """

    image: str
    image_key: str
    kind: str
    from_name: str
    labels: tuple[Label, ...]
    smart: bool = False


def parse_config(xml: str) -> LabelingConfig:
    """Read a labeling config; raises DganError that says which tag is missing or wrong.

    With several segmentation controls the first kind of CONTROLS wins.
    """
    root = _parse_xml(xml)
    images = {tag.get("name", ""): tag for tag in root.iter() if _is(tag, "image")}
    for kind in CONTROLS.values():
        for tag in root.iter():
            if _is(tag, f"{kind}labels") and tag.get("toName", "") in images:
                image = images[tag.get("toName", "")]
                on_image = [other for other in root.iter() if _points_to(other, image)]
                return _read_control(tag, kind, image, any(map(_is_smart, on_image)))
    raise DganError(
        f"The labeling config has no {', '.join(CONTROLS)} for an Image; add one with your labels "
        "at Settings > Labeling Interface."
    )


def labeling_config(partonomy: Partonomy, control: str = "brush", smart: bool = False) -> str:
    """A labeling config (XML) whose labels are the classes of a partonomy, in tree order.

    control: "brush", "bitmask" or "polygon"
    smart: with smart tools, which ask the backend for the part under a click or a rough box
    """
    if control not in _TAGS:
        raise DganError(f"There is no control {control!r}; choose brush, bitmask or polygon.")
    view = ET.Element("View")
    # Parts are a few pixels wide: show them as pixels, and let people zoom in.
    ET.SubElement(
        view, "Image", name="image", value="$image", zoom="true", zoomControl="true",
        smoothing="false",
    )  # fmt: skip
    tag = ET.SubElement(view, _TAGS[control], name="parts", toName="image")
    for part in partonomy.parts:
        if part.index:
            label = ET.SubElement(tag, "Label", value=part.name, background=part.color)
            if part.parent:
                label.set("parent", part.parent)
    if smart:
        # Not the control itself: Label Studio 1.23 offers a smart brush, but never asks the backend
        # when somebody drew with it, and it has no smart polygon.
        ET.SubElement(view, "KeyPoint", name="click", toName="image", smart="true")
        ET.SubElement(view, "Rectangle", name="box", toName="image", smart="true")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode")


class _NoDoctype(ET.TreeBuilder):
    """Entities need a document type, so refusing it refuses entity expansion altogether."""

    def doctype(self, *_: Any) -> None:
        raise DganError("The labeling config has a <!DOCTYPE>, which is not allowed; remove it.")


def _parse_xml(xml: str) -> ET.Element:
    if not isinstance(xml, str) or not xml.strip():
        raise DganError(
            "The project has no labeling config yet; write one at Settings > Labeling Interface."
        )
    if len(xml) > MAX_LENGTH:
        raise DganError(f"The labeling config is over {MAX_LENGTH:,} characters; shorten it.")
    parser = ET.XMLParser(target=_NoDoctype())
    try:
        parser.feed(xml)
        return parser.close()
    except (ET.ParseError, UnicodeEncodeError) as error:
        raise DganError(f"The labeling config is not valid XML: {error}.") from error


def _is(tag: ET.Element, name: str) -> bool:
    return tag.tag.lower() == name


def _points_to(tag: ET.Element, image: ET.Element) -> bool:
    return tag.get("toName") == image.get("name", "")


def _is_smart(tag: ET.Element) -> bool:
    """Whether it has `smart="true"` or `smartOnly="true"`, in any case."""
    values = {key.lower(): value.lower() for key, value in tag.attrib.items()}
    return "true" in (values.get("smart"), values.get("smartonly"))


def _read_control(tag: ET.Element, kind: str, image: ET.Element, smart: bool) -> LabelingConfig:
    value = image.get("value", "").strip()
    if not re.fullmatch(r"\$[^\s$]+", value):
        raise DganError(
            f"The Image tag {image.get('name')!r} shows {value!r}; its value must be one key of "
            'the task data, like value="$image".'
        )
    tags = [label for label in tag.iter() if _is(label, "label")]
    if len(tags) > _MAX_LABELS:
        raise DganError(
            f"{_TAGS[kind]} {tag.get('name')!r} has {len(tags)} labels; {_MAX_LABELS} are the most."
        )
    labels = tuple(map(_read_label, tags))
    if not any(label.value for label in labels):
        raise DganError(
            f"{_TAGS[kind]} {tag.get('name')!r} has no <Label>; write its labels into the "
            "labeling config (labels that come from the task data are not supported)."
        )
    return LabelingConfig(
        image=image.get("name", ""),
        image_key=value[1:],
        kind=kind,
        from_name=tag.get("name", ""),
        labels=tuple(label for label in labels if label.value),
        smart=smart,
    )


def _read_label(tag: ET.Element) -> Label:
    """Raises DganError for names that nobody could read."""
    for name in (tag.get("value", ""), tag.get("alias", ""), tag.get("parent", "")):
        if len(name) > _MAX_NAME or name.count("/") >= _MAX_LEVELS:
            raise DganError(
                f"The label {name[:40]!r} ... is too long; {_MAX_NAME:,} characters and "
                f"{_MAX_LEVELS} levels are the most."
            )
    return Label(
        value=tag.get("value", "").strip(),
        alias=tag.get("alias", "").strip(),
        color=tag.get("background", "").strip(),
        parent=tag.get("parent", "").strip(),
    )
