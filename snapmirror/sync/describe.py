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
        newly_withheld=_newly_withheld(directory),
    )


def replaced(directory: DirectorySync) -> list[str]:
    """Files that have other bytes than before under the same name."""
    plan = directory.plan
    if plan is None or plan.previous is None:
        return []
    found = []
    for leaf in plan.leaves.values():
        with contextlib.suppress(DamagedError):
            before = plan.previous.read_leaf(leaf.name)
            old = {file.name: file.sha256 for file in directory.ecosystem.files(before)} if before else {}
            found += [file.name for file in leaf.files if file.sha256 and old.get(file.name) not in (None, file.sha256)]
    return found


def _newly_withheld(directory: DirectorySync) -> dict[str, str]:
    """Files that are withheld and were not before, and why."""
    plan = directory.plan
    before = plan.previous.document.withheld if plan and plan.previous else {}
    now = plan.withheld if plan else {}
    return {file: _explain(directory, file, reason) for file, reason in now.items() if file not in before}


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
