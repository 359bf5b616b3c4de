"""What is written for people is true: manual pages, README, examples, the configuration that `init` writes.

README's tour is run as it stands there; `test_docs.py` runs README's other commands and the pages of docs/.
"""

import configparser
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import documents
import msgspec
import pytest
import typer.main
from documents import Block, session
from packaging.version import Version
from pypi_index import Index
from serving import free_port, server

import snapmirror
from snapmirror import errors
from snapmirror.cli import command_line, config
from snapmirror.conda import CondaRepo
from snapmirror.conda.settings import Channel, Select
from snapmirror.ecosystem import Repo
from snapmirror.ecosystem.clients import Mirror, Mirrored
from snapmirror.files import FilesRepo
from snapmirror.pypi import Pypi, PypiRepo
from snapmirror.pypi import settings as pypi
from snapmirror.serve import settings as serving
from snapmirror.store.directories import Directory
from snapmirror.store.layout import Layout
from snapmirror.store.live import Blocked, Live, Lost
from snapmirror.transfer import settings as transfer

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "man").iterdir())
TABLES = ("s3", "download", "retention", "publish", "sign", "serve")
#: options that every command has
COMMON = {"--config": "FILE", "--help": ""}


def program(name: str) -> str:
    """The path of a program; the test skips, naming it, where it is not installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*arguments: str | Path, folder: Path, status: int | None = 0) -> str:
    """Run snapmirror in a folder; its standard output. status: None for any"""
    command = [sys.executable, "-m", "snapmirror", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "SNAPMIRROR_CONFIG"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert status in (None, done.returncode), f"{arguments}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


# The command line


def commands() -> dict[str, dict[str, str]]:
    """Every command with its options, each with the name of its value, as `--help` prints them."""
    found = {}
    group: Any = typer.main.get_command(command_line())
    for name, command in group.commands.items():
        with command.make_context(name, ["x"] * 3, resilient_parsing=True) as context:
            help_ = command.get_help(context)
        options = re.findall(
            r"^ +(?:-\w, )?(--[a-z-]+)(?: ([A-Z]+))?(?=  |\n|$)", help_.partition("Options:\n")[2], re.MULTILINE
        )
        found[name] = dict(options)
    return found


class Manual(NamedTuple):
    """A manual page: the lines of each section, and of each subsection."""

    sections: dict[str, list[str]]
    subsections: dict[str, list[str]]


def manual(name: str) -> Manual:
    """Read a manual page."""
    page = Manual({}, {})
    section: list[str] = []
    subsection: list[str] = []
    for line in (ROOT / "man" / name).read_text(encoding="utf-8").splitlines():
        if line.startswith(".Sh "):
            section = page.sections.setdefault(line[4:], [])
            subsection = []
        elif line.startswith(".Ss "):
            subsection = page.subsections.setdefault(line[4:], [])
        section.append(line)
        subsection.append(line)
    return page


def stated_options(lines: list[str]) -> dict[str, str]:
    """The options that have an entry of their own in these lines, each with the name of its value."""
    entries = (re.fullmatch(r"\.It (?:Fl \w , )?Fl (-[a-z-]+)(?: Ar ([A-Z]+))?", line) for line in lines)
    return {f"-{entry[1]}": entry[2] or "" for entry in entries if entry}


def test_every_option_has_its_place_in_the_manual_and_no_other_has() -> None:
    page = manual("snapmirror.1")
    known = commands()
    headings = {name for name in page.subsections if f".Ss {name}" in page.sections["COMMANDS"]}
    assert headings == set(known)
    for name, options in known.items():
        common = {"--help": ""} if name in ("init", "key", "token", "verify") else COMMON
        assert {**stated_options(page.subsections[name]), **common} == options, name
    assert stated_options(page.subsections["Common options"]) == {
        **COMMON,
        **dict.fromkeys(("--version", "--install-completion", "--show-completion"), ""),
    }


def test_synopsis() -> None:
    lines = manual("snapmirror.1").sections["SYNOPSIS"]
    text = "\n".join(lines).split(".Nm snapmirror\n")[2:]
    stated = {}
    for part in text:
        verb = re.match(r"\.Cm (\w+)", part)
        assert verb
        stated[verb[1]] = {
            f"-{name}": value for name, value in re.findall(r"^\.(?:Op )?Fl (-[a-z-]+)(?: Ar (\w+))?$", part, re.MULTILINE)
        }
    own = {
        name: {option: value for option, value in options.items() if option not in COMMON}
        for name, options in commands().items()
    }
    assert stated == own


def test_exit_statuses() -> None:
    def below(error: type[errors.SnapmirrorError]) -> Iterator[type[errors.SnapmirrorError]]:
        yield error
        for child in error.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from below(child)

    classes = {error.__name__: error.exit_status for error in below(errors.SnapmirrorError)}
    drawn = re.findall(r"^[ │├└─]+(\w+) +(\d)\b", errors.__doc__ or "", re.MULTILINE)
    assert {name: int(status) for name, status in drawn} == classes
    raised = {0, 3, *classes.values()}  # 3 is what a sync makes of its report
    entries = (re.fullmatch(r"\.It (\d+)", line) for line in manual("snapmirror.1").sections["EXIT STATUS"])
    assert {int(entry[1]) for entry in entries if entry} == {*raised, 130}
    assert {int(status) for status in re.findall(r"^\| (\d) \|", readme(), re.MULTILINE)} == raised


def keys(value: object) -> set[str]:
    """Every key of a JSON value; the keys of maps by name are none."""
    if isinstance(value, list):
        return {key for item in value for key in keys(item)}
    if not isinstance(value, dict):
        return set()
    found = set(value)
    for key, item in value.items():
        if key in ("repos", "directories") and isinstance(item, dict):
            found |= keys(list(item.values()))
        elif key not in ("withheld", "newly_withheld"):
            found |= keys(item)
    return found


def test_json_keys(tmp_path: Path) -> None:
    make_mirror(tmp_path)
    with (tmp_path / "snapmirror.toml").open("a") as config_:
        upstream = (tmp_path / "upstream").as_uri()
        config_.write(f'[[repo]]\nkind = "conda"\npath = "demand"\nupstream = "{upstream}"\ndownload = "on-demand"\n')
    run("sync", folder=tmp_path)
    first = run("snapshots", folder=tmp_path).split()[0]
    page = manual("snapmirror.1")
    stated = {
        name.removeprefix("JSON of "): {word for line in lines for word in re.findall(r"\bVa (\w+)", line)}
        for name, lines in page.subsections.items()
        if name.startswith("JSON of ")
    }
    stated["snapshots"] = (stated["snapshots"] | stated["show"]) - {"withheld", "forgotten"}
    assert set(stated) == {name for name, options in commands().items() if "--json" in options}
    arguments = {
        "show": ["current"],
        "diff": ["current", "current", "--for", "lock.txt"],
        "log": ["hello-snapmirror"],
        "which": ["lock.txt"],
        "bisect": [
            "--good",
            first,
            "--bad",
            "current",
            "--",
            "sh",
            "-c",
            f'case "$SNAPMIRROR_URL" in */{first}) ;; *) exit 1; esac',
        ],
        "forget": ["--retention"],
        "adopt": ["upstream", "--repo", "greetings"],
        "prefetch": ["demand", "--spec", "hello-snapmirror"],
        "export": ["--to", "all.tar"],
        "import": ["all.tar"],
        "replicate": ["store", "--config", "replica.toml"],
        "migrate": ["store", "moved"],
    }
    statuses = {"doctor": None, "which": 1}  # the former is that of this machine
    (tmp_path / "replica.toml").write_text('store = "replica"\n', encoding="utf-8")
    lacking = "https://x.example/greetings/noarch/no-such-1.0-0.conda"
    (tmp_path / "lock.txt").write_text(f"@EXPLICIT\n{lacking}\n", encoding="utf-8")
    run("deny", "greetings", "greeting-data", "--reason", "a test", folder=tmp_path)
    live = Live(Layout(tmp_path / "store"))
    live.note_lost(bytes(32), Lost(name="a-1.0-0.conda", since="20260101T000000Z", problem="is gone"))
    live.note_blocked(Blocked(host="localhost", until="99990101T000000Z", problem="fails"))
    printed = {
        name: json.loads(run(name, "--json", *arguments.get(name, []), folder=tmp_path, status=statuses.get(name, 0)))
        for name in stated
        if name != "verify"
    }
    run("key", "generate", "a.key", folder=tmp_path)
    with server(tmp_path / "snapmirror.toml") as (url, _):  # the snapshot is not signed
        printed["verify"] = json.loads(run("verify", url, "--key", "a.key.pub", "--json", folder=tmp_path, status=5))
    damage(tmp_path)
    printed["check"] = json.loads(run("check", "--json", folder=tmp_path, status=5))
    assert {name: keys(value) for name, value in printed.items()} == stated


def make_mirror(folder: Path) -> None:
    """A mirror of the example channel, synced once."""
    state(folder, "first")
    text = f'store = "store"\n[[repo]]\nkind = "conda"\npath = "greetings"\nupstream = "{(folder / "upstream").as_uri()}"\n'
    (folder / "snapmirror.toml").write_text(text, encoding="utf-8")
    run("sync", folder=folder)


def state(folder: Path, name: str) -> None:
    """The example channel as the upstream in a folder."""
    command = [sys.executable, ROOT / "examples" / "make_channel.py", "state", name, folder / "upstream"]
    subprocess.run(command, check=True)


def damage(folder: Path) -> None:
    """Take a blob away."""
    next((folder / "store" / "blobs").glob("*/*")).unlink()


# The configuration


class Key(NamedTuple):
    """A key of the configuration as the manual page states it."""

    name: str
    kind: str
    #: as TOML, None if it has none
    default: str | None


def struct_keys(struct: type[msgspec.Struct]) -> list[Key]:
    """The keys of a table as the code has them."""
    hints = typing.get_type_hints(struct)
    found = []
    for item in msgspec.structs.fields(struct):
        default = item.default_factory() if item.default_factory is not msgspec.NODEFAULT else item.default
        kind = kind_of(hints[item.name])
        text = "unset by default" if default is None else "required" if default is msgspec.NODEFAULT else ""
        value = None if text else json.dumps(default)
        found.append(Key(item.encode_name, f"{kind}; {text}." if text else f"{kind}.", value))
    return found


def kind_of(hint: Any) -> str:
    """A type as a person says it."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [kind_of(one) for one in typing.get_args(hint) if one is not type(None)]
        return " or ".join([kinds[0], *(kind.lower() for kind in kinds[1:])])
    if typing.get_origin(hint) is Literal:
        return "String"
    if hint == list[str | Channel]:
        return "List of strings or tables"
    if typing.get_origin(hint) is list:
        return f"List of {kind_of(*typing.get_args(hint)).lower()}s"
    return {int: "Integer", str: "String", bool: "Boolean", dict[str, str]: "Table of strings", transfer.Auth: "Table"}[hint]


