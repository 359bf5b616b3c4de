"""What requirements and locks need of an index (`prefetch`): the pages are mirrored, and now the files are to be as well."""

import copy
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..ecosystem import Needed, Wishes
from . import requirements
from .closure import Closure
from .requirements import Asked, Wanted
from .rules import Rules, listed
from .select import cut
from .settings import PypiRepo, Select


def needed(repo: PypiRepo, reading: Any, wishes: Wishes, present: datetime) -> Needed:
    """The newest version that each requirement allows, the same of what that depends on, and the files of locks.

    Of `[repo.select]` only `python` and `platforms` count: which machines are going to install.
    Raises SelectionError for wishes that can't be read, UpstreamError.
    """
    select = Select(newest=1, with_dependencies=True, python=repo.select.python, platforms=repo.select.platforms)
    repo = copy.copy(repo)  # `replace` would check whether these may be configured together
    repo.requirements, repo.select = list(wishes.files), select
    wanted = requirements.read(repo, wishes.specs)
    rules = Rules(select, present, final=True)
    reading.ask_for(wanted.projects)
    closure = Closure(repo, reading, rules, wanted.asked)
    closure.run()
    drafts, pages = [], {}
    missing: dict[str, str] = {}
    for draft in reading.drafts(list(closure.names & reading.sources.keys())):
        asked, pages[draft.name] = closure.asked(draft.name), listed(draft.content)
        left = cut(draft, rules.choose(draft.name, pages[draft.name], asked), asked)
        missing |= left.invalid
        if left.content:
            drafts.append(left)
    unmet = [
        text
        for name in wanted.projects
        for text, asked in _wishes(wanted, name)
        if not rules.choose(name, pages.get(name, ()), asked).files
    ]
    return Needed({"": drafts}, missing | dict.fromkeys(unmet, "nothing that the index lists fulfils it"))


def _wishes(wanted: Wanted, name: str) -> Iterator[tuple[str, Asked]]:
    """What is wished for of a project, each by itself: that one is fulfilled says nothing of another."""
    for need in wanted.needs.get(name, ()):
        yield f"{name}{need.specifier}", Asked(needs=(need,), bounds=wanted.bounds.get(name, ()))
    if name in wanted.files:
        yield name, Asked(files=wanted.files[name])
