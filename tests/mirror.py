"""A mirror for tests: a folder with a snapmirror.toml, the real command line run on it, and eyes to read its store.

For example:

    mirror = Mirror(folder)
    mirror.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"])
    mirror.sync()                             # a process of its own; fails the test if its status is not 0
    before = mirror.published()
    ...                                       # break something
    assert "chan/linux-64" in mirror.sync(status=3).err
    assert mirror.published() == before
"""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forks
import msgspec
from channels import Repodata, read_document, read_shards

from snapmirror.conda import Conda
from snapmirror.conda.parts import BY_FILE
from snapmirror.store.catalog import CURRENT, Catalog
from snapmirror.store.directories import DirectoryReader
from snapmirror.store.records import Record
from snapmirror.store.store import Store

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: longer than any run of a test may take on a busy machine
TIMEOUT = 60.0


@dataclass(frozen=True)
class Result:
    """How one run of the command line ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What `--json` printed: that, and nothing else, is on standard output."""
        return json.loads(self.out)

    def line(self, *parts: str) -> str:
        """The first message that holds all these texts; fails the test if there is none."""
        for line in self.err.splitlines():
            if all(part in line for part in parts):
                return line
        raise AssertionError(f"no message holds all of {parts}:\n{self.err}")


def _checked(result: Result) -> Result:
    """No way to end is an excuse for a traceback."""
    assert not any(word in result.err for word in ("Traceback", "Exception ignored")), result.err[-1500:]
    return result