def page_keys(lines: list[str]) -> list[Key]:
    """The keys of a table as the manual page has them."""
    found = []
    for line, following in itertools.pairwise(lines):
        if entry := re.fullmatch(r"\.It Va (\w+)(?: No = (?:Li (.+)|Qq ?(.*)))?", line.replace(r"\(dq", '"')):
            default = entry[2] if entry[2] is not None else f'"{entry[3]}"' if entry[3] is not None else None
            found.append(Key(entry[1], following, default))
    return found


def test_every_key_is_in_the_manual_with_its_default() -> None:
    page = manual("snapmirror.toml.5").subsections
    assert page_keys(page.pop(HOST)) == struct_keys(transfer.Host)
    assert page_keys(page.pop("[serve.auth.NAME]")) == struct_keys(serving.Token)
    tables = {field.name: field.type for field in msgspec.structs.fields(config.Config) if field.name in TABLES}
    repos = {"[[repo]]", "[repo.select]", FILES, PYPI, PYPI_SELECT}
    assert set(page) == {"Top level", *(f"[{name}]" for name in tables), *repos}
    top = [key for key in struct_keys_of_config() if key.name not in TABLES]
    assert page_keys(page["Top level"]) == top
    for name, struct in tables.items():
        assert sorted(page_keys(page[f"[{name}]"])) == sorted(struct_keys(without(struct, "hosts", "auth"))), name
    kind = Key("kind", "String; required.", None)
    scalars = without(CondaRepo, "select")
    assert sorted(page_keys(page["[[repo]]"])) == sorted([kind, *struct_keys(scalars)])
    files = without(FilesRepo, *(field.name for field in msgspec.structs.fields(Repo)))
    assert sorted(page_keys(page[FILES])) == sorted(struct_keys(files))
    selecting = {field.name: json.dumps(getattr(Select(), field.name)) for field in msgspec.structs.fields(Select)}
    assert {key.name: key.default for key in page_keys(page["[repo.select]"])} == selecting
    common = {field.name for field in msgspec.structs.fields(Repo)} - {"upstream"}
    assert sorted(page_keys(page[PYPI])) == sorted(struct_keys(without(PypiRepo, *common, "select")))
    assert page_keys(page[PYPI_SELECT]) == struct_keys(pypi.Select)


