"""What is noted in the index of the latest state of a directory. It may be lost at any time, and then nothing is known."""

import contextlib
from typing import TypeVar

import msgspec

from ..digests import Digest, sha256
from ..store.index import Index


class Marked(msgspec.Struct, array_like=True, frozen=True):
    """A state that a later reading can be compared with at once (see Reading.since)."""

    #: of the directory that came of it
    directory: Digest
    #: names in it
    names: int
    mark: bytes
    #: names of which something was withheld: they are read again, changed or not
    again: tuple[str, ...] = ()


class _Made(msgspec.Struct, array_like=True, frozen=True):
    """With which settings a state was made."""

    #: of the directory that came of it
    directory: Digest
    #: their digest
    settings: Digest


_Note = TypeVar("_Note", Marked, _Made)


def note(index: Index, path: str, settings: str, more: str, marked: Marked) -> None:
    """Note of a directory what it came to.

    settings: that bear on what is made of a reading; more: what else does; marked: its mark may be empty
    """
    notes: dict[str, Marked | _Made] = {_made_key(path): _Made(marked.directory, sha256(settings.encode()))}
    if marked.mark:
        notes[_mark_key(path, settings + more)] = marked
    index.put_notes({key: msgspec.msgpack.encode(one) for key, one in notes.items()})


def marked(index: Index, path: str, settings: str, more: str) -> Marked | None:
    """A state that was made with the same settings, and with the same of what else bears on it; None if none is known."""
    return _find(index, _mark_key(path, settings + more), Marked)


def is_otherwise_made(index: Index, path: str, directory: Digest, settings: str) -> bool:
    """Whether a state is known to have been made with other settings than these."""
    made = _find(index, _made_key(path), _Made)
    return made is not None and made.directory == directory and made.settings != sha256(settings.encode())


def _find(index: Index, key: str, type_: type[_Note]) -> _Note | None:
    row = index.notes([key]).get(key)
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.msgpack.decode(row, type=type_) if row else None
    return None


def _made_key(path: str) -> str:
    return f"made {path}"


def _mark_key(path: str, settings: str) -> str:
    return f"mark {path} {settings}"
