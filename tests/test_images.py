"""Pictures of tasks: where they come from, how they are decoded, and what is refused."""

from __future__ import annotations

import base64
import gzip
import io
import ipaddress
import itertools
import socket
import time
import tracemalloc
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from dgan_backend.errors import PassingError, TaskError
from dgan_backend.labelstudio.addresses import is_link_local, is_public
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from dgan_backend.labelstudio.fetch import FetchError, Limits, _checked_address
from dgan_backend.labelstudio.images import load_image
from dgan_backend.pictures import PictureError, decode_picture
from tests.sites import Answer, Seen, Site, dripping, redirect, serving

RED = np.full((3, 5, 3), (255, 0, 0), dtype=np.uint8)
KEY = "secret-legacy-token"


def png(pixels: np.ndarray = RED) -> bytes:
    return encoded(Image.fromarray(pixels))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def task(url: object) -> dict:
    return {"id": 42, "data": {"image": url}}


@pytest.fixture
def studio() -> Iterator[Site]:
    """A Label Studio that keeps one picture at several addresses, and leads away from others."""
    with serving(lambda seen: PAGES[seen.path](seen)) as site:
        yield site


def guarded(seen: Seen) -> Answer:
    """Like /data/upload: only for who is logged in."""
    if seen.headers.get("authorization") != f"Token {KEY}":
        return Answer(status=401)
    return Answer(png())


def resolve(seen: Seen) -> Answer:
    uri = base64.urlsafe_b64decode(seen.query["fileuri"][0]).decode()
    return guarded(seen) if uri == "s3://bucket/a b.png" else Answer(status=404)


PAGES = {
    "/data/upload/1/a.png": guarded,
    "/data/local-files/": lambda seen: guarded(seen),
    "/tasks/42/resolve/": resolve,
    "/data/upload/1/login.png": lambda _: redirect("/user/login/?next=/data/upload/1/login.png"),
    "/data/upload/1/moved.png": lambda _: redirect("/data/upload/1/a.png", 301),
    "/data/upload/1/loop.png": lambda seen: redirect(seen.path),
    "/data/upload/1/gone.png": lambda _: Answer(status=404),
    "/data/upload/1/error.png": lambda _: Answer(status=503),
    "/data/upload/1/page.png": lambda _: Answer(
        b"<html>Back soon</html>", headers={"Content-Type": "text/html"}
    ),
    "/data/upload/1/file.png": lambda _: redirect("file:///etc/passwd"),
    "/data/upload/1/away.png": lambda seen: redirect(seen.query["to"][0], 303),
}


def client(site: Site, token: str = KEY, **options: bool) -> LabelStudioClient:
    return LabelStudioClient(site.url, token, **options)


@pytest.mark.parametrize(
    "path",
    [
        "/data/upload/1/a.png",
        "/data/upload/1/moved.png",
        "/data/local-files/?d=x/a.png",
        "s3://bucket/a b.png",
    ],
)
def test_pictures_come_from_label_studio_with_the_token(studio: Site, path: str) -> None:
    with client(studio) as site:
        image = load_image(task(path), "image", site)
    np.testing.assert_array_equal(image, RED)
    assert image.dtype == np.uint8
    if "local-files" in path:
        assert studio.seen[-1].query == {"d": ["x/a.png"]}


def test_a_full_url_of_label_studio_is_its_own_too(studio: Site) -> None:
    with client(studio) as site:
        image = load_image(task(f"{studio.url}/data/upload/1/a.png"), "image", site)
    assert image.shape == RED.shape


def test_label_studio_below_a_path(studio: Site) -> None:
    with LabelStudioClient(f"{studio.url}/ls/", KEY) as site:
        assert site.link("/data/x") == site.link("/ls/data/x") == f"{studio.url}/ls/data/x"


def test_a_data_uri_is_decoded() -> None:
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    np.testing.assert_array_equal(load_image(task(uri), "image"), RED)


# What is refused


def refusal(url: object, site: Site | None = None, allowed: tuple[str, ...] = ()) -> str:
    """What the error says; every error names the task."""
    limits = Limits(max_bytes=100_000, max_pixels=10_000, seconds=1.0)
    label_studio = client(site) if site else None
    with pytest.raises(TaskError, match="42") as caught:
        load_image(task(url), "image", label_studio, allowed, limits)
    if label_studio:
        label_studio.close()
    return str(caught.value)


