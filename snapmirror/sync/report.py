"""What a sync did, in values: the command line prints them, `--json` encodes them."""

import msgspec

from ..errors import DamagedError, LockedError, SnapmirrorError


class DirectoryReport(msgspec.Struct, kw_only=True):
    """One directory."""

    #: `planned` (dry run), `changed`, `unchanged`, `kept` (its old state, see problem) or `missing` (it has no old state)
    state: str
    problem: str | None = None
    note: str | None = None
    files: int = 0
    bytes: int = 0
    fetch_files: int = 0
    fetch_bytes: int = 0
    #: how many records each rule of the selection left out
    dropped: dict[str, int] = {}
    #: names that keep what they had, because what upstream says of them can't be used: {name: reason}
    aside: dict[str, str] = {}
    withheld: dict[str, str] = {}
    newly_withheld: dict[str, str] = {}


class RepoReport(msgspec.Struct, kw_only=True):
    """One repo."""

    #: why nothing of it could be read, None if something could
    problem: str | None = None
    #: that this leads to; of a repo without a problem 0, or that of damage to some of its directories
    exit_status: int = 0
    directories: dict[str, DirectoryReport] = {}

    @property
    def files(self) -> int:
        """Files that it lists."""
        return sum(directory.files for directory in self.directories.values())

    @property
    def bytes(self) -> int:
        """Bytes of these, as their metadata states."""
        return sum(directory.bytes for directory in self.directories.values())

    @property
    def outcome(self) -> str:
        """How it ended, in a word: `complete`, `kept` (something has its old state, or is missing), `locked`, `failed`."""
        if self.problem:
            return "locked" if self.exit_status == LockedError.exit_status else "failed"
        kept = any(directory.state in ("kept", "missing") or directory.aside for directory in self.directories.values())
        return "kept" if kept else "complete"

    def fail(self, error: SnapmirrorError) -> None:
        """Nothing of it could be read."""
        self.problem = str(error)
        self.exit_status = error.exit_status if isinstance(error, LockedError | DamagedError) else 1


class Report(msgspec.Struct, kw_only=True):
    """A whole sync."""

    #: id of the snapshot that was sealed, None if none was
    snapshot: str | None = None
    dry_run: bool = False
    #: bytes on the disk if the plan is carried out (dry run), as far as the metadata says
    bytes_after: int = 0
    repos: dict[str, RepoReport] = {}

    def exit_status(self, *, strict: bool) -> int:
        """As `snapmirror(1)` says: with several, the first that applies of 5, 1, 4, 3."""
        if any(repo.exit_status == DamagedError.exit_status for repo in self.repos.values()):
            return DamagedError.exit_status
        failed, locked = [repo.exit_status for repo in self.repos.values() if repo.problem], LockedError.exit_status
        if failed and len(failed) == len(self.repos) and set(failed) != {locked}:
            return 1
        if locked in failed:
            return locked
        directories = [directory for repo in self.repos.values() for directory in repo.directories.values()]
        if failed or any(found.state in ("kept", "missing") or found.aside or found.newly_withheld for found in directories):
            return 3
        return 3 if strict and any(found.withheld for found in directories) else 0
