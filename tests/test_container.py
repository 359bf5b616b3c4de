"""Containerfile and examples/compose.yaml, as far as they go without a container engine: what they name is there, what they
run does what they say.
"""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from serving import free_port, running

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "examples" / "compose.yaml"


def instructions() -> dict[str, list[str]]:
    """What Containerfile says, by instruction."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        if name:
            found.setdefault(name, []).append(" ".join(rest.split()))
    return found


def service() -> dict[str, Any]:
    """The one service of compose.yaml."""
    (found,) = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"].values()
    assert isinstance(found, dict)
    return found


def commands() -> list[list[str]]:
    """What the comments of compose.yaml have a container run."""
    text = COMPOSE.read_text(encoding="utf-8")
    found = re.findall(r"docker compose (?:run --rm mirror|exec -T mirror snapmirror) ([^#;\n]*)", text)
    return [shlex.split(arguments) for arguments in found]


def run(folder: Path, command: list[str]) -> list[str]:
    """A command as it runs in the container, whose /data is a folder here."""
    program = [sys.executable, "-m", "snapmirror"] if command[0] == "snapmirror" else [sys.executable]
    settings = [each.replace("/data", str(folder)) for each in instructions()["ENV"][0].split() if "SNAPMIRROR" in each]
    return ["sh", "-c", 'cd "$0" && exec env "$@"', str(folder), *settings, *program, *command[1:]]


def test_they_agree() -> None:
    image, compose = instructions(), service()
    assert (compose["restart"], list(compose["environment"])) == ("always", ["TZ"])
    assert compose["user"] == image["USER"][-1]
    assert not compose["user"].startswith("0")
    (port,) = image["EXPOSE"]
    assert compose["ports"] == [f"{port}:{port}"] == ["8082:8082"]
    assert compose["volumes"] == ["./data:/data"]
    assert image["VOLUME"] == ["/data"] == image["WORKDIR"][-1:]
    assert (COMPOSE.parent / compose["build"]["context"] / compose["build"]["dockerfile"]).resolve() == ROOT / "Containerfile"


def test_what_is_copied_is_enough(tmp_path: Path) -> None:
    """For building the package, and for running it."""
    sources = [word for copy in instructions()["COPY"] if not copy.startswith("--from") for word in copy.split()[:-1]]
    ignored, *sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert (ignored, sorted(sent)) == ("*", sorted(f"!{source.removeprefix('./')}" for source in sources))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"pyproject.toml", project["readme"], *project["license-files"]} < set(sources)
    for source in sources:
        (tmp_path / source).symlink_to(ROOT / source)
    done = subprocess.run([sys.executable, "-m", "snapmirror", "--version"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.startswith(b"snapmirror ")


def test_what_they_run(tmp_path: Path) -> None:
    """From an empty folder to a server that is healthy until it ends; its port is another one here."""
    first, *others = commands()
    assert len(others) == 2
    subprocess.run(run(tmp_path, ["snapmirror", *first]), check=True, capture_output=True)
    image, port = instructions(), free_port()
    entry, arguments = json.loads(image["ENTRYPOINT"][0]), json.loads(image["CMD"][0].replace("8082", str(port)))
    check = json.loads(image["HEALTHCHECK"][0].partition("CMD ")[2].replace("8082", str(port)))
    with running(run(tmp_path, [*entry, *arguments]), port):
        subprocess.run(run(tmp_path, check), check=True)
        for command in others:
            subprocess.run(run(tmp_path, ["snapmirror", *command, "--help"]), check=True, capture_output=True)
    assert subprocess.run(run(tmp_path, check), capture_output=True).returncode
