"""What specs, environment files and locks need of a channel: `prefetch` fetches these files."""

from collections.abc import Collection, Mapping, Sequence
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
from .specs import Spec


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
    asked_for = wanted.IncludeFiles().read(msgspec.structs.replace(repo, select=asked))
    specs = [*wishes.specs, *asked_for.specs]
    selections = [asked]
    if len(groups := _apart(specs)) > 1:
        lists = [msgspec.structs.replace(asked, include=group, include_from=[], with_dependencies=True) for group in groups]
        selections = [*lists, *([msgspec.structs.replace(asked, include=[], with_dependencies=False)] if wishes.files else [])]
    drafts: dict[str, list[Draft]] = {}
    for selection in selections:
        chosen = msgspec.structs.replace(repo, select=selection)
        kept = select({repo.path: chosen}, {(repo.path, name): reading for name, reading in readings.items()}, present)
        for (_, name), found in kept.items():
            named = asked_for.files.get(name, ())
            left = found.reading.drafts(list(found.reading.sources))
            drafts.setdefault(name, []).extend(_without_twins(draft, named) for draft in left)
    records = [record for every in drafts.values() for draft in every for record in listed(draft.content)]
    unmet = [text for text in specs if not any(map(Specs([text]).match, records))]
    return Needed(drafts, dict.fromkeys(unmet, "nothing that the channel lists fulfils it"))


def _apart(specs: Sequence[str]) -> list[list[str]]:
    """Lists of specs of which none has two of one name, for the newest versions are counted by name, whichever spec means them.
    Each list has one of every name: the others limit what its own needs may be.
    """
    names: dict[str, list[str]] = {}
    for text in dict.fromkeys(specs):
        names.setdefault(Spec(text).name or text, []).append(text)
    longest = max(map(len, names.values()), default=0)
    return [[same[min(number, len(same) - 1)] for same in names.values()] for number in range(longest)]


def _without_twins(draft: Draft, named: Collection[str]) -> Draft:
    """A leaf without the files in the older format that are there in the newer one too. named: files that stay"""
    there = {file.name for file in draft.files}
    worse = {file.removesuffix(".conda") + ".tar.bz2" for file in there if file.endswith(".conda")} & there - set(named)
    if not worse:
        return draft
    files = tuple(file for file in draft.files if file.name not in worse)
    return draft._replace(content=leaf.settle(draft.content, {}, worse), files=files)
