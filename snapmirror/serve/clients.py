"""What clients are told of this mirror: settings for conda, mamba, pixi, pip and uv, made from what a snapshot holds.

To conda a channel is its address, unless the settings lead from a name to the address: then `conda-forge` is the same
channel under every date. So channels are told by name wherever that can be done.
"""

import json
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from ..errors import UsageError
from ..store.records import Record, RepoState
from ..store.store import Store

#: what `defaults` stands for, in that order, as far as it is mirrored
_DEFAULTS = ("pkgs/main", "pkgs/r", "pkgs/msys2")
_ANACONDA = "https://conda.anaconda.org"
_PKGS = "https://repo.anaconda.com"
#: hosts whose whole path is a channel's name
_HOSTS = frozenset({"conda.anaconda.org", "conda-static.anaconda.org", "repo.prefix.dev", "prefix.dev"})


class Mirrored(NamedTuple):
    """A repo as clients see it."""

    path: str
    kind: str
    #: what clients call it, without a mirror: `conda-forge`, `pkgs/main`, `numba/label/dev`; else its path
    name: str
    #: where they find it without a mirror, empty if nowhere
    address: str = ""
    #: how many it lists
    files: int = 0
    #: whether it is several others published as one
    merged: bool = False


class Site(NamedTuple):
    """Where a client is to look, and since when."""

    #: URL of the server, without a slash at the end
    base: str
    selector: str
    #: the selector used before, or the URL of another mirror; empty for none
    was: str = ""

    def url(self, path: str) -> str:
        """The URL of a path below the snapshot."""
        return f"{self.base}/{self.selector}/{path}".rstrip("/")

    def old(self, path: str) -> str:
        """The same as it was before."""
        was = self.was or "OLD"
        return was.rstrip("/") if "://" in was else self._replace(selector=was).url(path)


def mirrored(store: Store, answers: Mapping[str, Record]) -> list[Mirrored]:
    """The repos of what `Catalog.answers` gave; no two have the same name. Raises DamagedError."""
    found: dict[str, Mirrored] = {}
    for path, record in answers.items():
        repo = record.repos[path]
        name, address = _channel(store, path, repo) if repo.kind == "conda" else (path, "")
        if name in found:  # of a channel that is mirrored twice the first is what its name means
            name, address = path, ""
        documents = [store.metadata.directory(state.blob).document for state in repo.directories.values()]
        files, merged = sum(one.files for one in documents), any("merged" in one.info for one in documents)
        found[name] = Mirrored(path, repo.kind, name, address, files, merged and repo.kind == "pypi")
    return list(found.values())


def _channel(store: Store, path: str, repo: RepoState) -> tuple[str, str]:
    """Name and address of a channel as the first of its directories tells them that can.

    One that was adopted came from a folder, which tells no address. The first in order is the one named "", if there is
    one: it comes from the channel's own base, where the `base_url` of a subdir may lead elsewhere.
    """
    for directory, state in sorted(repo.directories.items()):
        origin = store.metadata.directory(state.blob).document.origin.rstrip("/").removesuffix(f"/{directory}")
        name, address = _identity(path, origin)
        if address:
            return name, address
    return path, ""


def _identity(path: str, origin: str) -> tuple[str, str]:
    """Name and address of a channel, told by where it is mirrored from: Anaconda itself, or a mirror in the usual layout."""
    parts = urllib.parse.urlsplit(origin)
    segments = [urllib.parse.unquote(segment) for segment in parts.path.split("/") if segment]
    if "pkgs" in segments:
        name = "/".join(segments[segments.index("pkgs") :])
        return name, f"{_PKGS}/{name}"
    if "cloud" in segments[:-1]:
        name = "/".join(segments[segments.index("cloud") + 1 :])
        return name, f"{_ANACONDA}/{name}"
    if parts.hostname in _HOSTS and segments:
        return "/".join(segments), origin
    return path, origin if parts.scheme in ("http", "https") else ""


def settings(client: str, site: Site, repos: Sequence[Mirrored]) -> str:
    """The settings of a client, a key of CLIENTS. Raises UsageError where this mirror has nothing for it."""
    kind = "pypi" if client in ("pip", "uv") else "conda"
    what = "PyPI" if kind == "pypi" else "conda"
    chosen = [repo for repo in repos if repo.kind == kind]
    if not chosen:
        raise UsageError(f"{site.selector} holds no {what} repo, so there is nothing to set for {client}")
    return CLIENTS[client](site, chosen)


# conda and mamba


def _place(repo: Mirrored) -> tuple[str, str]:
    """The name that a channel can have in conda's settings, and the folder that it is to be looked for in."""
    name = repo.name if f"/{repo.path}".endswith(f"/{repo.name}") else repo.path
    return name, repo.path.removesuffix(name).rstrip("/")


