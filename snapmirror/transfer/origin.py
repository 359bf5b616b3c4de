"""Where a file that a directory lists can be had, now or years later."""

from collections.abc import Sequence
from functools import partial

from .. import addresses
from ..ecosystem import Ecosystem
from ..readings import File
from .download import Source


def recorded_address(file: File, origin: str, upstreams: Sequence[str]) -> str:
    """Where a file was when it was listed, with the credentials that the configuration has for that host.

    origin: base URL of its directory, as recorded, without credentials
    upstreams: as configured today; may hold credentials
    """
    recorded = file.url or addresses.file_url(origin, file.name)
    for upstream in upstreams:
        recorded = addresses.with_credentials(recorded, upstream)
    return recorded


def source_of(
    ecosystem: Ecosystem, file: File, directory: str, origin: str, upstreams: Sequence[str], alike: Sequence[str]
) -> Source:
    """Where to fetch a file that a directory lists: at its recorded address, then at the repo's upstreams of today.

    directory: its name in the repo
    origin, upstreams: see recorded_address
    alike: of the upstreams, those of which each may have what another lists
    """
    others = partial(ecosystem.other_urls, file, directory, alike)
    return Source(file, (recorded_address(file, origin, upstreams),), others=others)
