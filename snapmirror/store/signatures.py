"""Keys, and signatures of records (man snapmirror-store, section SIGNATURES). Ed25519, RFC 8032."""

import base64
import binascii
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import UsageError

#: what is signed begins with it, so that a signature of a record is one of nothing else
_DOMAIN = b"snapmirror snapshot record v1\0"
_PRIVATE, _PUBLIC, _SIGNATURE = (f"snapmirror-ed25519-{kind}" for kind in ("private", "public", "signature"))
#: bytes; what is larger is no such file
LIMIT = 4096


class PublicKey:
    """What tells whether a record was signed by whoever has the private key."""

    def __init__(self, raw: bytes) -> None:
        """raw: 32 bytes"""
        self._raw = raw
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    @property
    def id(self) -> str:
        """What names the key in files and messages: the first 16 digits of the SHA-256 of its 32 bytes."""
        return hashlib.sha256(self._raw).hexdigest()[:16]

    @classmethod
    def read(cls, path: Path) -> "PublicKey":
        """Read a file that `key generate` has made. Raises UsageError if it can't be read, or is none."""
        return cls(_read(path, _PUBLIC, "the public key, which ends in .pub"))

    def __str__(self) -> str:
        return _line(_PUBLIC, self._raw, self.id)

    def problem(self, record: bytes, signature: bytes) -> str:
        """Why a signature, as it stands in its file, is none of a record by this key; empty if it is one."""
        try:
            raw, id_ = _parse(signature, _SIGNATURE, 64)
        except ValueError as error:
            return f"is no signature: {error}"
        if id_ != self.id:
            return f"is by another key: {id_}, not {self.id}"
        try:
            self._key.verify(raw, _DOMAIN + record)
        except InvalidSignature:
            return f"does not match the record: one of them was changed after it was signed with the key {self.id}"
        return ""


class PrivateKey:
    """What signs records."""

    def __init__(self, raw: bytes) -> None:
        """raw: 32 bytes, the seed"""
        self._raw = raw
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> "PrivateKey":
        """A new key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def read(cls, path: Path) -> "PrivateKey":
        """Read a file that `key generate` has made. Raises UsageError if it can't be read, or is none."""
        return cls(_read(path, _PRIVATE, "the private key, not the one that ends in .pub"))

    def encode(self) -> bytes:
        """The key as its file holds it."""
        return f"{_line(_PRIVATE, self._raw, self.public.id)}\n".encode()

    def sign(self, record: bytes) -> bytes:
        """The signature of a record, as its file holds it. The same bytes every time."""
        return f"{_line(_SIGNATURE, self._key.sign(_DOMAIN + record), self.public.id)}\n".encode()


def key_of(signature: bytes) -> str:
    """The id of the key that a signature, as it stands in its file, says it is by. Raises ValueError if it is none."""
    return _parse(signature, _SIGNATURE, 64)[1]


def _line(kind: str, raw: bytes, id_: str) -> str:
    return f"{kind} {base64.b64encode(raw).decode()} {id_}"


def _parse(data: bytes, kind: str, size: int) -> tuple[bytes, str]:
    """The bytes in a line of this kind, and the id of the key. Raises ValueError."""
    words = data.split(b" ")
    if len(words) != 3 or words[0] != kind.encode() or not data.endswith(b"\n"):
        raise ValueError(f"it is not one line of {kind}, base64 and the key's id")
    try:
        raw = base64.b64decode(words[1], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if len(raw) != size or base64.b64encode(raw) != words[1]:
        raise ValueError(f"it does not hold {size} bytes")
    return raw, words[2][:-1].decode("ascii", "replace")


def _read(path: Path, kind: str, wanted: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT)
    except OSError as error:
        raise UsageError(f"{path}: the key can't be read: {error.strerror}") from None
    try:
        raw, id_ = _parse(data, kind, 32)
        public = PublicKey(raw) if kind == _PUBLIC else PrivateKey(raw).public
    except ValueError as error:
        raise UsageError(f"{path}: is no key: {error}; name {wanted}") from None
    if public.id != id_:
        raise UsageError(f"{path}: is damaged: it states the id {id_} and holds the key {public.id}")
    return raw
