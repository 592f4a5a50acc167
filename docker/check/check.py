"""Build the images and run compose.yaml, where no Docker is: with Podman, all from Debian and PyPI.

    make docker-check        as root

Base images are made by debootstrap, since this needs no registry of images: what stands in for
which one is in the files beside this one. The Dockerfile and compose.yaml are the real ones, read
by Podman's builder and by docker compose. What runs does so in a network namespace of its own,
without a way out: an image that still wanted to fetch something would fail here.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from dgan_backend.labelstudio.client import LabelStudioClient

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OURS = "localhost/dgan-check"  # images
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
INSIDE_CERTIFICATES = "/etc/dgan-check.crt"  # beside those that Debian's package writes there
INSIDE = "DGAN_CHECK_INSIDE"  # set in the namespaces
HEALTHY_SECONDS = 300.0
GRACE_SECONDS = 15.0  # stop_grace_period of compose.yaml
ENDED = (0, 143)  # uvicorn, all done, raises the signal that it was given once more
UNIFIED = "/sys/fs/cgroup/unified"
LABELS = """<View><Image name="image" value="$image"/>
<BrushLabels name="tag" toName="image"><Label value="eye"/><Label value="mouth"/></BrushLabels>
</View>"""


def main() -> int:
    if os.geteuid() != 0:
        print("make docker-check needs root: it makes roots of Debian and namespaces.")
        return 2
    if INSIDE not in os.environ:
        environment = dict(os.environ)
        alone = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        for step, spaces in (("build", []), ("run", alone)):
            command = ["unshare", "--mount", *spaces, sys.executable, __file__]
            subprocess.run(command, env={**environment, INSIDE: step}, check=True)
        return 0
    # crun runs under one kind of control groups, not under two of which one is empty.
    if Path(UNIFIED).is_dir() and os.path.ismount(UNIFIED):
        run("umount", UNIFIED)
    with tempfile.TemporaryDirectory(prefix="dgan-check-") as folder:
        os.environ["CONTAINERS_CONF"] = str(engine_settings(Path(folder)))
        (build_all if os.environ[INSIDE] == "build" else run_all)(Path(folder))
    return 0


def run(*words: str, **options: object) -> str:
    """Standard output; on failure all that was said is shown."""
    done = subprocess.run(words, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        raise SystemExit(f"Failed: {' '.join(words)[:300]}")
    return str(done.stdout)


def engine_settings(folder: Path) -> Path:
    """Podman's defaults need systemd and the right to raise limits."""
    limits = [
        '"{0}={1}:{1}"'.format(name, min(wanted, resource.getrlimit(kind)[1]))
        for name, kind, wanted in (
            ("nofile", resource.RLIMIT_NOFILE, 16384),
            ("nproc", resource.RLIMIT_NPROC, 4096),
        )
    ]
    path = folder / "containers.conf"
    path.write_text(
        f"[containers]\ndefault_ulimits = [{', '.join(limits)}]\n"
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    return path


# --- images ---


def build_all(folder: Path) -> None:
    if not has("debian"):
        with phase("Debian's root"):
            make_debian(folder / "root")
    pip = hand_in_pip(folder)
    for name in ("python", "redis", "label-studio"):
        if not has(name):
            with phase(f"what stands in for {name}"):
                build(name, HERE / f"{name}.Dockerfile", pip)
    with phase("docker/Dockerfile"):
        arguments = [f"--build-arg=BASE={OURS}/python"]
        if "TORCH_INDEX" in os.environ:
            arguments += [f"--build-arg=TORCH_INDEX={os.environ['TORCH_INDEX']}"]
        build("backend", ROOT / "docker" / "Dockerfile", [*pip, *arguments])
    check_image()


def has(name: str) -> bool:
    return subprocess.run(["podman", "image", "exists", f"{OURS}/{name}"]).returncode == 0


def make_debian(root: Path) -> None:
    run("debootstrap", "--variant=minbase", "bookworm", str(root), MIRROR)
    tar = subprocess.Popen(
        ["tar", "-C", root, "--exclude=./var/cache/apt/archives", "-c", "."], stdout=subprocess.PIPE
    )
    run("podman", "import", "-", f"{OURS}/debian", stdin=tar.stdout)
    if tar.wait():
        raise SystemExit("tar of Debian's root failed.")


def hand_in_pip(folder: Path) -> list[str]:
    """Options by which a build sees this machine's pip settings, and the folders they name."""
    told = run(sys.executable, "-m", "pip", "config", "list")
    found = dict(re.findall(r"^(?:global\.|:env:\.)([a-z-]+)='(.*)'$", told, re.MULTILINE))
    names = ("index-url", "extra-index-url", "find-links", "constraint")
    kept = {name: found[name] for name in names if name in found}
    settings = folder / "pip.conf"
    lines = [f"{name} = {value}" for name, value in kept.items()]
    settings.write_text("\n".join(["[global]", f"cert = {INSIDE_CERTIFICATES}", *lines, ""]))
    paths = {word.removeprefix("file://") for value in kept.values() for word in value.split()}
    local = {str(Path(path)) for path in paths if path.startswith("/") and Path(path).exists()}
    # An index of files names its files by ../files.
    local |= {str(Path(path).parent) for path in local if Path(path).name == "simple"}
    places = {CERTIFICATES: INSIDE_CERTIFICATES, str(settings): "/etc/pip.conf"}
    places.update((path, path) for path in sorted(local))
    return [f"--volume={here}:{inside}:ro" for here, inside in places.items()]


def build(name: str, file: Path, options: list[str]) -> None:
    ignored = file.with_name(f"{file.name}.dockerignore")
    ignore = [f"--ignorefile={ignored}"] if ignored.exists() else []
    words = ["podman", "build", "--network=host", "--format=docker", "--layers", *ignore, *options]
    run(*words, "--file", str(file), "--tag", f"{OURS}/{name}", str(ROOT))


def check_image() -> None:
    """What the image says of itself, and that what is in it is what constraints.txt pins."""
    (image,) = json.loads(run("podman", "inspect", f"{OURS}/backend"))
    config = image["Config"]
    verify("user 1001", config["User"] == "1001:1001")
    verify("volume /data", list(config["Volumes"]) == ["/data"])
    verify("port 9090", list(config["ExposedPorts"]) == ["9090/tcp"])
    (check,) = (image[key] for key in ("HealthCheck", "Healthcheck") if key in image)
    verify("a health check", check["Test"][0] == "CMD")
    frozen = shell("pip check >&2 && pip freeze --exclude-editable").splitlines()
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    known = {canonical(line) for line in pinned if "==" in line}
    foreign = {canonical(line) for line in frozen if "==" in line} - known
    verify(f"{len(frozen)} packages, as pinned; others: {sorted(foreign)}", not foreign)
    there = shell("ls -A /src /root /tmp; find /usr /src -name '*.pyc' -newer /src", "--user=0")
    left = {"secrets", "build", ".cache", "__pycache__"} & set(re.split(r"[\n/]", there))
    verify(f"neither caches nor secrets left behind: {sorted(left)}", not left)


def shell(script: str, *options: str) -> str:
    """In a container of the image."""
    options = ("--rm", "--network=none", "--read-only", *options)
    return run("podman", "run", *options, f"{OURS}/backend", "sh", "-c", script)


def canonical(requirement: str) -> str:
    name, version = requirement.split("==", 1)
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version.split('+')[0]}"