@pytest.mark.parametrize("url", [None, "", "  ", 7, ["a"]])
def test_a_task_without_a_picture(url: object) -> None:
    assert "no URL under 'image' (keys: image)" in refusal(url)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("login", "personal access token"),
        ("gone", "does not exist"),
        ("error", "answered 503"),
        ("loop", "redirected more than 5 times"),
        ("file", "no http or https URL"),
    ],
)
def test_label_studio_does_not_give_it(studio: Site, name: str, said: str) -> None:
    text = refusal(f"/data/upload/1/{name}.png", studio)
    assert said in text
    assert f"/data/upload/1/{name}.png" in text
    assert KEY not in text
    assert text.endswith(".") and not text.endswith("..")


def test_a_wrong_token_is_explained(studio: Site) -> None:
    with client(studio, "wrong") as site, pytest.raises(TaskError, match="refused the token"):
        load_image(task("/data/upload/1/a.png"), "image", site)


def test_a_page_instead_of_a_picture_passes(studio: Site) -> None:
    """A proxy's, while Label Studio is down: the picture is asked for again."""
    with client(studio) as site, pytest.raises(PassingError, match="answered with a page"):
        load_image(task("/data/upload/1/page.png"), "image", site)


def test_uploads_need_to_know_label_studio() -> None:
    assert "set LABEL_STUDIO_URL" in refusal("/data/upload/1/a.png")
    assert "set LABEL_STUDIO_URL" in refusal("gs://bucket/a.png")


def test_an_unreachable_host_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "cannot be fetched" in refusal(f"http://127.0.0.1:{port}/a.png", allowed=("127.0.0.1",))
    nowhere = "no-such-host.invalid"
    assert f"{nowhere}, which is not found" in refusal(f"http://{nowhere}/a", allowed=("*",))


@pytest.mark.parametrize("url", ["ftp://h/a.png", "file:///etc/passwd", "picture.png", "http://"])
def test_only_http_and_https(url: str) -> None:
    assert "no http or https URL" in refusal(url)


def test_no_private_address_is_asked(studio: Site) -> None:
    for host in ("127.0.0.1", "localhost"):
        url = studio.url.replace("127.0.0.1", host)
        for allowed in ((), ("*",), (f"*{host[1:]}",)):
            said = refusal(f"{url}/data/upload/1/a.png", allowed=allowed)
            assert host in said and "ALLOWED_IMAGE_HOSTS" in said
    assert studio.seen == []


