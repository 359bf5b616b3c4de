"""The metadata in wheels (METADATA, PEP 427) and in sdists (PKG-INFO, PEP 625, 643), and what it says (PEP 566, 643)."""

import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import IO

from packaging.metadata import parse_email
from packaging.version import Version

from . import names

#: version of metadata since which an sdist says which fields are known only when it is built (PEP 643)
_STATIC = Version("2.2")
#: bytes of a metadata file
METADATA_LIMIT = 16 << 20
_PIECE = 4 << 20
_PROBLEMS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError, UnicodeDecodeError,
    KeyError,  # tarfile: a link to what is not in the archive
    OverflowError, struct.error, IndexError, MemoryError,  # places and lengths that no file has
)  # fmt: skip


def metadata_in(wheel: IO[bytes], file: str) -> bytes:
    """The METADATA of a wheel, byte for byte: pip compares a metadata file (PEP 658) with what is in the wheel.

    file: name of the wheel. Raises ValueError if it can't be read, or has no METADATA of its own project.
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
    """Whether a path in a wheel is that of its metadata: in a `.dist-info` folder of its project; pip ignores the version."""
    folder, _, inner = name.partition("/")
    stem = folder.removesuffix(".dist-info")
    if inner != "METADATA" or stem == folder:
        return False
    return names.normalise(stem.partition("-")[0]) == names.normalise(file.partition("-")[0])


def pkg_info_in(sdist: IO[bytes], file: str) -> bytes:
    """The PKG-INFO in the one folder of an sdist; empty if there is none, as in very old ones.

    file: name of the sdist. Raises ValueError if it can't be read to its end, or is neither `.zip` nor `.tar.gz`.
    """
    try:
        return _in_zip(sdist) if file.endswith(".zip") else _in_tar(sdist)
    except _PROBLEMS as error:
        raise ValueError(f"the sdist can't be read: {error}") from None


def _in_zip(sdist: IO[bytes]) -> bytes:
    with zipfile.ZipFile(sdist) as archive:
        found = [one for one in archive.infolist() if _is_pkg_info(one.filename)]
        return archive.read(found[0]) if found and found[0].file_size <= METADATA_LIMIT else b""


def _in_tar(sdist: IO[bytes]) -> bytes:
    content = b""
    with _Pieces(sdist) as plain, tarfile.open(fileobj=plain, mode="r:") as tar:
        for member in tar:
            if _is_pkg_info(member.name) and member.size <= METADATA_LIMIT and (inner := tar.extractfile(member)):
                content = inner.read()
    sdist.seek(0)
    with gzip.open(sdist) as stream:  # a tar archive may end before what it is compressed in does
        while stream.read(_PIECE):
            pass
    return content


class _Pieces(gzip.GzipFile):
    """A compressed file of which nobody reads much at once: tarfile reads names whole, whatever length they state."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")

    def read(self, size: int | None = -1) -> bytes:
        """See io.RawIOBase. Raises OSError for a length that no name has."""
        if size is not None and size > METADATA_LIMIT:
            raise OSError(f"it states a header of {size} bytes")
        return super().read(size)


def _is_pkg_info(path: str) -> bool:
    return path.count("/") == 1 and path.endswith("/PKG-INFO")


def is_static(metadata: bytes) -> bool:
    """Whether the dependencies in the PKG-INFO of an sdist stay the same when it is built (PEP 643)."""
    raw, _ = parse_email(metadata)
    since = names.parse_version(raw.get("metadata_version", "1.0"))
    dynamic = {field.lower() for field in raw.get("dynamic", [])}
    return since is not None and since >= _STATIC and "requires-dist" not in dynamic


def requires_of(metadata: bytes) -> list[str]:
    """The Requires-Dist of core metadata, as written; none if the bytes are no core metadata."""
    raw, _ = parse_email(metadata)
    return raw.get("requires_dist", [])
