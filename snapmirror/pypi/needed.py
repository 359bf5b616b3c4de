"""What requirements and locks need of an index (`prefetch`): the pages are mirrored, and now the files are to be as well."""

import copy
from datetime import datetime
from typing import Any

from ..ecosystem import Needed, Wishes
from . import requirements
from .closure import Closure
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
    drafts, missing = [], dict.fromkeys(wanted.projects, "nothing that the index lists fulfils it")
    for draft in reading.drafts(list(closure.names & reading.sources.keys())):
        asked = closure.asked(draft.name)
        left = cut(draft, rules.choose(draft.name, listed(draft.content), asked), asked)
        missing |= left.invalid
        if left.content:
            missing.pop(draft.name, None)
            drafts.append(left)
    return Needed({"": drafts}, missing)