class Mirror:
    """A configuration and its store, both below `root`. The attributes may be changed between two runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store_path = root / "store"
        self.repos: list[dict[str, Any]] = []
        #: top-level keys, and tables
        self.settings: dict[str, Any] = {
            "download": {"retries": 1, "connect_timeout": "5s", "stall": "1B/8s", "min_free": "0%"},
        }
        self.env: dict[str, str] = {}
        root.mkdir(parents=True, exist_ok=True)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.root / "snapmirror.toml"

    def add(self, path: str, upstream: str | list[str], **keys: Any) -> None:
        """One more `[[repo]]`: conda, and eager unless the keys say otherwise."""
        self.repos.append({"kind": "conda", "path": path, "upstream": upstream, "download": "eager"} | keys)

    def write(self) -> None:
        """Write the configuration, as every run does."""
        tables = {key: value for key, value in self.settings.items() if isinstance(value, Mapping)}
        lines = [_assign(key, value) for key, value in self.settings.items() if key not in tables]
        for key, table in tables.items():
            lines += [f"[{key}]", *(_assign(*item) for item in table.items())]
        for repo in self.repos:
            lines += ["[[repo]]", *(_assign(*item) for item in repo.items())]
        self.config.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    # The command line

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `snapmirror` with this configuration; `finish` waits for its end."""
        self.write()
        return self._popen(*arguments, "--config", str(self.config))

    @property
    def _environment(self) -> dict[str, str]:
        """Nothing of whoever runs the tests: no proxy, no netrc, no configuration of theirs."""
        inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        return inherited | {"HOME": str(self.root), "NETRC": str(self.root / "netrc"), "SNAPMIRROR_DEBUG": "1"} | self.env

    def _popen(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-W", "error", "-m", "snapmirror", *arguments]
        none, pipe = subprocess.DEVNULL, subprocess.PIPE
        return subprocess.Popen(command, env=self._environment, cwd=self.root, stdin=none, stdout=pipe, stderr=pipe, text=True)

    @staticmethod
    def finish(process: "subprocess.Popen[str]", timeout: float = TIMEOUT) -> Result:
        """Wait for a process."""
        with process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return _checked(Result(process.returncode, out, err))

    def run(self, *arguments: str, status: int | None = 0, timeout: float = TIMEOUT) -> Result:
        """Run `snapmirror` to its end with this configuration; fails the test if its exit status is another.

        status: None for any
        """
        self.write()
        result = self.run_bare(*arguments, "--config", str(self.config), timeout=timeout)
        assert status in (None, result.status), f"exit status {result.status}, not {status}\n{result.out}\n{result.err}"
        return result

    def run_bare(self, *arguments: str, timeout: float = TIMEOUT, environment: Mapping[str, str] | None = None) -> Result:
        """Run `snapmirror` with nothing but these arguments, whatever its exit status."""
        return _checked(Result(*forks.run(arguments, environment or self._environment, self.root, timeout)))

    def sync(self, *arguments: str, status: int | None = 0, timeout: float = TIMEOUT) -> Result:
        """Run `snapmirror sync`."""
        return self.run("sync", *arguments, status=status, timeout=timeout)

    # What the store holds

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The store, opened for reading."""
        with Store.open(self.store_path, write=False) as store:
            yield store

    def catalog(self) -> Catalog:
        """All snapshots."""
        with self.store() as store:
            return store.catalog()

    def snapshots(self) -> list[str]:
        """Ids of the snapshots, oldest first; none if there is no store yet."""
        return [record.id for record in self.catalog().records] if self.store_path.exists() else []

    def record(self, selector: str = CURRENT, repo: str | None = None) -> Record:
        """The snapshot that a selector means."""
        with self.store() as store:
            return store.catalog().resolve(selector, repo, store.now())

    def directories(self, selector: str = CURRENT) -> dict[str, str]:
        """{`chan/noarch`: digest of the directory} of a snapshot: equal ones answer every URL alike."""
        return {
            f"{path}/{name}": state.digest
            for path, repo in self.record(selector).repos.items()
            for name, state in repo.directories.items()
        }

    def reader(self, directory: str, selector: str = CURRENT) -> DirectoryReader:
        """A directory (`chan/noarch`) of a snapshot."""
        path, _, name = directory.rpartition("/")
        state = self.record(selector, path).repos[path].directories[name]
        with self.store() as store:
            return store.metadata.directory(state.blob)

    def withheld(self, directory: str, selector: str = CURRENT) -> dict[str, str]:
        """What a directory does not list although upstream does: {file: reason}."""
        return self.reader(directory, selector).document.withheld

    def repodata(self, directory: str, selector: str = CURRENT) -> Repodata:
        """The repodata.json that a directory publishes."""
        found: Repodata = json.loads(Conda().derive(self.reader(directory, selector), "repodata.json"))
        return found

    def shards(self, directory: str, selector: str = CURRENT) -> dict[str, Any]:
        """The shards of a directory by package name, as stored: their hashes are bytes."""
        return {name: msgspec.msgpack.decode(content) for name, content in self.reader(directory, selector).contents()}

    def listed(self, directory: str, selector: str = CURRENT) -> set[str]:
        """The names of the packages that a directory lists."""
        repodata = self.repodata(directory, selector)
        v3 = {f"{key}.{kind}" for kind, records in repodata.get("v3", {}).items() for key in records}
        return {*repodata["packages"], *repodata["packages.conda"], *v3}

    def tree(self, directory: str, selector: str = CURRENT) -> Path:
        """The folder below `published/` that other web servers would serve for a directory."""
        return self.store_path / "published" / self.record(selector).id / directory

    def published(self, selector: str = CURRENT) -> dict[str, str]:
        """{path below a snapshot: sha256 of the bytes there}, from the folders that `published/` holds.

        Fails the test unless every directory of these is sound: see `check`.
        """
        root = self.store_path / "published" / self.record(selector).id
        found: dict[str, str] = {}
        for folder, _, names in os.walk(root, followlinks=True):
            for name in names:
                path = Path(folder, name)
                found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
        for path_ in found:
            if path_.endswith("/repodata.json"):
                check((root / path_).parent)
        return found


def check(folder: Path) -> None:
    """Fail unless a subdir's folder is complete and one: all files that it lists are there and are what it says,
    nothing else is, and all forms of its index say the same."""
    repodata = read_document(folder / "repodata.json")
    assert read_document(folder / "repodata.json.zst") == repodata
    sections: dict[str, dict[str, Any]] = {"packages": {}, "packages.conda": {}}
    listed: dict[str, str] = {}
    removed: list[str] = []
    v3: dict[str, dict[str, Any]] = {}
    for shard in read_shards(folder).values():
        removed += shard["removed"]
        for section, records in sections.items():
            records |= {file: text_hashes(record) for file, record in shard[section].items()}
        for kind, records in shard.get("v3", {}).items():
            v3.setdefault(kind, {}).update({key: text_hashes(record) for key, record in records.items()})
    assert {section: repodata[section] for section in sections} == sections
    assert (repodata.get("v3", {}), repodata["removed"]) == (v3, sorted(removed))
    for records in sections.values():
        listed |= {file: record["sha256"] for file, record in records.items()}
    for kind, records in v3.items():
        listed |= {record.get("fn", f"{key}.{kind}"): record["sha256"] for key, record in records.items()}
    assert {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in listed} == listed
    indexes = {"repodata.json", "repodata_shards.msgpack", "current_repodata.json", *BY_FILE}
    others = {path.name for path in folder.iterdir()} - set(listed) - {"shards"}
    assert {name.removesuffix(".zst").removesuffix(".bz2") for name in others} <= indexes


def text_hashes(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a shard as repodata.json has it: md5 and sha256 are hexadecimal."""
    hashes = {key: record[key].hex() for key in ("md5", "sha256") if isinstance(record.get(key), bytes)}
    return {**record, **hashes}


def raw_hashes(record: Any) -> Any:
    """A record as shards have it: md5 and sha256 are bytes, where they are sums at all."""
    if not isinstance(record, dict):
        return record
    made = dict(record)
    for key in ("md5", "sha256"):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            made[key] = bytes.fromhex(record[key])
    return made


def packed(value: Any) -> bytes:
    """A value in the form of a shard or a shard index."""
    return zstd.compress(msgspec.msgpack.encode(value))


def write_shards(folder: Path, shards: Mapping[str, bytes], **top: Any) -> None:
    """Publish shards, as they are to be sent, that `Channel` would not write; `top`: more of the index."""
    digests = {name: hashlib.sha256(data).digest() for name, data in shards.items()}
    for name, data in shards.items():
        (folder / f"{digests[name].hex()}.msgpack.zst").write_bytes(data)
    info = {"subdir": folder.name, "base_url": "", "shards_base_url": ""}
    index = {"version": 1, **top, "info": info | top.get("info", {}), "shards": digests}
    (folder / "repodata_shards.msgpack.zst").write_bytes(packed(index))


def _assign(key: str, value: Any) -> str:
    """A line of TOML."""
    return f"{key if re.fullmatch('[A-Za-z0-9_-]+', key) else json.dumps(key)} = {_toml(value)}"


def _toml(value: Any) -> str:
    """A value on one line; JSON's texts and numbers are TOML's."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_assign(*item) for item in value.items())} }}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list | tuple) else json.dumps(value)