def _condarc(site: Site, repos: Sequence[Mirrored]) -> str:
    places = dict(map(_place, repos))
    defaults = [name for name in _DEFAULTS if name in places]
    # a default channel is given by its URL and named by what follows the alias in it
    alias = places[defaults[0]] if defaults else Counter(places.values()).most_common(1)[0][0]
    defaults = [name for name in defaults if places[name] == alias]
    custom = {name: folder for name, folder in places.items() if folder != alias}
    content: dict[str, Any] = {"channels": _channels(places, defaults), "channel_alias": site.url(alias)}
    if defaults:
        content["default_channels"] = [site.url(f"{alias}/{name}".lstrip("/")) for name in defaults]
    if custom:
        content["custom_channels"] = {name: site.url(folder) for name, folder in custom.items()}
    if "conda-forge" in places:  # mamba needs it, see _FORGE_NOTE; conda ignores it
        content["mirrored_channels"] = {"conda-forge": [site.url(f"{places['conda-forge']}/conda-forge".lstrip("/"))]}
    migrated: dict[str, Any] = {"migrated_channel_aliases": [site.old(alias)]}
    if custom:
        migrated["migrated_custom_channels"] = {name: site.old(folder) for name, folder in custom.items()}
    return "\n".join(
        [
            *_about(site, "conda", "~/.condarc", "other names that there are", places, content["channels"]),
            *(_FORGE_NOTE if "conda-forge" in places else ()),
            _yaml(content),
            *_migration(site, _yaml(migrated)),
            *_CONDA_AUTHORITY,
        ]
    )


_CONDA_AUTHORITY = ("# For https with a certificate of your own authority:", "# ssl_verify: /path/to/ca.pem\n")
_FORGE_NOTE = (
    "# mirrored_channels is for mamba, which Miniforge has told to ask upstream for conda-forge; for all channels it has",
    "# settings of its own, `mambarc`.",
)


def _migration(site: Site, text: str) -> list[str]:
    if site.was:
        return [f"# What was installed from {site.was} counts as installed from here.", text]
    return [
        "# With another date in these URLs conda takes every channel for a new one and installs everything again, unless it",
        "# is told what they were; `snapmirror client conda --was OLD` prints that:",
        *(f"# {line}" for line in text.splitlines()),
        "",
    ]


def _mambarc(site: Site, repos: Sequence[Mirrored]) -> str:
    by_name = {repo.name: repo.path for repo in repos}
    defaults = [name for name in _DEFAULTS if name in by_name]
    content: dict[str, Any] = {"channels": _channels(by_name, defaults)}
    if defaults:
        content["default_channels"] = [site.url(by_name[name]) for name in defaults]
    content["mirrored_channels"] = {name: [site.url(path)] for name, path in by_name.items()}
    return "\n".join(
        [
            *_about(site, "mamba and micromamba", "~/.mambarc", "other names that there are", by_name, content["channels"]),
            _yaml(content),
            "# A second URL of a channel is asked when the first fails; that suits `current`, and no date.",
            *_CONDA_AUTHORITY,
        ]
    )


def _channels(names: Iterable[str], defaults: Sequence[str]) -> list[str]:
    """The channels to use if nothing else is said: the one that most people want."""
    known = list(names)
    return ["conda-forge"] if "conda-forge" in known else ["defaults"] if defaults else known[:1]


def _about(site: Site, client: str, file: str, label: str, names: Iterable[str], used: Sequence[str] = ()) -> list[str]:
    """The first lines of settings: what they are for, and after the label those of the names that they do not use, if any."""
    others = [name for name in names if name not in used]
    lines = [f"# {site.base} as of {site.selector}, for {client}: {file}"]
    return [*lines, f"# {label}: {', '.join(others)}"] if others else lines


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=1000)


# pixi, pip, uv


def _pixi(site: Site, repos: Sequence[Mirrored]) -> str:
    own = [site.url(repo.path) for repo in repos if not repo.address]
    mirrors = [f"{json.dumps(repo.address)} = [{json.dumps(site.url(repo.path))}]" for repo in repos if repo.address]
    return "\n".join(
        [
            *_about(site, "pixi", "~/.pixi/config.toml", "channels that are only here, to be named by URL", own),
            "[mirrors]",
            *mirrors,
            "",
            "# For https with a certificate of your own authority, which this machine trusts; above [mirrors]:",
            '# tls-root-certs = "native"\n',
        ]
    )


def _pip(site: Site, repos: Sequence[Mirrored]) -> str:
    server = urllib.parse.urlsplit(site.base)
    trusted = [f"trusted-host = {server.netloc}"] if server.scheme == "http" else []
    authority = ["# For https with a certificate of your own authority:", "# cert = /path/to/ca.pem"]
    lines = ["[global]", "index-url = {}", *trusted, *authority]
    return _one_index(site, repos, "pip", "~/.config/pip/pip.conf", lines)


def _uv(site: Site, repos: Sequence[Mirrored]) -> str:
    authority = ["# For https with a certificate of your own authority, set SSL_CERT_FILE=/path/to/ca.pem."]
    return _one_index(site, repos, "uv", "~/.config/uv/uv.toml", ["[[index]]", 'url = "{}"', "default = true", "", *authority])


def _one_index(site: Site, repos: Sequence[Mirrored], client: str, file: str, lines: Iterable[str]) -> str:
    """Settings that name one index: that which is several as one, else that with the most files. lines: with {} for it

    Were several set, a package of one's own could be had from where anybody can publish another of that name.
    """
    ordered = sorted(repos, key=lambda repo: (repo.merged, repo.files), reverse=True)
    index, *others = (site.url(f"{repo.path}/simple") + "/" for repo in ordered)
    about = _about(site, client, file, "other indexes that there are", others)
    return "\n".join([*about, *(line.replace("{}", index) for line in lines), ""])


#: name of a client -> what makes its settings
CLIENTS = {"conda": _condarc, "mamba": _mambarc, "pixi": _pixi, "pip": _pip, "uv": _uv}
#: name of a file below `/-/config/<selector>/` -> the client that it is for
CLIENT_OF_FILE = {"condarc": "conda", "mambarc": "mamba", "pixi.toml": "pixi", "pip.conf": "pip", "uv.toml": "uv"}
