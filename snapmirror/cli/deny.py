"""snapmirror deny, allow and denied: what is not handed out, whatever snapshots list it."""

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
from .context import ConfigOption, JsonOption, opened, printable, say, show, show_json, waiting
from .ecosystems import ECOSYSTEMS

RepoArgument = Annotated[str, typer.Argument(metavar="REPO", help="Path of the repo.")]
SpecArgument = Annotated[
    str, typer.Argument(metavar="SPEC", help="NAME, NAME==VERSION, the name of a file, or its SHA-256 (64 hexadecimal digits).")
]


def deny(
    repo: RepoArgument,
    spec: SpecArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Told to whoever asks for it.")],
    config: ConfigOption = None,
) -> None:
    """Hand a package, a version of it or a file out no longer, from any snapshot, and publish it in no later one."""
    repo = repo.strip("/")
    if not reason.strip() or not reason.isprintable():
        raise UsageError("--reason: write one line of text; it is told to whoever asks for what is denied")
    with opened(config, write=True, allow_clashes=True) as (settings, store), store.lock(waiting) as catalog:
        text = denying.canonical(_ecosystem(settings, catalog, repo), spec.strip())
        found = denying.find(store, ECOSYSTEMS, catalog.history(repo), repo, text)
        before = next((rule for rule in store.denied.rules() if (rule.repo, rule.spec) == (repo, text)), None)
        files = {file.sha256: file for file in (*(before.files if before else ()), *found.files.values())}
        if is_hex_digest(text):
            files.setdefault(text, DeniedFile(sha256=text))
        since = before.since if before else clock.to_id(store.now())
        store.denied.write(Rule(repo=repo, spec=text, reason=reason.strip(), since=since, files=tuple(files.values())))
    for problem in found.damage:
        say(f"{repo}: {problem}; what it lists may still be handed out: deny it again when it is mended")
    say(f"denied {text} of {repo}: {_extent(found)}{'; the reason was another' if before else ''}")
    if found.damage:
        raise typer.Exit(found.damage[0].exit_status)


def _ecosystem(settings: Config, catalog: Catalog, repo: str) -> Ecosystem:
    """That of a repo. Raises UsageError for a repo that is neither configured nor in a kept snapshot."""
    if configured := next((one for one in settings.repo if one.path == repo), None):
        return ECOSYSTEMS[configured.kind]
    if history := catalog.history(repo):
        return ECOSYSTEMS[history[0].repos[repo].kind]
    known = sorted({*(one.path for one in settings.repo), *(path for record in catalog.records for path in record.repos)})
    raise UsageError(f"{repo}: no such repo is configured or in a snapshot (there are: {', '.join(known) or 'none'})")


def _extent(found: Found) -> str:
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
        text = spec
        if not any(spec == rule.spec and rule.repo in (repo, "") for rule in rules):  # so of a repo that is gone too
            text = denying.canonical(_ecosystem(settings, catalog, repo), spec)
        taken = [rule for rule in rules if rule.spec == text and (rule.repo == repo or not rule.repo)]
        if not taken:
            own = ", ".join(rule.spec for rule in rules if rule.repo in (repo, "")) or "nothing"
            raise UsageError(f"{text} of {repo} is not denied by itself (denied of it: {own})")
        for rule in taken:
            store.denied.remove(rule)
        left = {file.sha256: rule for rule in rules if rule not in taken for file in rule.files}
    say(f"allowed {text} of {repo}; the next sync lists it again")
    _say_what_stays(taken, left)


def _say_what_stays(taken: list[Rule], left: Mapping[str, Rule]) -> None:
    """Name the rules by which files stay denied."""
    staying = [left[file.sha256] for rule in taken for file in rule.files if file.sha256 in left]
    for name in sorted({_name(rule) for rule in staying}):
        count = units.plural(sum(_name(rule) == name for rule in staying), "file")
        say(f"{count} of it {'stays' if count.startswith('1 ') else 'stay'} denied: {name} is")


def _name(rule: Rule) -> str:
    return f"{rule.spec} of {rule.repo}" if rule.repo else rule.spec


def denied(json: JsonOption = False, config: ConfigOption = None) -> None:
    """List what is denied, each with what `allow` takes."""
    with opened(config, write=False, allow_clashes=True) as (_, store):
        rules = store.denied.rules()
    if json:
        show_json({"denied": [_as_json(rule) for rule in rules]})
        return
    for rule in rules:
        since = f" since {rule.since}" if rule.since else ""
        files = f", {units.plural(len(rule.files), 'file')}" if rule.repo and not is_hex_digest(rule.spec) else ""
        show(f"{rule.repo or 'any repo'} {printable(rule.spec)}{since}{files}: {printable(rule.reason) or 'no reason stated'}")


def _as_json(rule: Rule) -> dict[str, Any]:
    return {**msgspec.structs.asdict(rule), "files": [{"sha256": file.sha256, "name": file.name} for file in rule.files]}
