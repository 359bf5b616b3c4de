"""Settings for conda, mamba and pixi.

To conda a channel is its address, unless the settings lead from a name to the address: then `conda-forge` is the same
channel under every date. So channels are told by name wherever that can be done.
"""

import json
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..ecosystem.clients import Client, Mirror, Mirrored, about

#: what `defaults` stands for, in that order, as far as it is mirrored
_DEFAULTS = ("pkgs/main", "pkgs/r", "pkgs/msys2")
_ANACONDA = "https://conda.anaconda.org"
_PKGS = "https://repo.anaconda.com"
#: hosts whose whole path is a channel's name
_HOSTS = frozenset({"conda.anaconda.org", "conda-static.anaconda.org", "repo.prefix.dev", "prefix.dev"})


class _Channel(NamedTuple):
    """A channel as clients see it."""

    path: str
    #: what clients call it, without a mirror: `conda-forge`, `pkgs/main`, `numba/label/dev`; else its path
    name: str
    #: where they find it without a mirror, empty if nowhere
    address: str

    @property
    def place(self) -> tuple[str, str]:
        """The name that it can have in conda's settings, and the folder that it is to be looked for in."""
        name = self.name if f"/{self.path}".endswith(f"/{self.name}") else self.path
        return name, self.path.removesuffix(name).rstrip("/")


def _channels(repos: Iterable[Mirrored]) -> list[_Channel]:
    """No two have the same name: of a channel that is mirrored twice the first is what its name means."""
    found: dict[str, _Channel] = {}
    for repo in repos:
        channel = _channel(repo)
        if channel.name in found:
            channel = _Channel(repo.path, repo.path, "")
        found[channel.name] = channel
    return list(found.values())


def _channel(repo: Mirrored) -> _Channel:
    """A channel as the first of its directories tells it that can.

    One that was adopted came from a folder, which tells no address. The first in order is the one named "", if there is
    one: it comes from the channel's own base, where the `base_url` of a subdir may lead elsewhere.
    """
    for name, directory in sorted(repo.directories.items()):
        channel = _identity(repo.path, directory.origin.rstrip("/").removesuffix(f"/{name}"))
        if channel.address:
            return channel
    return _Channel(repo.path, repo.path, "")


def _identity(path: str, origin: str) -> _Channel:
    """A channel told by where it is mirrored from: Anaconda itself, or a mirror in the usual layout."""
    parts = urllib.parse.urlsplit(origin)
    segments = [urllib.parse.unquote(segment) for segment in parts.path.split("/") if segment]
    if "pkgs" in segments:
        name = "/".join(segments[segments.index("pkgs") :])
        return _Channel(path, name, f"{_PKGS}/{name}")
    if "cloud" in segments[:-1]:
        name = "/".join(segments[segments.index("cloud") + 1 :])
        return _Channel(path, name, f"{_ANACONDA}/{name}")
    if parts.hostname in _HOSTS and segments:
        return _Channel(path, "/".join(segments), origin)
    return _Channel(path, path, origin if parts.scheme in ("http", "https") else "")


def _condarc(mirror: Mirror, repos: Sequence[Mirrored]) -> str:
    places = dict(channel.place for channel in _channels(repos))
    defaults = [name for name in _DEFAULTS if name in places]
    # a default channel is given by its URL and named by what follows the alias in it
    alias = places[defaults[0]] if defaults else Counter(places.values()).most_common(1)[0][0]
    defaults = [name for name in defaults if places[name] == alias]
    custom = {name: folder for name, folder in places.items() if folder != alias}
    content: dict[str, Any] = {"channels": _used(places, defaults), "channel_alias": mirror.url(alias)}
    if defaults:
        content["default_channels"] = [mirror.url(f"{alias}/{name}".lstrip("/")) for name in defaults]
    if custom:
        content["custom_channels"] = {name: mirror.url(folder) for name, folder in custom.items()}
    if "conda-forge" in places:  # mamba needs it, see _FORGE_NOTE; conda ignores it
        content["mirrored_channels"] = {"conda-forge": [mirror.url(f"{places['conda-forge']}/conda-forge".lstrip("/"))]}
    migrated: dict[str, Any] = {"migrated_channel_aliases": [mirror.old(alias)]}
    if custom:
        migrated["migrated_custom_channels"] = {name: mirror.old(folder) for name, folder in custom.items()}
    return "\n".join(
        [
            *about(mirror, "conda", "~/.condarc", "other names that there are", places, content["channels"]),
            *(_FORGE_NOTE if "conda-forge" in places else ()),
            _yaml(content),
            *_migration(mirror, _yaml(migrated)),
            *_AUTHORITY,
        ]
    )


_AUTHORITY = ("# For https with a certificate of your own authority:", "# ssl_verify: /path/to/ca.pem\n")
_FORGE_NOTE = (
    "# mirrored_channels is for mamba, which Miniforge has told to ask upstream for conda-forge; for all channels it has",
    "# settings of its own, `mambarc`.",
)


def _migration(mirror: Mirror, text: str) -> list[str]:
    if mirror.was:
        return [f"# What was installed from {mirror.was} counts as installed from here.", text]
    return [
        "# With another date in these URLs conda takes every channel for a new one and installs everything again, unless it",
        "# is told what they were; `snapmirror client conda --was OLD` prints that:",
        *(f"# {line}" for line in text.splitlines()),
        "",
    ]


def _mambarc(mirror: Mirror, repos: Sequence[Mirrored]) -> str:
    by_name = {channel.name: channel.path for channel in _channels(repos)}
    defaults = [name for name in _DEFAULTS if name in by_name]
    content: dict[str, Any] = {"channels": _used(by_name, defaults)}
    if defaults:
        content["default_channels"] = [mirror.url(by_name[name]) for name in defaults]
    content["mirrored_channels"] = {name: [mirror.url(path)] for name, path in by_name.items()}
    return "\n".join(
        [
            *about(mirror, "mamba and micromamba", "~/.mambarc", "other names that there are", by_name, content["channels"]),
            _yaml(content),
            "# A second URL of a channel is asked when the first fails; that suits `current`, and no date.",
            *_AUTHORITY,
        ]
    )


def _used(names: Iterable[str], defaults: Sequence[str]) -> list[str]:
    """The channels to use if nothing else is said: the one that most people want."""
    known = list(names)
    return ["conda-forge"] if "conda-forge" in known else ["defaults"] if defaults else known[:1]


def _yaml(content: Mapping[str, Any]) -> str:
    import yaml  # no other verb than `client` needs it

    text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=1000)
    return text


def _pixi(mirror: Mirror, repos: Sequence[Mirrored]) -> str:
    channels = _channels(repos)
    own = [mirror.url(channel.path) for channel in channels if not channel.address]
    mirrors = [
        f"{json.dumps(channel.address)} = [{json.dumps(mirror.url(channel.path))}]" for channel in channels if channel.address
    ]
    return "\n".join(
        [
            *about(mirror, "pixi", "~/.pixi/config.toml", "channels that are only here, to be named by URL", own),
            "[mirrors]",
            *mirrors,
            "",
            "# For https with a certificate of your own authority, which this machine trusts; above [mirrors]:",
            '# tls-root-certs = "native"\n',
        ]
    )


CLIENTS = (
    Client("conda", "condarc", _condarc, remembers=True),
    Client("mamba", "mambarc", _mambarc),
    Client("pixi", "pixi.toml", _pixi),
)
