"""Looking for damage in signatures: those that are missing, and those that do not match their records."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .check import Problem
from .store import Store

if TYPE_CHECKING:
    from .signatures import PrivateKey


def signatures(store: Store, key: "PrivateKey | None") -> Iterator[Problem]:
    """Signatures that are missing, that are none, and that do not match their records.

    key: what those by it are compared with; of others only the form can be told, as in a copy, or from before a change of keys
    """
    for record in store.snapshots.readable()[0].records:
        files = store.snapshots.files(record.id)
        if not files or (files.signature is None and not record.signed):
            continue
        if problem := _signature(files.record, files.signature, record.signed or "", key):
            yield Problem(f"snapshots/{record.id}.sig", f"{problem}; restore it from a backup or a replica")


def _signature(record: bytes, signature: bytes | None, signer: str, key: "PrivateKey | None") -> str:
    """What is wrong with a signature, empty if nothing is known to be. signer: of whom the record says it, if it does"""
    from .signatures import key_of  # its library takes 0.1 s to load

    if signature is None:
        return f"is missing, and the record says that the key {signer} has signed it"
    try:
        id_ = key_of(signature)
    except ValueError as error:
        return f"is no signature: {error}"
    if signer and id_ != signer:
        return f"is by the key {id_}, and the record says that {signer} has signed it"
    return key.public.problem(record, signature) if key and key.public.id == id_ else ""
