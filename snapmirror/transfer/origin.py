"""Where a file that a directory lists can be had, now or years later."""

from collections.abc import Sequence

from .. import addresses
from ..readings import File


def addresses_of(file: File, directory: str, origin: str, upstreams: Sequence[str]) -> tuple[str, ...]:
    """The recorded address, with the credentials that the configuration has for that host; then the other upstreams.

    directory: its name in the repo
    origin: its base URL, as recorded, without credentials
    upstreams: of the repo as configured today; may hold credentials
    """
    recorded = file.url or addresses.file_url(origin, file.name)
    for upstream in upstreams:
        recorded = addresses.with_credentials(recorded, upstream)
    if file.url:
        return (recorded,)
    bases = (addresses.as_folder(addresses.as_folder(upstream) + directory) for upstream in upstreams)
    return tuple(dict.fromkeys([recorded, *(addresses.file_url(base, file.name) for base in bases)]))
