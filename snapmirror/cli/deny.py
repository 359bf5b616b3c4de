"""snapmirror deny, allow and denied: what is not handed out, whichever snapshots list it."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer

from .. import clock, units
from ..digests import is_hex_digest
from ..ecosystem import Ecosystem
from ..errors import UsageError
from ..store.catalog import Catalog
from ..store.denied import DeniedFile, Rule
from ..sync import deny as denying
from ..sync.deny import Found
from .config import Config
from .context import ConfigOption, JsonOption, complete_repo, opened, output, output_json, printable, say, waiting
from .ecosystems import ECOSYSTEMS

RepoArgument = Annotated[str, typer.Argument(metavar="REPO", help="Path of the repo.", autocompletion=complete_repo)]
SpecArgument = Annotated[
    str, typer.Argument(metavar="SPEC", help="NAME, NAME==VERSION, a file's name, or its SHA-256 (64 hexadecimal digits).")
]


def deny(
    repo: RepoArgument,
    spec: SpecArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Told to whoever asks for it.")],
    config: ConfigOption = None,
) -> None:
    """Stop handing out a package, a version of it or a single file, at any date, and leave it out of later snapshots."""
    repo = repo.strip("/")
    if not reason.strip() or not reason.isprintable():
        raise UsageError("--reason: write one line of text; whoever asks for what is denied is told it")
    with opened(config, write=True, allow_clashes=True) as (settings, store), store.lock(waiting) as catalog:
        text = denying.canonical(_ecosystem(settings, catalog, repo), spec.strip())
        found = denying.find(store, ECOSYSTEMS, denying.kept(store, catalog, repo), text)
        live = store.live.state(repo)
        latest = denying.find(store, ECOSYSTEMS, map(denying.blobs_of, live.all) if live else [], text)
        before = next((rule for rule in store.denied.rules() if (rule.repo, rule.spec) == (repo, text)), None)
        every = (*(before.files if before else ()), *found.files.values(), *latest.files.values())
        files = {file.sha256: file for file in every}
        if is_hex_digest(text):
            files.setdefault(text, DeniedFile(sha256=text))
        since = before.since if before else clock.to_id(store.now())
        store.denied.write(Rule(repo=repo, spec=text, reason=reason.strip(), since=since, files=tuple(files.values())))
    for problem in found.damage:
        say(f"{repo}: {problem}; what it lists may still be handed out; mend it, then deny this again")
    say(f"denied {text} of {repo}: {_extent(found)}{'; the reason was another' if before else ''}")
    if found.damage:
        raise typer.Exit(found.damage[0].exit_status)


def _ecosystem(settings: Config, catalog: Catalog, repo: str) -> Ecosystem:
    """The ecosystem of a repo. Raises UsageError for one that is neither configured nor in a kept snapshot."""
    if configured := next((one for one in settings.repo if one.path == repo), None):
        return ECOSYSTEMS[configured.kind]
    if history := catalog.history(repo):
        return ECOSYSTEMS[history[0].repos[repo].kind]
    known = sorted({*(one.path for one in settings.repo), *(path for record in catalog.records for path in record.repos)})
    raise UsageError(f"{repo}: no such repo is configured or in a snapshot (there are: {', '.join(known) or 'none'})")


def _extent(found: Found) -> str:
    """How many files and snapshots a rule stands for, in words."""
    if not found.snapshots:
        return "no kept snapshot lists it; it is left out when upstream does"
    text = f"{units.plural(len(found.files), 'file')} in {units.plural(found.snapshots, 'snapshot')}"
    if found.unsummed:
        count = units.plural(len(found.unsummed), "file")
        text += f"; {count} more without a known SHA-256 can be left out of later snapshots only"
    return text


def allow(repo: RepoArgument, spec: SpecArgument, config: ConfigOption = None) -> None:
    """Take a denial back: what was denied is handed out again, and listed from the next sync on."""
    repo, spec = repo.strip("/"), spec.strip()
    with opened(config, write=True, allow_clashes=True) as (settings, store), store.lock(waiting) as catalog:
        rules = store.denied.rules()
        here = [rule for rule in rules if rule.repo in (repo, "")]
        text = spec
        if not any(rule.spec == spec for rule in here):  # else its repo may be gone, and what its names mean with it
            text = denying.canonical(_ecosystem(settings, catalog, repo), spec)
        taken = [rule for rule in here if rule.spec == text]
        if not taken:
            own = ", ".join(rule.spec for rule in here) or "nothing"
            raise UsageError(f"{text} of {repo} is not denied by itself (denied of it: {own})")
        for rule in taken:
            store.denied.remove(rule)
        left = {file.sha256: rule for rule in rules if rule not in taken for file in rule.files}
    say(f"allowed {text} of {repo}; the next sync lists it again")
    _say_what_stays(taken, left)


def _say_what_stays(taken: list[Rule], left: Mapping[str, Rule]) -> None:
    """Name the rules by which files stay denied. left: the rules that are left, by the SHA-256 of each file"""
    staying = [left[file.sha256] for rule in taken for file in rule.files if file.sha256 in left]
    for name, count in sorted(Counter(map(_name, staying)).items()):
        say(f"{units.plural(count, 'file')} of it {'stays' if count == 1 else 'stay'} denied: {name} is")


def _name(rule: Rule) -> str:
    return f"{rule.spec} of {rule.repo}" if rule.repo else rule.spec


def denied(json: JsonOption = False, config: ConfigOption = None) -> None:
    """List what is denied, in the words that `allow` takes."""
    with opened(config, write=False, allow_clashes=True) as (_, store):
        rules = store.denied.rules()
    if json:
        output_json({"denied": [_as_json(rule) for rule in rules]})
        return
    for rule in rules:
        since = f" since {rule.since}" if rule.since else ""
        files = f", {units.plural(len(rule.files), 'file')}" if rule.repo and not is_hex_digest(rule.spec) else ""
        reason = printable(rule.reason) or "no reason stated"
        output(f"{rule.repo or 'any repo'} {printable(rule.spec)}{since}{files}: {reason}")


def _as_json(rule: Rule) -> dict[str, Any]:
    return {**msgspec.structs.asdict(rule), "files": [{"sha256": file.sha256, "name": file.name} for file in rule.files]}
