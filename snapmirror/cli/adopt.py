"""snapmirror adopt: take a mirror that other tools have made into the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from .. import units
from ..ecosystem import Repo
from ..errors import UsageError
from ..store.records import place_of
from ..store.store import Store
from ..sync import adopt_trees
from ..sync.adopt import Adoption, Amount
from ..sync.adopt_trees import Tree
from ..sync.report import Report
from ..sync.settings import Options
from ..transfer.local import file_path
from .config import Config
from .context import ConfigOption, JsonOption, choose, complete_repo, opened, output, output_json, say, time_id, waiting
from .ecosystems import ECOSYSTEMS
from .progress import progress

#: the ecosystems that read trees, by kind
_READERS = {kind: reader for kind, ecosystem in ECOSYSTEMS.items() if (reader := ecosystem.tree_reader())}


class RepoTree(msgspec.Struct, kw_only=True):
    """What became of one repo's part of a tree."""

    folder: str
    #: why nothing of it could be taken
    problem: str | None
    #: files that the snapshot lists of the repo
    files: int
    bytes: int


class TreeReport(msgspec.Struct, kw_only=True):
    """What became of one tree."""

    folder: str
    #: id of the snapshot that was sealed; None if none was
    snapshot: str | None
    #: by path
    repos: dict[str, RepoTree]
    #: files that came in, or would, by a second name and as copies; the others were held already
    linked: int
    linked_bytes: int
    copied: int
    copied_bytes: int
    #: {path: why the file was not taken}
    withheld: dict[str, str]
    #: subdirs that keep their old state, or are not there: {path: why}
    kept: dict[str, str]


class AdoptReport(msgspec.Struct, kw_only=True):
    """What `--json` prints."""

    dry_run: bool
    trees: list[TreeReport] = []
    #: repos that were asked for and stay as they are: {path: why}
    left: dict[str, str] = {}


def adopt(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The tree, or a folder of trees named by their dates.")],
    repo: Annotated[
        str,
        typer.Option(
            "--repo",
            metavar="PATH",
            help="The repo that it is a mirror of: its path, or one above several.",
            autocompletion=complete_repo,
        ),
    ],
    seal_as: Annotated[
        str | None,
        typer.Option(
            "--seal-as", metavar="TIME", help="Date the snapshot in the past: an id, or a date meaning its last second."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Take the files of an existing mirror into the store, by hard links where possible, and seal a snapshot of them."""
    at, path, folder = time_id("--seal-as", seal_as), repo.strip("/"), folder.resolve()
    report, statuses = AdoptReport(dry_run=dry_run), []
    with opened(config, write=True, create=not dry_run, plan=dry_run, sign=not dry_run) as (settings, store):
        chosen = choose(settings.repo, [path])
        report.left = {one.path: problem for one in chosen if (problem := _problem_with(one))}
        if len(report.left) == len(chosen):
            raise UsageError(f"--repo {path}: {report.left[chosen[0].path]}")
        possible = [one for one in chosen if one.path not in report.left]
        found = adopt_trees.find(folder, path, possible, _READERS, at, store.catalog(), store.now())
        report.left |= dict.fromkeys(found.without, f"{folder} holds nothing of it")
        for message in [*(f"{one}: {problem}; it stays as it is" for one, problem in report.left.items()), *found.done]:
            say(message)
        for tree in found.trees:
            done, status = _adopt(tree, settings, store, dry_run=dry_run)
            report.trees.append(done)
            statuses.append(status)
            if not json:
                _print(done, dry_run=dry_run)
    if json:
        output_json(report)
    raise typer.Exit(next((status for status in (1, 4, 3) if status in statuses), 0))


def _problem_with(repo: Repo) -> str | None:
    """Why no tree can become a state of a repo; None if one can."""
    if repo.kind not in _READERS:
        return f"only trees of kind conda and files can be adopted, and this is {repo.kind!r}"
    if repo.download != "eager":
        return f'it has download = "{repo.download}", so it keeps no files; make it "eager" first'
    return None


def _adopt(tree: Tree, settings: Config, store: Store, *, dry_run: bool) -> tuple[TreeReport, int]:
    """What became of one tree, and its exit status."""
    here = [repo for repo in settings.repo if repo.path in tree.repos]
    there = {repo.path: _READERS[repo.kind].at(repo, tree.repos[repo.path]) for repo in here}
    configured = [there.get(repo.path, repo) for repo in settings.repo]
    options = Options(dry_run, tree.seal_as, allow_shrink=tree.seal_as is not None, waiting=waiting)
    with progress("adopt") as bars:
        run = Adoption(store, {**ECOSYSTEMS, **_READERS}, configured, settings.download, settings.exported, bars, options)
        report = run.run(list(there.values()))
    linked, copied = run.linked, run.copied
    withheld = {
        f"{place_of(str(tree.repos[path]), name)}/{file}": reason
        for path, repo in report.repos.items()
        for name, directory in repo.directories.items()
        if not directory.problem  # else these are of its old state
        for file, reason in directory.withheld.items()
    }
    if dry_run:
        plan = run.plan_files()
        linked, copied = (Amount(len(part), sum(one.size for one in part)) for part in (plan.link, plan.copy))
        refused = [(source, error) for wanted, error in plan.refused for source in wanted.stated]
        withheld |= {str(file_path(source.urls[0])): error.problem for source, error in refused}
    return _report(tree, report, linked, copied, withheld), report.exit_status(strict=True) or (3 if withheld else 0)


def _report(tree: Tree, report: Report, linked: Amount, copied: Amount, withheld: Mapping[str, str]) -> TreeReport:
    kept = {
        place_of(path, name): directory.problem
        for path, repo in report.repos.items()
        for name, directory in repo.directories.items()
        if directory.problem
    }
    return TreeReport(
        folder=str(tree.folder),
        snapshot=report.snapshot,
        repos={
            path: RepoTree(folder=str(tree.repos[path]), problem=repo.problem, files=repo.files, bytes=repo.bytes)
            for path, repo in report.repos.items()
        },
        linked=linked.files,
        linked_bytes=linked.bytes,
        copied=copied.files,
        copied_bytes=copied.bytes,
        withheld=dict(withheld),
        kept=kept,
    )


def _print(tree: TreeReport, *, dry_run: bool) -> None:
    for repo in tree.repos.values():
        if repo.problem:
            say(f"{repo.folder}: {repo.problem}")
    for path, problem in tree.kept.items():
        say(f"{path}: {problem}; nothing of it is taken")
    for path, reason in tree.withheld.items():
        say(f"{path}: not taken: {reason}")
    would = "would be " if dry_run else ""
    linked = f"{units.plural(tree.linked, 'file')}, {units.size(tree.linked_bytes)}, {would}linked"
    copied = f"{tree.copied:,}, {units.size(tree.copied_bytes)}, {would}copied"
    output(f"{tree.folder}: {linked}; {copied}; {len(tree.withheld):,} not taken")
    for path, repo in tree.repos.items():
        if tree.snapshot and not repo.problem:
            output(f"{path}: {units.plural(repo.files, 'file')}, {units.size(repo.bytes)} in total")
    if tree.snapshot:
        output(f"Sealed snapshot {tree.snapshot}")
