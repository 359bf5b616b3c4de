"""Settings for pip and uv: of one index alone. With several, a client could take a private package from the public index, where
anybody can publish one of the same name.
"""

import urllib.parse
from collections.abc import Iterable, Sequence

from ..ecosystem.clients import Client, Mirror, Mirrored, about


def _pip(mirror: Mirror, repos: Sequence[Mirrored]) -> str:
    server = urllib.parse.urlsplit(mirror.base)
    trusted = [f"trusted-host = {server.netloc}"] if server.scheme == "http" else []
    authority = ["# For https with a certificate of your own authority:", "# cert = /path/to/ca.pem"]
    lines = ["[global]", "index-url = {}", *trusted, *authority]
    return _one_index(mirror, repos, "pip", "~/.config/pip/pip.conf", lines)


def _uv(mirror: Mirror, repos: Sequence[Mirrored]) -> str:
    authority = ["# For https with a certificate of your own authority, set SSL_CERT_FILE=/path/to/ca.pem."]
    return _one_index(
        mirror, repos, "uv", "~/.config/uv/uv.toml", ["[[index]]", 'url = "{}"', "default = true", "", *authority]
    )


def _one_index(mirror: Mirror, repos: Sequence[Mirrored], client: str, file: str, lines: Iterable[str]) -> str:
    """Settings that name one index: one that was picked, else that which merges others, else the one with the most files.

    lines: the settings, with {} for the URL of the index
    """
    ordered = sorted(repos, key=lambda repo: (repo.path in mirror.picked, _is_merged(repo), repo.files), reverse=True)
    index, *others = (mirror.url(f"{repo.path}/simple") + "/" for repo in ordered)
    introduction = about(mirror, client, file, "other indexes that there are", others)
    return "\n".join([*introduction, *(line.replace("{}", index) for line in lines), ""])


def _is_merged(repo: Mirrored) -> bool:
    return any("merged" in directory.info for directory in repo.directories.values())


_PIP_OVERRULING = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")
_UV_OVERRULING = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_CONFIG")

CLIENTS = (
    Client("pip", "pip.conf", _pip, variable="PIP_CONFIG_FILE", example="pip install PACKAGE", overruling=_PIP_OVERRULING),
    Client("uv", "uv.toml", _uv, variable="UV_CONFIG_FILE", example="uv pip install PACKAGE", overruling=_UV_OVERRULING),
)
