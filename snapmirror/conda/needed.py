"""What specs, environment files and locks need of a channel: `prefetch` fetches these files."""

from collections.abc import Collection, Mapping
from datetime import datetime

import msgspec

from ..ecosystem import Needed, Wishes
from ..errors import SelectionError
from ..readings import Draft, Reading
from . import leaf, wanted
from .listed import listed
from .rules import Specs
from .select import select
from .settings import CondaRepo, Select


def needed(repo: CondaRepo, readings: Mapping[str, Reading], wishes: Wishes, present: datetime) -> Needed:
    """See Ecosystem.needed: of each spec the newest version that it allows, so too of dependencies, and the files of locks.

    All builds of a version are needed, for a solver decides which is installed; a `.tar.bz2` only if there is no `.conda`, or
    if a lock names it.
    """
    try:
        asked = Select(
            include=list(wishes.specs),
            include_from=list(wishes.files),
            with_dependencies=bool(wishes.specs),
            newest=1,
            allow_empty=True,
        )
    except ValueError as error:
        raise SelectionError(repo.path, f"can't be meant so: {error}") from None
    repo = msgspec.structs.replace(repo, select=asked)
    kept = select({repo.path: repo}, {(repo.path, name): reading for name, reading in readings.items()}, present)
    asked_for = wanted.IncludeFiles().read(repo)
    drafts = {
        name: [
            _without_twins(draft, asked_for.files.get(name, ())) for draft in found.reading.drafts(list(found.reading.sources))
        ]
        for (_, name), found in kept.items()
    }
    records = [record for found in drafts.values() for draft in found for record in listed(draft.content)]
    specs = [*wishes.specs, *asked_for.specs]
    unmet = [text for text in specs if not any(map(Specs([text]).match, records))]
    return Needed(drafts, dict.fromkeys(unmet, "nothing that the channel lists fulfils it"))


def _without_twins(draft: Draft, named: Collection[str]) -> Draft:
    """A leaf without the files in the older format that are there in the newer one too. named: files that stay"""
    there = {file.name for file in draft.files}
    worse = {file.removesuffix(".conda") + ".tar.bz2" for file in there if file.endswith(".conda")} & there - set(named)
    if not worse:
        return draft
    files = tuple(file for file in draft.files if file.name not in worse)
    return draft._replace(content=leaf.settle(draft.content, {}, worse), files=files)
