"""Labeling configs, and the partonomies that their labels choose."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dgan_backend.errors import DganError
from dgan_backend.labelstudio import binding as binding_module
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.config import Label, LabelingConfig, labeling_config, parse_config
from dgan_backend.labelstudio.project import Options, open_project, project_number, site_url
from dgan_backend.partonomy import from_labels, load_partonomy

TOONHEAD = load_partonomy("toonhead")


def config_of(*labels: str, control: str = "BrushLabels") -> str:
    """A labeling config of those `<Label .../>` attributes."""
    tags = "".join(f"<Label {label}/>" for label in labels)
    return (
        '<View><Header value="Parts"/><Image name="picture" value="$url"/>'
        f'<{control} name="tag" toName="picture">{tags}</{control}></View>'
    )


def bound(xml: str, **extra_params: object) -> Binding:
    return bind(parse_config(xml), 5, extra_params)


def test_a_config_is_read() -> None:
    xml = config_of('value="Ear" background="#ff0000" alias="e"', 'value="Lobe" parent="Ear"')
    assert parse_config(xml) == LabelingConfig(
        image="picture",
        image_key="url",
        kind="brush",
        from_name="tag",
        labels=(Label("Ear", "e", "#ff0000"), Label("Lobe", parent="Ear")),
    )


def test_smart_and_nested_tags_are_found() -> None:
    xml = (
        '<View><View style="x"><Image name="i" value="$image"/></View><View>'
        '<BitmaskLabels smart="true" name="b" toName="i"><View><Label value="a"/></View>'
        "</BitmaskLabels></View></View>"
    )
    config = parse_config(xml)
    assert (config.kind, config.smart, config.labels) == ("bitmask", True, (Label("a"),))


@pytest.mark.parametrize(
    ("controls", "kind"),
    [
        (["PolygonLabels", "BitmaskLabels", "BrushLabels"], "brush"),
        (["PolygonLabels", "BitmaskLabels"], "bitmask"),
        (["RectangleLabels", "PolygonLabels"], "polygon"),
    ],
)
def test_the_preferred_control_wins(controls: list[str], kind: str) -> None:
    tags = "".join(
        f'<{control} name="{control}" toName="i"><Label value="a"/></{control}>'
        for control in controls
    )
    config = parse_config(f'<View><Image name="i" value="$image"/>{tags}</View>')
    assert config.kind == kind
    assert config.from_name.lower() == f"{kind}labels"


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><View>&b;</View>'


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        pytest.param("", "no labeling config yet", id="empty"),
        pytest.param("<View><Image></View>", "not valid XML", id="no xml"),
        pytest.param(BOMB, "DOCTYPE", id="entities"),
        pytest.param("<View/>", "has no BrushLabels, BitmaskLabels, Poly", id="no control"),
        pytest.param(
            '<View><Text name="t" value="$t"/><BrushLabels name="b" toName="t">'
            '<Label value="a"/></BrushLabels></View>',
            "for an Image",
            id="no image",
        ),
        pytest.param(config_of(), "has no <Label>", id="no label"),
        pytest.param(
            config_of('value="a"').replace("$url", "http://x/$url"), "one key", id="no key"
        ),
    ],
)
def test_a_config_that_cannot_be_used_says_why(xml: str, said: str) -> None:
    with pytest.raises(DganError, match=said):
        parse_config(xml)


@pytest.mark.parametrize("control", ["brush", "bitmask", "polygon"])
def test_a_config_made_of_a_partonomy_leads_back_to_it(control: str) -> None:
    xml = labeling_config(TOONHEAD, control)
    config = parse_config(xml)
    assert config.kind == control
    assert bind(config, 1).partonomy == TOONHEAD
    labels = [tag.get("value") for tag in ET.fromstring(xml).iter("Label")]
    assert sorted(map(str, labels)) == sorted(TOONHEAD.classes[1:])
    assert labels.index("face") < labels.index("mouth") < labels.index("teeth")
    with pytest.raises(DganError, match="brush, bitmask or polygon"):
        labeling_config(TOONHEAD, "keypoint")


def test_a_tree_survives_its_config() -> None:
    tree = from_labels("t", ["body", "body/arm", "hand"], parents={"hand": "body/arm"})
    again = bind(parse_config(labeling_config(tree)), 1).partonomy
    assert again.classes == tree.classes
    assert again.ancestors("hand") == ["body/arm", "body"]
    assert again.part("hand").color == tree.part("hand").color


def test_labels_that_fit_a_shipped_partonomy_use_it_in_their_own_spelling() -> None:
    path = "head/face/eye/iris"
    binding = bound(
        config_of(
            'value="SKIN"', 'value="Rear Hair"', f'value="x" alias="{path}"', 'value="Background"'
        )
    )
    assert binding.partonomy.name == "toonhead"
    face, rear_hair, iris = (TOONHEAD.classes.index(n) for n in ("face", "rear_hair", "iris"))
    assert binding.label_of == {face: "SKIN", rear_hair: "Rear Hair", iris: path, 0: "Background"}
    assert binding.class_of["x"] == binding.class_of[path] == iris


def test_general_labels_stay_with_a_partonomy_that_has_a_generator() -> None:
    """Cats have a mouth and a nose too, in fewer classes."""
    assert bound(config_of('value="mouth"', 'value="nose"')).partonomy.name == "toonhead"


def test_of_several_that_fit_one_with_a_generator_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = {
        "bare": from_labels("bare", ["a", "b"]),
        "large": from_labels("large", ["a", "b", "c", "d"], generator="g"),
        "larger": from_labels("larger", ["a", "b", "c", "d", "e"], generator="h"),
    }
    monkeypatch.setattr(binding_module, "shipped_partonomies", lambda: list(trees))
    monkeypatch.setattr(binding_module, "load_partonomy", trees.__getitem__)
    assert bound(config_of('value="a"', 'value="b"')).partonomy.name == "large"
    del trees["large"], trees["larger"]
    assert bound(config_of('value="a"', 'value="b"')).partonomy.name == "bare"


def test_without_a_generator_half_of_the_classes_must_be_there() -> None:
    bird = ["head", "eye", "beak", "neck", "breast"]
    labels = [f'value="{label}"' for label in bird]
    assert bound(config_of(*labels)).partonomy.name == "bird"
    assert bound(config_of(*labels[:4])).partonomy.name == "project-5"
    assert bound(config_of(*labels[:4], 'value="bill"')).partonomy.name == "project-5"
    assert bound(config_of(*labels[:4]), partonomy="bird").partonomy.name == "bird"


def test_a_group_without_pixels_of_its_own_is_no_label() -> None:
    assert bound(config_of('value="hair"', 'value="eye"')).partonomy.name == "project-5"


def test_other_labels_make_the_projects_own_partonomy() -> None:
    binding = bound(
        config_of(
            'value="Wing" background="#f00"',
            'value="Wing/Feather"',
            'value="Claw" parent="leg"',
            'value="Leg" alias="L"',
        )
    )
    tree = binding.partonomy
    assert tree.name == "project-5"
    assert tree.classes == ("background", "Wing", "Wing/Feather", "Claw", "L")
    assert tree.ancestors("Wing/Feather") == ["Wing"]
    assert tree.ancestors("Claw") == ["L"], "a parent may be named in any case, by value or alias"
    assert tree.part("Wing").color == "#ff0000"
    assert binding.class_of == {"Wing": 1, "Wing/Feather": 2, "Claw": 3, "Leg": 4, "L": 4}
    assert binding.label_of == {1: "Wing", 2: "Wing/Feather", 3: "Claw", 4: "L"}


def test_labels_that_differ_in_case_only_stay_apart() -> None:
    assert bound(config_of('value="a"', 'value="A"')).class_of == {"a": 1, "A": 2}


def test_own_can_be_asked_for() -> None:
    xml = config_of('value="nose"')
    assert bound(xml).partonomy.name == "toonhead"
    assert bound(xml, partonomy="own").partonomy.name == "project-5"


def test_a_named_partonomy_is_enforced() -> None:
    assert bound(config_of('value="nose"'), partonomy="toonhead").partonomy == TOONHEAD
    with pytest.raises(DganError) as caught:
        bound(config_of('value="nose"', 'value="wing"', 'value="Iris"'), partonomy="toonhead")
    assert "do not fit the partonomy 'toonhead': wing." in str(caught.value)
    assert "These fit: nose, Iris." in str(caught.value)


@pytest.mark.parametrize("name", ["unicorn", "../partonomies/toonhead.yaml", 7, {}])
def test_a_named_partonomy_must_be_a_shipped_one(name: object) -> None:
    with pytest.raises(DganError, match=r"none of: .*toonhead.*own"):
        bound(config_of('value="nose"'), partonomy=name)


def test_background_alone_is_not_enough() -> None:
    with pytest.raises(DganError, match="beside background"):
        bound(config_of('value="Background"'))


def test_a_parent_in_a_circle_is_said() -> None:
    with pytest.raises(DganError, match="own ancestor"):
        bound(config_of('value="x1" parent="x2"', 'value="x2" parent="x1"'))


def test_unlabeled_classes_fold_into_their_ancestors() -> None:
    table = bound(config_of('value="face"', 'value="mouth"')).folded()
    by_name = dict(zip(TOONHEAD.classes, table.tolist(), strict=True))
    face, mouth = TOONHEAD.classes.index("face"), TOONHEAD.classes.index("mouth")
    assert by_name["teeth"] == by_name["tongue"] == by_name["mouth"] == mouth
    assert by_name["iris"] == by_name["nose"] == by_name["face"] == face
    assert by_name["hair"] == by_name["clothes"] == by_name["background"] == 0
    assert table.dtype == np.uint8


def test_a_version_of_an_older_config_is_bound_by_name() -> None:
    old = bound(config_of('value="Wing"', 'value="Claw"')).partonomy
    new = bound(config_of('value="Beak"', 'value="Claw"', 'value="Wing"'))
    assert new.to(old).label_of == {1: "Wing", 2: "Claw"}
    assert new.to(new.partonomy) is new


@pytest.mark.parametrize(
    ("uid", "number"),
    [("17.1795491060", 17), ("17", 17), (17, 17), (None, None), ("x", None), ("9" * 5000, None),
     ("17.1/../../x", None), ("17.", None), ("\u0661", None)],
)  # fmt: skip
def test_project_number(uid: object, number: int | None) -> None:
    assert project_number(uid) == number


def test_a_uid_that_would_be_a_path_is_none() -> None:
    assert open_project("5.1/../../x", "").uid == ""
    assert open_project("5.1795491060", "").uid == "5.1795491060"


@pytest.mark.parametrize(
    ("hostname", "url"),
    [
        ("http://ls:8080/", "http://ls:8080"),
        ("https://ls.example/studio/", "https://ls.example/studio"),
        ("http://10.0.0.1/latest/meta-data?x=", "http://10.0.0.1/latest/meta-data"),
        ("http://10.0.0.1/a#", "http://10.0.0.1/a"),
        ("file:///etc/passwd", ""),
        ("//ls", ""),
        (7, ""),
    ],
)
def test_the_address_of_a_label_studio(hostname: object, url: str) -> None:
    assert site_url(hostname) == url


def test_a_project_that_cannot_be_used_keeps_the_reason() -> None:
    xml = config_of('value="nose"')
    good = open_project("5.1", xml, '{"partonomy": "toonhead"}', "http://ls:8080/", "secret")
    assert good.binding is not None and good.binding.partonomy == TOONHEAD
    assert (good.hostname, good.access_token) == ("http://ls:8080", "secret")
    assert "secret" not in repr(good)
    for extra_params, said in [("{", "not valid JSON"), ([], "must be an object")]:
        bad = open_project("5.1", xml, extra_params)
        assert bad.binding is None and said in bad.problem
    assert open_project("5.1", None).problem.startswith("The project has no labeling config")
    for hostname in ("file:///etc/passwd", "http://", "http://a:port", "ls", None, 7):
        assert open_project("5.1", xml, None, hostname).hostname == ""


@pytest.mark.parametrize(
    ("params", "read"),
    [
        ({}, Options()),
        ({"unlabeled": "background", "partonomy": "toonhead"}, Options()),
        ({"unlabeled": "ignore"}, Options(ignore_bare=True)),
        ({"generator": "toonhead"}, Options(generator="toonhead")),
        ({"seed_tasks": 1000}, Options(seed_tasks=1000)),
        ({"synthetic_per_version": 10_000}, Options(synthetic_per_version=10_000)),
        ({"same_project": True}, Options(same_project=True)),
    ],
)
def test_options_are_read_from_the_extra_params(params: dict, read: Options) -> None:
    assert Options.read(params) == read
    assert open_project("5.1", config_of('value="nose"'), params).options == read


@pytest.mark.parametrize(
    "params",
    [
        {"unlabeled": "nothing"},
        {"unlabeled": None},
        {"unlabeled": ["ignore"]},
        {"generator": 7},
        {"generator": None},
        {"seed_tasks": -1},
        {"seed_tasks": 1001},
        {"seed_tasks": True},
        {"seed_tasks": "16"},
        {"seed_tasks": 1.0},
        {"synthetic_per_version": 10_001},
        {"same_project": "yes"},
        {"same_project": 1},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_used_is_named(params: dict) -> None:
    ((key, value),) = params.items()
    said = f'extra param "{key}"'
    with pytest.raises(DganError, match=said) as caught:
        Options.read(params)
    assert repr(value) in str(caught.value)
    project = open_project("5.1", config_of('value="nose"'), params)
    assert project.binding is None and said in project.problem


# Limits


def test_as_many_labels_as_a_mask_can_tell_apart() -> None:
    most = [f'value="head/part {number}"' for number in range(254)]
    assert bound(config_of('value="background"', *most)).partonomy.num_classes == 255
    with pytest.raises(DganError, match="'tag' has 10000 labels; 255 are the most"):
        parse_config(config_of(*[f'value="{number}"' for number in range(10_000)]))


@pytest.mark.parametrize("label", ['value="{}"', 'value="x" alias="{}"', 'value="x" parent="{}"'])
@pytest.mark.parametrize("name", ["/".join("a" * 6000), "/".join("a" * 17), "a" * 301])
def test_a_label_that_nobody_could_read_is_refused(label: str, name: str) -> None:
    with pytest.raises(DganError, match="is too long; 300 characters and 16 levels are the most"):
        parse_config(config_of(label.format(name)))


def test_a_config_has_a_length() -> None:
    long = config_of('value="Ear"').replace("Parts", "P" * 2**20)
    with pytest.raises(DganError, match="is over 1,048,576 characters"):
        parse_config(long)
    assert parse_config(config_of('value="Ear"').replace("Parts", "P" * 2**19))


def test_the_largest_config_is_bound_in_a_moment() -> None:
    """Before: 54 s for 10,000 labels, 42 s for one of 6,000 levels."""
    labels = [f'value="{"/".join([f"{number:03}", *("a" * 15)])}"' for number in range(254)]
    began = time.process_time()
    assert bound(config_of(*labels)).partonomy.num_classes == 255
    assert time.process_time() - began < 3.0
