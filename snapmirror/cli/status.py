"""snapmirror status: how old the mirror is, how large, what is withheld."""

import itertools
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from .. import clock, units
from ..ecosystem import Repo
from ..errors import SelectorError
from ..store.catalog import CURRENT, Catalog
from ..store.records import Record, RepoState, place_of
from ..store.store import Store
from .context import ConfigOption, JsonOption, opened, output, output_json, printable
from .snapshots import describe

#: exit status when a repo is older than its `max_age`
_LATE = 3


def status(json: JsonOption = False, config: ConfigOption = None) -> None:
    """Say how old and how large the mirror is, and what is missing. Exit status 3 if a repo is older than its max_age."""
    with opened(config, write=False) as (settings, store):
        summary = _summary(store, settings.repo)
    if json:
        output_json(summary)
    else:
        _print(summary)
    raise typer.Exit(_LATE if any(repo["late"] for repo in summary["repos"].values()) else 0)


def _summary(store: Store, configured: Sequence[Repo]) -> dict[str, Any]:
    """The state of the mirror, as `--json` prints it."""
    catalog = store.catalog()
    current = _current(store, catalog)
    limits = {repo.path: repo.max_age for repo in configured}
    described = describe(store, current)["repos"] if current else {}
    repos = {
        path: _repo(store, catalog, path, described.get(path), limits.get(path, "")) for path in sorted({*limits, *described})
    }
    return {
        "current": current.id if current else None,
        "age": _age(store, current.id) if current else None,
        "repos": repos,
        "files": sum(repo["files"] for repo in repos.values()),
        "bytes": sum(repo["bytes"] for repo in repos.values()),
        "free": shutil.disk_usage(store.layout.root).free,
        "withheld": _withheld(store, catalog, current) if current else {},
        "lost": [lost for digest, lost in store.live.lost().items() if store.blobs.size(digest) is None],
        "blocked": [host for host in store.live.blocked() if host.until > clock.to_id(store.now())],
    }


def _current(store: Store, catalog: Catalog) -> Record | None:
    try:
        return catalog.view(CURRENT, store.now())
    except SelectorError:
        return None


def _age(store: Store, id_: str) -> int | None:
    """Seconds since the time of an id; None for what is no id."""
    then = clock.from_id(id_)
    return int((store.now() - then).total_seconds()) if then else None


def _repo(store: Store, catalog: Catalog, path: str, described: dict[str, Any] | None, max_age: str) -> dict[str, Any]:
    """What `describe` says of a repo, how old that is, and how its last sync ended."""
    repo = described or {"kind": None, "read": None, "since": None, "files": 0, "bytes": 0, "directories": {}}
    age = _age(store, repo["read"]) if described else None
    late = bool(max_age) and (age is None or age > units.parse_duration(max_age).total_seconds())
    kept = _kept([record.repos[path] for record in catalog.history(path)])
    for name, directory in repo["directories"].items():
        directory["kept"] = name in kept
    outcome = "kept" if kept else "complete" if described else "never"
    return {**repo, "outcome": outcome, "age": age, "max_age": max_age, "late": late}


def _kept(states: Sequence[RepoState]) -> set[str]:
    """The directories that kept their old state in the last sync of a repo. states: the repo's, newest first

    That sync made the oldest of the states that have the newest time of reading. A directory that was read at the same time in
    the state before that one was not read in this sync.
    """
    for state, before in itertools.pairwise(states):
        if before.read != state.read:
            known = before.directories
            return {name for name, now in state.directories.items() if name in known and known[name].read == now.read}
    return set()


def _withheld(store: Store, catalog: Catalog, current: Record) -> dict[str, dict[str, dict[str, str]]]:
    """{"repo/directory": {file: {"reason", "since"}}}; since: the first snapshot of the unbroken run that withholds it."""
    withheld = {}
    for path, repo in current.repos.items():
        history = catalog.history(path)
        for name, state in repo.directories.items():
            if reasons := store.metadata.directory(state.blob).document.withheld:
                since = _since(store, history, path, name, reasons)
                withheld[place_of(path, name)] = {
                    file: {"reason": reason, "since": since[file]} for file, reason in reasons.items()
                }
    return withheld


def _since(store: Store, history: Iterable[Record], path: str, name: str, files: Iterable[str]) -> dict[str, str]:
    """{file: id of the first snapshot of the unbroken run that withholds it}. history: newest first"""
    running, since = set(files), {}
    for record in history:
        state = record.repos[path].directories.get(name)
        running &= store.metadata.directory(state.blob).document.withheld.keys() if state else set()
        if not running:
            break
        since.update(dict.fromkeys(running, record.id))
    return since


def _print(summary: dict[str, Any]) -> None:
    age = f", {units.span(summary['age'])} old" if summary["age"] is not None else ""
    output(f"current: {summary['current'] or 'there is no snapshot yet'}{age}")
    for path, repo in summary["repos"].items():
        size = f"{units.plural(repo['files'], 'file')}, {units.size(repo['bytes'])}"
        read = f"read {repo['read']}, {units.span(repo['age'])} ago; {size}" if repo["age"] is not None else "never synced"
        output(f"{path}: {read}" + (f"; older than its max_age of {repo['max_age']}" if repo["late"] else ""))
        for name, directory in repo["directories"].items():
            if directory["kept"]:
                output(place_of(path, name) + f": the last sync could not read it; it keeps the state of {directory['read']}")
    for directory, files in summary["withheld"].items():
        for file, why in files.items():
            output(f"withheld: {directory}/{printable(file)}: since {why['since']}: {printable(why['reason'])}")
    for lost in summary["lost"]:
        output(f"lost: {printable(lost.name)}: since {lost.since}: {printable(lost.problem)}")
    for host in summary["blocked"]:
        output(f"left alone until {host.until}: {host.host}: {printable(host.problem)}")
    total = f"{units.plural(summary['files'], 'file')}, {units.size(summary['bytes'])}"
    output(f"in total: {total}; free on the store's disk: {units.size(summary['free'])}")
