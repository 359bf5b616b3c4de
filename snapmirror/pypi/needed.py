"""What requirements and locks need of an index: for a mirror that has the pages, and is to have the files as well."""

import copy
from datetime import datetime
from typing import Any

import msgspec

from ..ecosystem import Needed, Wishes
from . import requirements
from .closure import Closure
from .rules import Asked, Rules, listed
from .select import cut
from .settings import PypiRepo, Select


def needed(repo: PypiRepo, reading: Any, wishes: Wishes, present: datetime) -> Needed:
    """The newest version that each requirement allows, the same of what that depends on, and the files of locks.

    Which machines count is what `[repo.select]` says of them.
    """
    rules = Select(newest=1, with_dependencies=True, python=repo.select.python, platforms=repo.select.platforms)
    repo = copy.copy(repo)  # and not `replace`: what may be configured together is another question
    repo.requirements, repo.select = list(wishes.files), rules
    wanted = requirements.read(repo, wishes.specs)
    if not any(need.specifier.prereleases for needs in wanted.needs.values() for need in needs):
        repo.select = rules = msgspec.structs.replace(rules, prereleases=False)  # as installers do, unless told otherwise

    def asked(name: str) -> Asked:
        return Asked(False, tuple(wanted.needs.get(name, ())), wanted.bounds.get(name, ()), wanted.files.get(name, {}))

    choose = Rules(rules, present)
    reading.ask_for(wanted.projects)
    closure = Closure(repo, reading, choose)
    closure.run(asked)
    drafts, missing = [], dict.fromkeys(wanted.projects, "nothing that the index lists fulfils it")
    for draft in reading.drafts(list(closure.names & reading.sources.keys())):
        found = closure.asked(draft.name)
        left = cut(draft, choose.choose(draft.name, listed(draft.content), found), found)
        missing |= left.invalid
        if left.content:
            missing.pop(draft.name, None)
            drafts.append(left)
    return Needed({"": drafts}, missing)
