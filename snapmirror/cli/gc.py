"""snapmirror gc: free what nothing kept refers to."""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, TypeVar

import typer

from .. import units
from ..digests import Digest
from ..ecosystem import Repo
from ..errors import UsageError
from ..store import gc as collecting
from ..store.eviction import Cache, make_room
from .context import ConfigOption, JsonOption, opened, show, show_json, waiting
from .ecosystems import ECOSYSTEMS

_Value = TypeVar("_Value")


def leaf_digests(kind: str, leaf: bytes) -> Iterator[Digest]:
    """What the store needs to know of a leaf: the files that it lists."""
    return (file.sha256 for file in ECOSYSTEMS[kind].files(leaf) if file.sha256)


def gc(
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="Spare what was stored less than this ago.")
    ] = "24h",
    max_cache: Annotated[
        str, typer.Option("--max-cache", metavar="SIZE", help="Leave so much of what was fetched on demand.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would go.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Apply [retention], then remove every byte that no kept snapshot needs, and of on-demand files those above max_cache."""
    spared = _read("--grace", units.parse_duration, grace)
    with opened(config, write=True) as (settings, store):
        limit = max_cache or settings.max_cache
        cache = Cache(_read("--max-cache", units.parse_size, limit), _replaceable(settings.repo)) if limit else None
        reader = collecting.Reader(store.metadata, leaf_digests)
        collecting.read_ahead(store, reader)
        with store.lock(waiting) as catalog:
            planned = collecting.plan(
                store,
                catalog,
                reader,
                retention=settings.retention,
                keep_trees=settings.publish.tree_age,
                grace=spared,
                on_request=[repo.path for repo in settings.repo if repo.metadata == "on-request"],
            )
            if cache:
                planned = make_room(store, catalog, planned, reader, cache, spared)
            freed = planned.bytes if dry_run else collecting.execute(store, catalog, planned)
    forgotten = [record.id for record in planned.forget]
    if json:
        counts = {"blobs": len(planned.blobs), "evicted": len(planned.evicted), "bytes": freed, "kept": planned.kept}
        show_json({"forgotten": forgotten, **counts, "dry_run": dry_run})
        return
    for id_ in forgotten:
        show(f"would forget {id_}" if dry_run else f"forgot {id_}")
    if planned.evicted:
        files = f"{units.plural(len(planned.evicted), 'file')} of on-demand repos"
        show(f"would make room by dropping {files}" if dry_run else f"made room by dropping {files}")
    removed = f"{units.plural(len(planned.blobs) + len(planned.evicted), 'blob')}, {units.size(freed)}"
    show(f"would free {removed}; {planned.kept} stay" if dry_run else f"freed {removed}; {planned.kept} stay")


def _replaceable(repos: Iterable[Repo]) -> set[str]:
    """The paths of those whose files can be fetched again, and may have to be."""
    return {repo.path for repo in repos if repo.download == "on-demand" and repo.evict and not repo.offline}


def _read(option: str, parse: Callable[[str], _Value], text: str) -> _Value:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
