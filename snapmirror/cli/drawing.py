"""What a terminal shows while a verb works: how far each repo is, and a bar for the files that come."""

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from .. import units
from .context import printable

#: stages, those first whose repos are shown first if the terminal is too small for all, each with its style
_STAGES = {"fetching": "green", "reading": "cyan", "publishing": "green", "failed": "red", "waiting": "dim"}
#: lines of the terminal that are not for repos
_SPARED = 4
_LEAST = 3


class _Row(NamedTuple):
    """One repo."""

    repo: str
    stage: str
    detail: str


class Drawing(Progress):
    """The drawing; `rows` may be changed at any time."""

    def __init__(self) -> None:
        #: by path of the repo
        self.rows: dict[str, _Row] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        super().__init__(*columns, console=Console(stderr=True), transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """See Progress."""
        if self.rows:
            yield self._table()
        yield from super().get_renderables()

    def _table(self) -> Table:
        rows, order = list(self.rows.values()), list(_STAGES)
        room = max(self.console.height - _SPARED, _LEAST)
        shown = rows if len(rows) <= room else sorted(rows, key=lambda row: order.index(row.stage))[: room - 1]
        table = Table.grid(padding=(0, 2))
        for row in shown:
            table.add_row(row.repo, Text(row.stage, _STAGES[row.stage]), Text(row.detail, no_wrap=True, overflow="ellipsis"))
        if len(shown) < len(rows):
            table.add_row(f"and {len(rows) - len(shown)} more", "", "")
        return table


class Bars:
    """Fulfils sync.fetch.Progress for people."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._task = drawing.add_task("fetch", total=None, visible=False)

    def message(self, text: str) -> None:
        """Above the drawing."""
        self._drawing.console.print(printable(text), markup=False, highlight=False)

    def stage(self, repo: str, stage: str, detail: str) -> None:
        """A line of the table."""
        self._drawing.rows[repo] = _Row(repo, stage, printable(detail))

    def begin(self, files: int, size: int) -> None:
        """Draw the bar."""
        self._drawing.reset(self._task, description=units.plural(files, "file"), total=size or None, visible=True)

    def arrived(self, size: int) -> None:
        """Move the bar."""
        self._drawing.advance(self._task, size)

    def end(self) -> None:
        """Take the bar away."""
        self._drawing.update(self._task, visible=False)
