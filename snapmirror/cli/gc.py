"""snapmirror gc: free what nothing kept refers to."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Annotated

import typer

from .. import units
from ..digests import Digest
from ..ecosystem import Repo
from ..store import gc as collecting
from ..store.eviction import Cache, Room
from ..store.gc import GcPlan
from ..store.mark import Mark
from ..store.store import Store
from .config import Config
from .context import ConfigOption, JsonOption, opened, output, output_json, parsed, waiting
from .ecosystems import ECOSYSTEMS


def leaf_digests(kind: str, leaf: bytes) -> Iterator[Digest]:
    """The files that a leaf lists. Fulfils store.mark.LeafDigests."""
    return (file.sha256 for file in ECOSYSTEMS[kind].files(leaf) if file.sha256)


def gc(
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="Keep whatever was stored less than this ago.")
    ] = "24h",
    max_cache: Annotated[
        str, typer.Option("--max-cache", metavar="SIZE", help="Keep at most this much of what was fetched on demand.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would go, and change nothing.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Apply [retention], then remove every byte that no kept snapshot needs, and of on-demand files what exceeds max_cache."""
    spared = parsed("--grace", units.parse_duration, grace)
    with opened(config, write=True) as (settings, store):
        limit = max_cache or settings.max_cache
        cache = Cache(parsed("--max-cache", units.parse_size, limit), _replaceable(settings.repo)) if limit else None
        if dry_run:
            planned, freed = _collect(store, settings, spared, cache, dry_run=True)
        else:
            with store.outcomes.noting("gc") as noted:
                planned, freed = _collect(store, settings, spared, cache, dry_run=False)
                noted.outcomes[""], noted.numbers = "done", {"freed": freed}
            store.outcomes.note_held(planned.kept, planned.kept_bytes)
    if json:
        counts = {"blobs": len(planned.blobs), "evicted": len(planned.evicted), "bytes": freed, "kept": planned.kept}
        output_json({"forgotten": [record.id for record in planned.forget], **counts, "dry_run": dry_run})
    else:
        _print(planned, freed, dry_run=dry_run)


def _collect(store: Store, settings: Config, grace: timedelta, cache: Cache | None, *, dry_run: bool) -> tuple[GcPlan, int]:
    """What goes, and the bytes freed, or that would be."""
    terms = collecting.Terms(
        retention=settings.retention,
        keep_trees=settings.publish.tree_age,
        grace=grace,
        on_request=[repo.path for repo in settings.repo if repo.metadata == "on-request"],
    )
    mark = Mark(store.metadata, leaf_digests)
    collecting.read_ahead(store, mark, terms)
    room = Room(store, leaf_digests, cache) if cache else None
    if room:
        room.read_ahead(terms)
    with store.lock(waiting) as catalog:
        planned = collecting.plan(store, catalog, mark, terms)
        if room:
            planned = room.plan(catalog, planned, grace)
        return planned, planned.bytes if dry_run else collecting.execute(store, catalog, planned)


def _replaceable(repos: Iterable[Repo]) -> set[str]:
    """The paths of those whose files can be fetched again, and may have to be."""
    return {repo.path for repo in repos if repo.download == "on-demand" and repo.evict and not repo.offline}


def _print(planned: GcPlan, freed: int, *, dry_run: bool) -> None:
    for record in planned.forget:
        output(f"{'would forget' if dry_run else 'forgot'} {record.id}")
    if planned.evicted:
        made = "would make room" if dry_run else "made room"
        output(f"{made} by dropping {units.plural(len(planned.evicted), 'file')} of on-demand repos")
    removed = f"{units.plural(len(planned.blobs) + len(planned.evicted), 'blob')}, {units.size(freed)}"
    output(f"{'would free' if dry_run else 'freed'} {removed}; {planned.kept} stay")
