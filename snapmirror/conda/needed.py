"""What specs, environment files and locks need of a channel: `prefetch` fetches these files."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from ..ecosystem import Needed, Wishes
from ..errors import SelectionError
from ..readings import Reading
from . import wanted
from .listed import listed
from .rules import Specs
from .select import select
from .settings import CondaRepo, Select


def needed(repo: CondaRepo, readings: Mapping[str, Reading], wishes: Wishes, present: datetime) -> Needed:
    """See Ecosystem.needed: of each spec the newest version that it allows, so too of dependencies, and the files of locks.

    All builds of a version are needed, for a solver decides which is installed; a `.tar.bz2` only if there is no `.conda`.
    """
    try:
        asked = Select(
            include=list(wishes.specs),
            include_from=list(wishes.files),
            with_dependencies=bool(wishes.specs),
            newest=1,
            formats=["conda", "tar.bz2"],
            allow_empty=True,
        )
    except ValueError as error:
        raise SelectionError(repo.path, f"can't be meant so: {error}") from None
    repo = msgspec.structs.replace(repo, select=asked)
    kept = select({repo.path: repo}, {(repo.path, name): reading for name, reading in readings.items()}, present)
    drafts = {name: list(found.reading.drafts(list(found.reading.sources))) for (_, name), found in kept.items()}
    records = [record for found in drafts.values() for draft in found for record in listed(draft.content)]
    specs = [*wishes.specs, *wanted.IncludeFiles().read(repo).specs]
    unmet = [text for text in specs if not any(map(Specs([text]).match, records))]
    return Needed(drafts, dict.fromkeys(unmet, "nothing that the channel lists fulfils it"))
