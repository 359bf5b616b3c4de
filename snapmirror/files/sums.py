"""Hashes that upstream keeps in files of their own: `SHA256SUMS` for a folder, `<file>.sha256` for a file.

The formats are those that coreutils' sha256sum writes, with and without `--tag` (as BSD's sha256), and a hash alone.
"""

import re
from collections.abc import Mapping

#: bytes of such a file
LIMIT = 16 << 20
#: ending of the file beside another one
SIDECAR = ".sha256"

#: names of files with the hashes of a folder: SHA256SUMS, sha256sum.txt, dist-checksums.txt, tool_1.0_SHA256SUMS, MD5SUMS
is_sums = re.compile(
    r"(?:.*[-_.])?(?:(?:sha256|md5)sums?|checksums?)(?:\.txt)?|.*\.(?:sha256|md5)sums", re.IGNORECASE
).fullmatch
_HEX = r"[0-9a-fA-F]{64}|[0-9a-fA-F]{32}"
#: `<hex>  name`, `<hex> *name`, `<hex>`; and BSD's `SHA256 (name) = <hex>`
_GNU = re.compile(rf"\\?({_HEX})(?:[ \t]+\*?(.+))?")
_BSD = re.compile(rf"(?:SHA2?-?256|MD5) ?\((.+)\) ?= ?({_HEX})", re.IGNORECASE)


def parse(body: bytes) -> Mapping[str, bytes]:
    """{name as it stands there: SHA-256 or, by its length, MD5}; the name of a hash that stands alone is empty.

    SHA-256 wins over MD5. Lines that are neither are ignored.
    """
    found: dict[str, bytes] = {}
    for line in body.decode("utf-8", "replace").splitlines():
        text = line.strip().removeprefix("\ufeff")
        if gnu := _GNU.fullmatch(text):
            digest, name = gnu[1], gnu[2] or ""
        elif bsd := _BSD.fullmatch(text):
            name, digest = bsd[1], bsd[2]
        else:
            continue
        name = name.removeprefix("./")
        if len(digest) == 64 or len(found.get(name, b"")) < 32:
            found[name] = bytes.fromhex(digest)
    return found


def sidecar(body: bytes, path: str) -> bytes | None:
    """The SHA-256 that the `.sha256` beside a file states of it, None if there is none.

    A single hash is taken for that of the file, whatever name stands beside it.
    """
    found = {name.rpartition("/")[2]: digest for name, digest in parse(body).items() if len(digest) == 32}
    alone = next(iter(found.values())) if len(found) == 1 else None
    return found.get(path.rpartition("/")[2]) or found.get("") or alone