HOST = "[download.hosts.NAME]"
#: the subsections of the other kinds of repos
FILES = "[[repo]] of kind files"
PYPI = "[[repo]] of kind pypi"
PYPI_SELECT = "[repo.select] of kind pypi"


def struct_keys_of_config() -> list[Key]:
    """The keys of the top level that are no tables."""
    return struct_keys(without(config.Config, *TABLES, "repo"))


def without(struct: type[msgspec.Struct], *names: str) -> type[msgspec.Struct]:
    """A table without the keys that are tables themselves."""
    fields: list[Any] = []
    for one in msgspec.structs.fields(struct):
        if one.name not in names:
            default = msgspec.field(default_factory=one.default_factory)
            made = default if one.default_factory is not msgspec.NODEFAULT else msgspec.field(default=one.default)
            fields.append((one.name, one.type) if one.required else (one.name, one.type, made))
    return msgspec.defstruct("Scalars", fields, kw_only=True)


def literal_blocks(name: str) -> list[str]:
    """The displays of a manual page."""
    text = (ROOT / "man" / name).read_text(encoding="utf-8")
    return re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", text, re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_manual_load(tmp_path: Path) -> None:
    loaded = []
    for example in literal_blocks("snapmirror.toml.5"):
        (tmp_path / "snapmirror.toml").write_text(example, encoding="utf-8")
        loaded.append([repo.path for repo in config.load(tmp_path / "snapmirror.toml").repo])
    assert loaded == [
        ["team", "conda-forge"],
        ["cloud/conda-forge", "bioconda"],
        ["anaconda/archive", "github-release/conda-forge/miniforge"],
        ["pypi", "own", "python"],
    ]


