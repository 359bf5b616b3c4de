"""Settings for conda, mamba and pixi.

conda takes a channel at another URL for another channel, unless its settings lead from a name to the URL: then `conda-forge`
is the same channel at every date. So the settings name channels wherever they can.
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

    #: of the repo
    path: str
    #: what clients call it without a mirror: `conda-forge`, `pkgs/main`, `numba/label/dev`; its path if they don't know it
    name: str
    #: where clients find it without a mirror; empty if nowhere
    address: str

    @property
    def place(self) -> tuple[str, str]:
        """The name that conda's settings can give it, and the folder of the mirror to which conda adds that name."""
        name = self.name if f"/{self.path}".endswith(f"/{self.name}") else self.path
        return name, self.path.removesuffix(name).rstrip("/")


def _channels(repos: Iterable[Mirrored]) -> list[_Channel]:
    """The channels of repos. If several are the same one, the repo whose path is its name has the name, else the first; the
    others are named by their paths.
    """
    channels = list(map(_channel, repos))
    owners: dict[str, str] = {}
    for channel in channels:
        if channel.name not in owners or channel.path == channel.name:
            owners[channel.name] = channel.path
    return [one if owners[one.name] == one.path else _Channel(one.path, one.path, "") for one in channels]


def _channel(repo: Mirrored) -> _Channel:
    """The channel that a repo mirrors, told by the `origin` of the first directory that tells it.

    A directory that was adopted came from a folder, which does not. "" comes first, if there is such a directory: its origin
    is the channel's own address, but a `base_url` (CEP 15) may have led a subdir elsewhere.
    """
    for name, directory in sorted(repo.directories.items()):
        channel = _identity(repo.path, directory.origin.rstrip("/").removesuffix(f"/{name}"))
        if channel.address:
            return channel
    return _Channel(repo.path, repo.path, "")


def _identity(path: str, origin: str) -> _Channel:
    """The channel at an address: of Anaconda itself, of a mirror in the usual layout of its channels, or of anybody else.

    path: of the repo; origin: the address, without a slash at the end
    """
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
    channels = _channels(repos)
    places = dict(channel.place for channel in channels)
    defaults = [name for name in _DEFAULTS if name in places]
    # conda names a default channel, which is given by URL, by what follows the alias in that
    alias = places[defaults[0]] if defaults else Counter(places.values()).most_common(1)[0][0]
    defaults = [name for name in defaults if places[name] == alias]
    custom = {name: folder for name, folder in places.items() if folder != alias}
    content: dict[str, Any] = {
        "channels": [one.place[0] for one in channels if one.path in mirror.picked] or _used(places, defaults),
        "channel_alias": mirror.url(alias),
    }
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
    picked = [name for name, path in by_name.items() if path in mirror.picked]
    content: dict[str, Any] = {"channels": picked or _used(by_name, defaults)}
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
    """The channels to use if nobody says which: the one that most people want."""
    known = list(names)
    return ["conda-forge"] if "conda-forge" in known else ["defaults"] if defaults else known[:1]


def _yaml(content: Mapping[str, Any]) -> str:
    import yaml  # only the verbs `client` and `serve` need it here

    text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=1000)
    return text


def _pixi(mirror: Mirror, repos: Sequence[Mirrored]) -> str:
    channels = _channels(repos)
    at: dict[str, _Channel] = {}
    for channel in channels:  # of two repos of one upstream the first is what its address stands for
        at.setdefault(channel.address, channel)
    own = [mirror.url(one.path) for one in channels if not one.address or at[one.address] is not one]
    mirrors = [f"{json.dumps(address)} = [{json.dumps(mirror.url(one.path))}]" for address, one in at.items() if address]
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


#: conda and mamba take each of their settings from the environment too
_OVERRULING = tuple(
    f"{client}_{setting}"
    for client in ("CONDA", "MAMBA")
    for setting in ("CHANNELS", "CHANNEL_ALIAS", "DEFAULT_CHANNELS", "CUSTOM_CHANNELS", "MIRRORED_CHANNELS")
)

CLIENTS = (
    Client(
        "conda",
        "condarc",
        _condarc,
        remembers=True,
        variable="CONDARC",
        example="conda create --name NAME --platform {platform} PACKAGE",
        overruling=_OVERRULING,
    ),
    Client(
        "mamba",
        "mambarc",
        _mambarc,
        variable="MAMBARC",
        example="mamba create --name NAME --platform {platform} PACKAGE",
        overruling=_OVERRULING,
    ),
    Client("pixi", "pixi.toml", _pixi, example="pixi init --platform {platform} NAME"),
)