def test_a_host_that_nobody_named_is_not_even_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or [])
    said = refusal("https://pictures.example/a.png", allowed=("*.other.example", "example"))
    assert "add pictures.example to ALLOWED_IMAGE_HOSTS" in said
    assert asked == []


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "fd00:ec2::254"])
def test_not_even_a_named_host_may_be_a_link_local_one(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    entries = [(0, 0, 0, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    said = refusal("http://pictures.example/a.png", allowed=("pictures.example",))
    assert f"link-local address ({address})" in said


def test_an_allowed_host_is_asked_without_the_token(studio: Site) -> None:
    with serving(lambda seen: Answer(png())) as other:
        port = other.url.rpartition(":")[2]
        with client(studio) as site:
            for allowed in (("127.0.0.1",), (f"127.0.0.1:{port}",)):
                load_image(task(f"{other.url}/a.png?x=1"), "image", site, allowed)
    assert [seen.query for seen in other.seen] == [{"x": ["1"]}] * 2
    assert all("authorization" not in seen.headers for seen in other.seen)
    assert studio.seen == []


def test_a_redirect_is_checked_like_the_first_url(studio: Site) -> None:
    with serving(lambda seen: Answer(png())) as other:
        url = f"/data/upload/1/away.png?to={other.url}/a.png"
        assert "is not kept by Label Studio" in refusal(url, studio)
        assert other.seen == []
        with client(studio) as site:
            assert load_image(task(url), "image", site, ("127.0.0.1",)).shape == (3, 5, 3)
    assert [seen.headers.get("authorization") for seen in other.seen] == [None]
    assert studio.seen[-1].headers["authorization"] == f"Token {KEY}"


@pytest.fixture
def storage() -> Iterator[Site]:
    there = {"/a.png": lambda _: Answer(png()), "/on.png": lambda _: redirect("/a.png")}
    with serving(lambda seen: there[seen.path](seen)) as site:
        yield site


@pytest.fixture
def leading(storage: Site) -> Iterator[Site]:
    """A Label Studio, all of whose pictures are elsewhere."""
    with serving(lambda seen: redirect(f"{storage.url}{seen.query['to'][0]}")) as site:
        yield site


def test_storage_may_be_where_a_trusted_label_studio_says(storage: Site, leading: Site) -> None:
    with client(leading) as site:
        image = load_image(task("/tasks/42/resolve/?to=/a.png"), "image", site)
    assert image.shape == (3, 5, 3)
    assert [seen.headers.get("authorization") for seen in storage.seen] == [None]


def test_uploads_are_not_storage_and_storage_leads_no_further(storage: Site, leading: Site) -> None:
    assert "not kept by Label Studio" in refusal("/data/upload/1/x?to=/a.png", leading)
    assert storage.seen == []
    assert "not kept by Label Studio" in refusal("/tasks/42/resolve/?to=/on.png", leading)
    assert [seen.path for seen in storage.seen] == ["/on.png"]


def test_storage_of_a_label_studio_that_no_admin_named_is_public(
    storage: Site, leading: Site
) -> None:
    with client(leading, trusted=False) as site, pytest.raises(TaskError, match="private address"):
        load_image(task("/tasks/42/resolve/?to=/a.png"), "image", site)
    assert leading.seen and not storage.seen


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, studio: Site
) -> None:
    """A name server that says something else the second time changes nothing."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: object, **options: object) -> list:
        if host == "pictures.example":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else "203.0.113.1"
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with serving(lambda seen: Answer(png())) as other:
        url = other.url.replace("127.0.0.1", "pictures.example")
        load_image(task(f"{url}/a.png"), "image", None, ("pictures.example",))
    assert asked == ["pictures.example"]
    assert other.seen[0].headers["host"] == url.removeprefix("http://")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::",
        "fec0::1", "::10.0.0.1", "::8.8.8.8", "::ffff:0:10.0.0.1", "64:ff9b:1::a00:1",
        "2a00:1450::5efe:10.0.0.1", "2a00:1450::200:5efe:10.0.0.1", "fe80::5efe:808:808",
        "2001::1", "2001:db8::1", "3ffe::1", "3fff::1", "4000::1", "ff0e::1", "fd00:ec2::254",
    ],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2001:4860:4860::8888", "2a00:1450::1", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_one_private_address_of_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(0, 0, 0, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    with pytest.raises(FetchError, match=r"10\.0\.0\.1"):
        _checked_address(httpx.URL("https://both.example/a"), ("*.example",))
    entries.pop()
    url = httpx.URL("https://both.example/a")
    assert _checked_address(url, ("*.example",)) == ipaddress.ip_address("8.8.8.8")


def test_a_label_studio_named_by_setup_is_not_the_metadata_address() -> None:
    site = LabelStudioClient("http://169.254.169.254", KEY, trusted=False)
    with site, pytest.raises(TaskError, match="link-local"):
        load_image(task("/data/upload/1/a.png"), "image", site)
    with site, pytest.raises(TaskError, match="not kept by Label Studio"):
        load_image(task("/latest/meta-data"), "image", site)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "fe80::1", "fe80::5efe:a00:1", "::ffff:169.254.169.254",
        "::169.254.169.254", "::ffff:0:a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "fd00:ec2::254",
    ],
)  # fmt: skip
def test_nothing_at_a_link_local_address_is_asked_for_the_api(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert is_link_local(ipaddress.ip_address(address))
    site = LabelStudioClient(f"http://{host}", KEY, trusted=False)
    with site, pytest.raises(LabelStudioError, match="link-local") as caught:
        site.project(1)
    assert KEY not in str(caught.value)


def test_a_label_studio_named_by_setup_is_looked_up_once(
    monkeypatch: pytest.MonkeyPatch, studio: Site
) -> None:
    """A name server that first tells a harmless address, and then the metadata's."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: object, **options: object) -> list:
        if host == "studio.example":
            asked.append(host)
            host = "127.0.0.1" if len(asked) % 2 else "169.254.169.254"
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = studio.url.replace("127.0.0.1", "studio.example")
    with LabelStudioClient(url, KEY, trusted=False) as site:
        load_image(task("/data/upload/1/a.png"), "image", site)
        assert asked == ["studio.example"]
        with pytest.raises(TaskError, match="link-local"):
            load_image(task("/data/upload/1/a.png"), "image", site)
    assert studio.seen[0].headers["host"] == url.removeprefix("http://")
    assert len(studio.seen) == 1


def test_errors_show_no_credentials() -> None:
    url = "http://me:word@127.0.0.1:1/a.png?X-Amz-Signature=hidden#f"
    text = refusal(url)
    assert "http://127.0.0.1:1/a.png" in text
    assert "word" not in text and "hidden" not in text


def test_too_many_bytes_and_too_slow_ones() -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 10
            time.sleep(0.1)

    bodies = {"/big": itertools.repeat(b"x" * 65536), "/slow": drip()}
    with serving(lambda seen: Answer(bodies[seen.path])) as other:
        assert "is over 0 MiB" in refusal(f"{other.url}/big", allowed=("127.0.0.1",))
        began = time.monotonic()
        assert "took over 1 s" in refusal(f"{other.url}/slow", allowed=("127.0.0.1",))
        assert time.monotonic() - began < 5


# What a server can make of an answer


def packed(times: int, size: int = 64 * 1024 * 1024) -> bytes:
    data = bytes(size)
    for _ in range(times):
        data = gzip.compress(data)
    return data


@pytest.mark.parametrize("own", [False, True], ids=["a stranger", "label studio"])
@pytest.mark.parametrize("said", ["gzip", "gzip, gzip", "x-odd"])
def test_nothing_packed_is_unpacked(said: str, own: bool) -> None:
    bomb = packed(1 + said.count(","))
    head = {"Content-Encoding": said}
    with serving(lambda _: Answer(bomb, headers=head)) as other:
        url = f"{other.url}/data/upload/1/a.png"
        tracemalloc.start()
        text = refusal(url, other if own else None, ("127.0.0.1",))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert "packed" in text and "Content-Encoding" in text
    assert peak < 8 * 1024 * 1024
    assert other.seen[0].headers["accept-encoding"] == "identity"


HEAD = b"HTTP/1.1 200 OK\r\nX-Slow: "


@pytest.mark.parametrize("own", [False, True], ids=["a stranger", "label studio"])
@pytest.mark.parametrize("first", [b"", HEAD, HEAD + b"no\r\n\r\n"], ids=["status", "head", "body"])
def test_a_slow_answer_ends_the_fetch_wherever_it_is_slow(first: bytes, own: bool) -> None:
    with dripping((HEAD + b"x" * 100)[-60:] if first else HEAD + b"x" * 50, first=first) as other:
        began = time.monotonic()
        url = f"{other.url}/data/upload/1/a.png"
        text = refusal(url, other if own else None, ("127.0.0.1",))
        assert "took over 1 s" in text
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("own", [False, True], ids=["a stranger", "label studio"])
def test_slow_redirects_are_late_together(own: bool) -> None:
    def slow(_: Seen) -> Answer:
        time.sleep(0.4)
        return redirect("/data/upload/1/a.png")

    with serving(slow) as other:
        began = time.monotonic()
        url = f"{other.url}/data/upload/1/a.png"
        assert "took over 1 s" in refusal(url, other if own else None, ("127.0.0.1",))
        assert time.monotonic() - began < 2


# Where the token goes


@pytest.mark.parametrize(
    "url",
    [
        "{}/other-app/collect.png", "{}/label-studio/../other/x.png", "/../other/x.png",
        "/api/projects/1/export", "/data/upload/../../api/projects/1/export",
        "/data/upload/%2e%2e/%2e%2e/api/projects/1/export", "/data/upload/%252e%252e/x",
        "/data/upload/..%2f..%2fapi/x", "/data/upload/1\\..\\..\\api", "/data//upload/x",
        "/tasks/1/resolve/../../../api", "/data/upload/..;/..;/api/x", "/tasks/1/", "/user/account",
        "{}/data/upload/1/a.png", "{}/label-studio-2/data/upload/1/a.png",
    ],
)  # fmt: skip
def test_the_token_goes_to_label_studios_pictures_only(url: str) -> None:
    """Allowed hosts are asked, but not in Label Studio's name."""
    with serving(lambda _: Answer(png())) as host:
        url = url.format(host.url)
        with LabelStudioClient(f"{host.url}/label-studio", KEY) as site:
            with pytest.raises(TaskError, match="is not kept by Label Studio"):
                load_image(task(url), "image", site)
            assert host.seen == []
            load_image(task(url), "image", site, ("127.0.0.1",))
    assert [seen.headers.get("authorization") for seen in host.seen] == [None]


@pytest.mark.parametrize(
    "path",
    [
        "/data/upload/1/a..b%20c;d%25.png", "/label-studio/data/upload/1/a.png",
        "/data/local-files/?d=a/../b.png", "/storage-data/uploaded/?filepath=upload/1/a.png",
        "/tasks/1/presign/?fileuri=eA==", "/projects/1/resolve/?fileuri=eA==",
    ],
)  # fmt: skip
def test_all_of_label_studios_routes_for_pictures_get_it(path: str) -> None:
    with serving(lambda _: Answer(png())) as host:
        with LabelStudioClient(f"{host.url}/label-studio", KEY) as site:
            load_image(task(path), "image", site)
        assert host.seen[0].headers["authorization"] == f"Token {KEY}"
        assert host.seen[0].path.startswith("/label-studio/")


# Decoding


def decoded(image: Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    return decode_picture(encoded(image, kind, **options))


def test_exif_orientation_is_applied() -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to show
    shown = decode_picture(encoded(Image.fromarray(pixels), "PNG", exif=exif))
    assert shown.shape == (6, 4, 3)
    assert shown[0, 3].tolist() == [255, 255, 255]


def test_transparent_pixels_are_white() -> None:
    pixels = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    assert decoded(Image.fromarray(pixels)).tolist() == [
        [[255, 0, 0], [255, 255, 255], [127, 127, 127]]
    ]
    grey = Image.fromarray(np.array([[[9, 255], [9, 0]]], dtype=np.uint8), "LA")
    assert decoded(grey).tolist() == [[[9, 9, 9], [255, 255, 255]]]
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([1, 2, 3, 4, 5, 6])
    assert decoded(palette, transparency=1).tolist() == [[[1, 2, 3], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(Image.new("1", (1, 1), 1), [255, 255, 255], id="1 bit"),
        pytest.param(Image.new("L", (1, 1), 7), [7, 7, 7], id="grey"),
        pytest.param(Image.new("I;16", (1, 1), 257 * 100), [100, 100, 100], id="16 bit grey"),
    ],
)
def test_other_depths(image: Image.Image, expected: list[int]) -> None:
    assert decoded(image).tolist() == [[expected]]


def test_cmyk_and_animated_pictures() -> None:
    assert decoded(Image.new("CMYK", (8, 8), 0), "JPEG").tolist() == [[[255] * 3] * 8] * 8
    frames = [Image.new("L", (2, 2), value) for value in (10, 200)]
    animated = decoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert animated.tolist() == [[[10] * 3] * 2] * 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "is none of JPEG", id="empty"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is none of JPEG", id="svg"),
        pytest.param(png()[:50], "broken or cut short", id="cut png"),
        pytest.param(
            encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-400], "broken or", id="cut jpeg"
        ),
        pytest.param(encoded(Image.new("1", (101, 100))), "101 x 100, over 0.01", id="large"),
        pytest.param(encoded(Image.new("1", (20_000, 10_000))), "too large", id="bomb"),
    ],
)
def test_broken_and_large_files(data: bytes, said: str) -> None:
    with pytest.raises(PictureError, match=said):
        decode_picture(data, max_pixels=10_000)


def test_a_broken_upload_names_the_task_and_the_file() -> None:
    with serving(lambda seen: Answer(png()[:50])) as site:
        text = refusal("/data/upload/1/cut.png", site)
    assert text == (
        "Task 42: the picture /data/upload/1/cut.png is broken or cut short; use an intact copy."
    )
