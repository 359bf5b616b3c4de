"""What became of a directory, in values."""

import contextlib

from .. import addresses
from ..errors import DamagedError
from ..store.directories import Directory
from .directory import DirectorySync
from .report import DirectoryReport


def describe(directory: DirectorySync, *, planned: bool) -> DirectoryReport:
    """planned: what is meant to be done is told, not what was done."""
    plan, document = directory.plan, _document(directory)
    if planned and plan:
        state, (files, size) = "planned", plan.listed
    else:
        state = "unchanged" if directory.unchanged else "changed"
        files, size = (document.files, document.size) if document else (0, 0)
    if directory.problem:
        state = "kept" if directory.previous else "missing"
    empty = directory.absent and not directory.problem
    return DirectoryReport(
        state=state,
        problem=str(directory.problem) if directory.problem else None,
        note="upstream has no such directory; it is published empty" if empty else None,
        files=files,
        bytes=size,
        fetch_files=len(plan.wanted) if plan else 0,
        fetch_bytes=plan.wanted_bytes if plan else 0,
        dropped=directory.dropped,
        aside=dict(plan.aside) if plan else {},
        withheld=dict(plan.withheld) if plan else dict(document.withheld) if document else {},
        newly_withheld={file: _explain(directory, file, reason) for file, reason in directory.newly_withheld.items()},
    )


def _document(directory: DirectorySync) -> Directory | None:
    """What is published, None if there is nothing, or nobody can read it."""
    with contextlib.suppress(DamagedError):
        return directory.store.metadata.directory(directory.digest).document if directory.digest else None
    return None


def _explain(directory: DirectorySync, file: str, reason: str) -> str:
    """Why a file is withheld, with the URL that said so; what is stored has none, so that it does not change with it."""
    if file in directory.failed:
        return str(directory.failed[file])
    return f"{addresses.redact(directory.plan.header.document)}: {reason}" if directory.plan else reason