# --- compose.yaml ---


def run_all(folder: Path) -> None:
    run("ip", "link", "set", "lo", "up")
    networks = Path("/run/containers/networks")  # whose name server belongs to one namespace
    networks.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", str(networks))
    alone(folder)
    with engine(folder) as compose:
        together(compose)


@contextmanager
def engine(folder: Path) -> Iterator[Callable[..., str]]:
    """Podman answering Docker's API, and `docker compose` upon it, with docker/ as the readme
    fills it. Podman leaves health checks to systemd: here they are run by hand."""
    place = folder / "docker"
    shutil.copytree(ROOT / "docker", place)
    keys = fill(place)
    socket = folder / "podman.sock"
    service = subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{socket}"], stderr=subprocess.DEVNULL
    )
    wait("Podman's API", socket.exists, 30)
    environment = {**os.environ, **keys, "DOCKER_HOST": f"unix://{socket}"}
    program = Path(sys.executable).parent / "docker-compose"
    files = ["-f", "compose.yaml", "-f", "check/compose.yaml"]

    def compose(*words: str) -> str:
        command = [str(program), "-p", "dgan-check", *files, *words]
        return run(*command, cwd=place, env=environment)

    checks = subprocess.Popen(
        ["sh", "-c", "while sleep 3; do podman ps -q | xargs -rn1 podman healthcheck run; done"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield compose
    finally:
        compose("down", "--volumes", "--timeout", "1")
        for process in (checks, service):
            process.terminate()
            process.wait()


def fill(place: Path) -> dict[str, str]:
    """The secrets as docker/README.md makes them."""
    lines = re.search(
        r"cd docker\n(.*?)    docker compose up", (place / "README.md").read_text(), re.S
    )
    assert lines is not None, "docker/README.md tells how secrets are made"
    run("sh", "-euc", lines[1], cwd=place)
    told = (place / ".env").read_text().split()
    return dict(line.split("=", 1) for line in told)


def alone(folder: Path) -> None:
    """`docker run` of docker/README.md: with its own Redis and worker, the root read-only."""
    with phase("the image alone"):
        options = [
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--volume",
            "dgan-check-alone:/data",
            "--network=none",
        ]
        options += ["--cap-drop=all", "--security-opt=no-new-privileges"]
        run("podman", "run", "--detach", "--name", "dgan-check-alone", *options, f"{OURS}/backend")
        try:
            wait("healthy", lambda: healthy("dgan-check-alone"), HEALTHY_SECONDS)
            log = run("podman", "logs", "dgan-check-alone")
            verify("Listening", "Listening on" in log)
            began = time.monotonic()
            run("podman", "stop", "--time", "30", "dgan-check-alone")
            seconds = time.monotonic() - began
            (state,) = json.loads(run("podman", "inspect", "dgan-check-alone"))
            verify(
                f"stopped in {seconds:.1f} s with {state['State']['ExitCode']}",
                state["State"]["ExitCode"] == 0,
            )
        finally:
            run("podman", "rm", "--force", "--time", "0", "--volumes", "dgan-check-alone")
            run("podman", "volume", "rm", "--force", "dgan-check-alone")


def healthy(name: str) -> bool:
    return (
        subprocess.run(["podman", "healthcheck", "run", name], capture_output=True).returncode == 0
    )


def together(compose: Callable[..., str]) -> None:
    with phase("compose.yaml"):
        compose("up", "--detach", "--no-build", "--quiet-pull")
        states = {
            line["Service"]: line
            for line in map(json.loads, compose("ps", "--format", "json").splitlines())
        }
        verify("all four run", set(states) == {"redis", "backend", "worker", "label-studio"})
        wait("the worker is healthy", lambda: healthy("dgan-check-worker-1"), HEALTHY_SECONDS)
    with phase("rights"):
        for name in ("redis", "backend", "worker"):
            rights(name)
    with phase("Label Studio with the backend"):
        connect()
    with phase("figures and logs"):
        figures()
        logs(compose)
    with phase("stopping"):
        for name in ("worker", "backend"):
            began = time.monotonic()
            compose("stop", name)
            seconds = time.monotonic() - began
            (state,) = json.loads(run("podman", "inspect", f"dgan-check-{name}-1"))
            code = state["State"]["ExitCode"]
            verify(
                f"{name} stopped in {seconds:.1f} s with {code}",
                code in ENDED and seconds < GRACE_SECONDS,
            )


def inside(name: str, script: str) -> str:
    return run("podman", "exec", f"dgan-check-{name}-1", "sh", "-c", script)


def rights(name: str) -> None:
    status = inside(name, "cat /proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    verify(f"{name}: user {fields['Uid'].split()[0]}", fields["Uid"].split()[0] in {"999", "1001"})
    verify(
        f"{name}: no capabilities",
        not any(int(fields[f"Cap{s}"], 16) for s in ("Eff", "Prm", "Bnd")),
    )
    verify(f"{name}: no new privileges", fields["NoNewPrivs"] == "1")
    told = inside(
        name,
        "touch /x /usr/x 2>&1; touch /tmp/x /data/x && rm /tmp/x /data/x && echo writes",
    )
    verify(
        f"{name}: writes to /tmp and /data only", told.count("Read-only") == 2 and "writes" in told
    )
    secrets = inside(name, "cat /run/secrets/*").split()
    open_to_all = inside(
        name, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; cat /proc/1/environ | tr '\\0' ' '"
    )
    verify(
        f"{name}: none of {len(secrets)} secrets in command lines or its environment",
        secrets and not any(secret in open_to_all for secret in secrets),
    )


def address(name: str) -> str:
    (state,) = json.loads(run("podman", "inspect", f"dgan-check-{name}-1"))
    (network,) = state["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def connect() -> None:
    """A project, connected as the readme says; its first task is labeled by the backend."""
    key = inside("backend", "cat /run/secrets/label-studio-api-key").strip()
    url = f"http://{address('label-studio')}:8080"
    wait("Label Studio", lambda: answers(url + "/health"), HEALTHY_SECONDS)
    with LabelStudioClient(url, key, timeout=120) as studio:
        project = studio.create_project("check", LABELS)["id"]
        headers = {"Authorization": f"Token {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=120) as http:
            model = {"url": "http://backend.dgan.local:9090", "project": project, "title": "dgan"}
            answer = http.post("/api/ml/", json=model)
            verify(f"connected: {answer.status_code}", answer.status_code == 201)
            hooks = http.get("/api/webhooks/", params={"project": project}).json()
            verify("a webhook to the backend", any("backend.dgan.local" in h["url"] for h in hooks))
    told = inside("backend", f"dgan-backend doctor --project {project} --fix 2>&1 || true")
    print("\n".join(f"     {line}" for line in told.strip().splitlines()))


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def figures() -> None:
    text = httpx.get(f"http://{address('backend')}:9090/metrics", timeout=30).text
    samples = {
        s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples
    }
    verify(
        "metrics: Redis is up, one worker", samples["dgan_redis_up"] == samples["dgan_workers"] == 1
    )


def logs(compose: Callable[..., str]) -> None:
    for name in ("backend", "worker"):
        lines = compose("logs", "--no-log-prefix", name).splitlines()
        odd = [line for line in lines if line.strip() and not line.startswith("{")]
        verify(f"{name}: {len(lines)} lines of logs, JSON but {odd}", not odd)
        for line in lines:
            if line.startswith("{"):
                json.loads(line)


# --- telling ---


@contextmanager
def phase(name: str) -> Iterator[None]:
    print(f"== {name}", flush=True)
    began = time.monotonic()
    yield
    print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)


def wait(what: str, ready: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"Failed: {what}, after {seconds:.0f} s")
        time.sleep(1)
    print(f"  ok {what}", flush=True)


def verify(what: str, true: bool) -> None:
    if not true:
        raise SystemExit(f"Failed: {what}")
    print(f"  ok {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