def test_what_init_writes(tmp_path: Path) -> None:
    run("init", tmp_path, folder=tmp_path)
    path = tmp_path / "snapmirror.toml"
    assert config.load(path) == config.Config(store=str(tmp_path / "store"))  # what it says is the default
    assert run("sync", "--dry-run", folder=tmp_path, status=2) == ""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^# (?=\w+ = |\[\[)", "", text, flags=re.MULTILINE), encoding="utf-8")
    loaded = config.load(path)
    assert [(repo.path, repo.download) for repo in loaded.repo] == [("conda-forge", "redirect"), ("pypi", "eager")]
    assert loaded.retention.daily
    assert loaded.download.bytes_per_second


# README


README = ROOT / "README.md"
#: what is read by people, and has blocks of code
SHOWN = [README, *sorted((ROOT / "docs").rglob("*.md"))]


def readme() -> str:
    """The text of README."""
    return README.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """The code blocks of README in these languages."""
    return documents.blocks(README, *languages)


def is_gone(process: subprocess.Popen[str]) -> bool:
    """Whether nothing is left of a session."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_tour(tmp_path: Path) -> None:
    for name in ("bash", "curl", "rsync"):
        program(name)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    tour = documents.Session({}, {}, {port: str(free_port()) for port in ("8080", "8900")})
    for block in blocks():
        if block.language == "console" or block.title:
            tour.add(block)
    tour.run(tmp_path)
    assert (tmp_path / "old.tar.bz2").stat().st_size == 999
    assert json.loads((tmp_path / "copy" / "greetings" / "noarch" / "repodata.json").read_bytes())["removed"]


def test_targets_of_make_are_there() -> None:
    """Those that README and the pages name; `test_docs.py` runs their other commands."""
    every = [line for page in SHOWN for block in documents.blocks(page, "sh") for line in block.text.splitlines()]
    lines = {line for line in every if line.startswith("make ")}
    assert len(lines) > 4
    for line in lines:
        subprocess.run([program("make"), "-n", *shlex.split(line)[1:]], cwd=ROOT, check=True, capture_output=True)


def test_commands_in_documents_have_only_options_that_there_are() -> None:
    known = commands()
    shown = [block.text for page in SHOWN for block in documents.blocks(page, "sh", "console", "ini", "crontab")]
    prose = [re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S) for page in SHOWN]
    named = [" ".join(one.split()) for text in prose for one in re.findall(r"`(snapmirror [a-z][^`]*)`", text)]
    assert len(named) > 20
    texts = shown + named + literal_blocks("snapmirror.1")
    uses = [use for text in texts for use in re.findall(r"snapmirror ([a-z]+)((?: [^\s|&;)]+)*)", text)]
    assert len(uses) > 20
    for verb, rest in uses:
        assert verb in known, verb
        ours = rest.partition(" -- ")[0]  # what follows is another command
        options = {word.partition("=")[0] for word in ours.split() if word.startswith("--")}
        assert options <= set(known[verb]), f"snapmirror {verb}{rest}"


def test_toml_blocks(tmp_path: Path) -> None:
    merged = ["own", "pypi", "python"]

    def repos(page: Path) -> list[str]:
        """The repos of a page, each block of which is read by what reads such a file."""
        found = []
        for block in documents.blocks(page, "toml"):
            content = tomllib.loads(block.text)
            if not content.keys() & {"mirrors", "index"}:  # those are pixi's and uv's
                (tmp_path / "snapmirror.toml").write_text(block.text, encoding="utf-8")
                found += [repo.path for repo in config.load(tmp_path / "snapmirror.toml").repo]
        return found

    assert all(repos(page) for page in SHOWN if "howto" in page.parts)
    assert repos(README) == [
        "greetings",
        "conda-forge",
        "conda-forge",
        "repository/pypi",
        "anaconda/miniconda",
        "pypi",
        "pypi",
        *merged,
    ]


def test_yaml_blocks() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    shown = [yaml.safe_load(block.text) for page in SHOWN for block in documents.blocks(page, "yaml")]
    assert len(shown) > 4
    assert all(isinstance(one, dict) for one in shown)


def test_python_block() -> None:
    (block,) = blocks("python")
    # it ends at once: py-rattler sometimes dies at the interpreter's exit, when its work is done
    script = f"{block.text}\nimport os\nprint(channel.base_url, flush=True)\nos._exit(0)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "http://mirror:8080/2026-11-20/conda-forge/\n"


def test_blocks_of_pip_and_uv() -> None:
    """They are what the mirror gives out, without its comments."""
    mirror, index = Mirror("http://mirror:8080", "2026-11-20"), Directory(kind="pypi", form=1, mode="eager", origin="")
    repos = [Mirrored("own", {"": index}), Mirrored("pypi", {"": msgspec.structs.replace(index, files=2)})]
    for client, language in zip(Pypi.clients, ("ini", "toml"), strict=True):
        lines = [line for line in client.settings(mirror, repos).splitlines() if line and not line.startswith("#")]
        assert "".join(f"{line}\n" for line in lines) in [block.text for block in blocks(language)]


def test_systemd_and_cron_blocks() -> None:
    for block in blocks("ini"):
        parser = configparser.ConfigParser(strict=True)
        parser.read_string(block.text)
        assert parser.sections()
    (block,) = blocks("crontab")
    assert re.fullmatch(r"(?:[\d*]+ ){5}snapmirror .*\n", block.text)


def test_nginx_block(tmp_path: Path) -> None:
    nginx = program("nginx")
    (block,) = blocks("nginx")
    server = block.text.replace("/srv/mirror/store/published", str(tmp_path)).replace(
        "listen 8081", f"listen 127.0.0.1:{free_port()}"
    )
    server = re.sub(r"^server \{", "server { access_log off;", server)
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{server}}}\n", encoding="utf-8")
    command = [nginx, "-t", "-q", "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-g", f"error_log {tmp_path}/log;"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_chinese_readme_has_the_same_code_links_and_tables() -> None:
    chinese = ROOT / "README.zh-CN.md"
    assert documents.blocks(chinese) == documents.blocks(README)
    # headings, rows, numbered promises, links
    parts = (r"^#+ ", r"^\|", r"^\d\. ", r"\]\((?!README|docs/pictures/|#)([^)]*)\)")
    texts = [re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S) for page in (README, chinese)]
    for part in parts:
        found = [re.findall(part, text, re.M) for text in texts]
        assert found[0] == found[1], part
    names = [sorted({" ".join(name.split()) for name in re.findall(r"`([^`]+)`", text)}) for text in texts]
    assert names[0] == names[1]


def test_links_lead_somewhere() -> None:
    for page in (README, ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


# The rest


def test_changelog_has_every_version_that_was_tagged() -> None:
    """With its date; what comes next is there too."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dates = dict(re.findall(r"^## \[([^]]+)\] - (.+)$", text, re.MULTILINE))
    versions = list(map(Version, dates))
    assert versions == sorted(versions, reverse=True)
    assert Version(Version(snapmirror.version()).base_version) <= versions[0]
    git = subprocess.run(["git", "tag", "--list", "v*"], cwd=ROOT, capture_output=True, text=True)
    for tag in git.stdout.split():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", dates[tag[1:]]), tag


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_manual_pages_are_clean(page: Path) -> None:
    done = subprocess.run([program("mandoc"), "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_shipped_channel_is_what_its_maker_says() -> None:
    subprocess.run([sys.executable, ROOT / "examples" / "make_channel.py", "build", "--check"], check=True)


def run_demo(folder: Path, index: str) -> str:
    """What the demo prints. index: the address that pip is configured for."""
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--seconds", "0"]
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_INDEX_URL": index}
    with session(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        output, complaints = process.communicate(timeout=120)
        assert is_gone(process)
    assert (process.returncode, complaints) == (0, "")
    assert list(folder.iterdir()) == []
    return str(output)


def test_the_demo(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    with Index(tmp_path / "index") as index:
        for name, version in (("six", "1.0"), ("six", "1.1"), ("idna", "3.0")):
            index.wheel(name, version)
        output = run_demo(folder, f"{index.url}/simple/")
    assert "they are equal" in output
    for selector in ("current", "before-the-update"):
        assert re.search(rf"http://127\.0\.0\.1:\d+/{selector}/greetings ", output)
    assert re.findall(r"^  (\S+whl) .* uploaded 2026-11-01T", output, re.MULTILINE) == [
        "six-1.1-py3-none-any.whl",
        "idna-3.0-py3-none-any.whl",
    ]
    assert output.count("as its SHA-256 says") == 2
    assert re.search(r"--index-url http://127\.0\.0\.1:\d+/20\d\d-\d\d-\d\d/pypi/simple/ six", output)


def test_the_demo_without_pypi(tmp_path: Path) -> None:
    output = run_demo(tmp_path, f"http://127.0.0.1:{free_port()}/simple/")
    assert "PyPI can't be reached from here" in output
    assert "they are equal" in output
    assert "/pypi/" not in output.partition("Nothing else needs it")[2]


def test_the_demo_ends_when_it_is_told_to(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--seconds", "600"]
    with session(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE) as process:
        assert process.stdout
        for line in process.stdout:
            if "ends by itself" in line:
                process.terminate()
        assert process.wait(30) == 0
        assert is_gone(process)
    assert list(tmp_path.iterdir()) == []
