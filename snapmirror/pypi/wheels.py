"""What is in a wheel: its metadata, where an index has no file of it (packaging.python.org: Binary distribution format)."""

import zipfile
from typing import IO

from packaging.metadata import parse_email

from . import names

#: bytes of a metadata file
METADATA_LIMIT = 16 << 20
_PROBLEMS = (zipfile.BadZipFile, EOFError, RuntimeError, OSError, UnicodeDecodeError)


def metadata_in(wheel: IO[bytes], file: str) -> bytes:
    """The METADATA of a wheel, byte for byte. file: its name. Raises ValueError if there is none, or one of another project.

    pip compares a metadata file with what is in the wheel, so nothing else may be published as such.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [name for name in archive.namelist() if _is_metadata(name, file)]
            if len(found) != 1:
                raise ValueError("the wheel has no METADATA" if not found else "the wheel has several METADATA")
            if archive.getinfo(found[0]).file_size > METADATA_LIMIT:
                raise ValueError(f"the METADATA in the wheel is larger than {METADATA_LIMIT} bytes")
            return archive.read(found[0])
    except _PROBLEMS as error:
        raise ValueError(f"the wheel can't be read: {error}") from None


def _is_metadata(name: str, file: str) -> bool:
    """Whether a path in a wheel is that of its metadata: in a folder that is named as the wheel is, as far as pip cares."""
    folder, _, inner = name.partition("/")
    stem = folder.removesuffix(".dist-info")
    if inner != "METADATA" or stem == folder:
        return False
    return names.normalise(stem.partition("-")[0]) == names.normalise(file.partition("-")[0])


def requires_of(metadata: bytes) -> list[str]:
    """The Requires-Dist of core metadata; bytes that are none have none."""
    raw, _ = parse_email(metadata)
    return raw.get("requires_dist", [])
