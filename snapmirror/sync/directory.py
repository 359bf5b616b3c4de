"""One directory on its way through a sync: read, planned, settled, finished."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from blake3 import blake3

from .. import addresses, clock
from ..digests import Digest
from ..ecosystem import Ecosystem, Repo
from ..errors import (
    AbsentError,
    DamagedError,
    HelperEnded,
    MismatchError,
    SelectionError,
    ShrinkError,
    SnapmirrorError,
    TransportError,
    UpstreamError,
)
from ..readings import Draft, Known, Reading, Selection
from ..store.assembly import Assembled, with_documents
from ..store.directories import DirectoryReader
from ..store.index import Seen
from ..store.records import DirectoryState, place_of
from ..store.store import Store
from ..transfer.download import Source
from ..transfer.http import Http
from ..validators import Validators
from . import asof, export, noted
from .allowed import Allowed, Rules
from .asof import AsOf
from .dated import Dated
from .noted import Marked
from .plan import DirectoryPlan, build_directory, make_plan, missing
from .settings import Options, Publish
from .settle import settle_leaf


@dataclass(eq=False)
class DirectorySync:
    """One directory. How far it has come is told by what is set:

    `reading`  it was read, and is not planned yet
    `plan`     it is planned; from `stage` on there is also `unfinished`
    `final`    it is finished: its documents are known
    `problem`  it keeps its old state: the others are None, and stay so
    nothing    it is `unchanged`
    """

    store: Store
    ecosystem: Ecosystem
    repo: Repo
    name: str
    #: in the snapshot before, None if it was not there
    previous: DirectoryState | None
    options: Options
    #: a text of all settings that bear on what is made of a reading, the same whatever is denied
    settings: str = ""
    #: what upstream lists, until it is planned
    reading: Reading | None = None
    #: documents of upstream that proved unusable
    avoided: tuple[str, ...] = ()
    #: how many records each rule of the selection has dropped
    dropped: dict[str, int] = field(default_factory=dict)
    #: when upstream was read, in the form of an id
    read_at: str = ""
    plan: DirectoryPlan | None = None
    #: the directory as planned, while its documents are not known: gc is told of it, but it becomes no blob
    unfinished: Assembled | None = None
    #: the directory as it is going to be published
    final: Assembled | None = None
    #: upstream says that it is as it was, or it has come out so
    unchanged: bool = False
    #: upstream has no such directory
    absent: bool = False
    problem: SnapmirrorError | None = None
    #: files that could not be had: {name: why}
    failed: dict[str, UpstreamError] = field(default_factory=dict)
    #: names that keep their old leaves though they were selected with the others: {name: why}; only if these depend on them
    late: dict[str, str] = field(default_factory=dict)
    #: whether the plan was made without knowing of all of them
    outdated: bool = False
    #: what the operator has denied
    rules: Rules = field(init=False)
    #: blobs that were found bad, of which the state that is made will list none that can't be had
    bad: frozenset[Digest] = frozenset()
    #: see Selection.tied
    _tied: bool = False

    def __post_init__(self) -> None:
        self.rules = Rules(self.ecosystem, self.repo.path, self.store.denied.rules())

    @property
    def path(self) -> str:
        """Where the directory is published."""
        return place_of(self.repo.path, self.name)

    @property
    def reader(self) -> DirectoryReader | None:
        """The previous state."""
        return self.store.metadata.directory(self.previous.blob) if self.previous else None

    @property
    def files_before(self) -> int | None:
        """How many files it listed before; None if that is not known."""
        with contextlib.suppress(DamagedError):
            return self.store.metadata.counts(self.previous.blob).files if self.previous else None
        return None

    # Read and plan

    def keep(self, problem: SnapmirrorError) -> None:
        """Keep the old state, whatever was made by now."""
        self._drop()
        self.problem = problem

    def _drop(self) -> None:
        """Forget what was read, and what came of it."""
        self.reading = self.plan = self.unfinished = self.final = None

    def read(self, http: Http, *, conditionally: bool = True) -> None:
        """Ask upstream. Sets `reading`, `unchanged` or `problem`; reads the store only, so several may run in threads.

        conditionally: whether upstream may answer that nothing has changed since the present state was made
        """
        if self.problem:  # read again for the sake of others of its group
            return
        self._drop()
        self.unchanged = self.absent = self.outdated = False
        self.read_at = clock.to_id(self.store.now())
        if self.repo.offline:  # it is here for the sake of another repo
            if self.previous:
                self.unchanged, self.read_at = True, self.previous.read
            else:
                self.keep(TransportError(addresses.redact(self.repo.upstreams[0]), "is not asked: its repo is offline"))
            return
        self.bad = self.store.quarantined()
        anew = not conditionally or self.failed or self.avoided
        try:
            known: Known = self._known if self.reader and not anew else lambda _: None
            self.reading = self._ask(http, known)
        except (UpstreamError, DamagedError) as error:
            self.keep(error)
            return
        self.unchanged = self.reading is None
        if self.reading:
            self.reading.before = lambda name: self.reader.read_leaf(name) if self.reader else None
            self.reading.names_before = lambda: self.reader.leaves if self.reader else ()
            if self.late:
                self.reading.set_aside(self.late)
            self.cut(self.reading)

    def cut(self, reading: Reading) -> None:
        """Leave out what may not be published before anything is selected: the newest version is the newest of what is left."""
        drafts, past = reading.drafts, self.options.past
        reading.left_out = f"{past}{self.rules.text}"
        if not (past or self.rules.text):
            return

        def cut(names: Collection[str]) -> Iterator[Draft]:
            for draft in drafts(names):
                allowed = self.rules.cut_draft(self.ecosystem, draft) if self.rules.text else draft
                yield asof.cut(self.ecosystem, allowed, past) if past else allowed

        reading.drafts = cut  # type: ignore[method-assign]

    def _ask(self, http: Http, known: Known) -> Reading | None:
        try:
            return self.ecosystem.read(self.repo, self.name, http, known, self.avoided)
        except AbsentError:
            if self.avoided:
                raise
            self.absent = True
            if self.reader and self.reader.document.files and not self.options.allow_shrink:
                raise
            return self.ecosystem.empty(self.repo, self.name)

    def make_plan(self, selection: Selection) -> None:
        """Plan what is kept of what was read. Sets `plan`, or `problem`.

        Raises what the drafts of the reading raise, but for what no other form of the index could mend.
        """
        reading, self._tied, aside = selection.reading, selection.tied, set(selection.reading.aside)
        if self.rules.text:
            reading = Allowed(self.ecosystem, reading, self.rules)
        if self.options.past:
            reading = AsOf(reading, self.options.past)
        if self.ecosystem.dated(self.repo):
            sealed = self.options.seal_as
            reading = Dated(self.store, self.ecosystem, self.repo, self.name, reading, sealed or self.read_at, sealed)
        try:
            plan = make_plan(self.store, self.ecosystem, self.repo, self.name, reading, self.reader, self._marked())
            self._refuse_to_shrink(plan)
        except (ShrinkError, SelectionError, TransportError, HelperEnded, DamagedError) as error:
            self.keep(error)
        else:
            self.plan, self.reading = plan, None
            self._note_late({name: why for name, why in plan.aside.items() if name not in aside})
        self.dropped = dict(selection.dropped)

    def _marked(self) -> Marked | None:
        """What the previous state was, in short, if that is noted."""
        return noted.marked(self.store.index, self.path, self.settings, self._more)

    @property
    def _more(self) -> str:
        """A text of what bears on what is made of a reading beside the settings: the time that is meant, what is denied, and
        what is no longer there.
        """
        past = f" as of {self.options.past}" if self.options.past else ""
        bad = f" lacking {blake3(b''.join(sorted(self.bad))).hexdigest()}" if self.bad else ""
        return f"{past}{self.rules.text}{bad}"

    def _refuse_to_shrink(self, plan: DirectoryPlan) -> None:
        before = self.reader.document.files if self.reader else 0
        before -= plan.files_of(plan.gone)
        now, _ = plan.listed
        if now * 2 < before and self.reader:
            before -= self.rules.count(self.ecosystem, self.reader)
        if now * 2 < before and not self.options.allow_shrink and not self._reselected:
            url = addresses.redact(plan.header.document or plan.header.bases[0])
            raise ShrinkError(url, before, now)

    @property
    def _reselected(self) -> bool:
        """Whether the state before was made with another selection, so that less may be listed without any accident.

        It counts as made with the same if nobody knows, as after a loss of the index: else an accident would be believed.
        """
        if not self.ecosystem.selects(self.repo) or self.previous is None:
            return False
        return noted.is_otherwise_made(self.store.index, self.path, self.previous.blob, self.settings)

    def _known(self, document: str) -> Validators | None:
        """What upstream said of a document when the present state was made of it."""
        seen = self.store.index.seen(self._seen_key(document))
        return seen.validators if seen and self.previous and seen.directory == self.previous.blob else None

    def _seen_key(self, document: str) -> str:
        """A reading can stand for the state only if it was made with the same settings."""
        return f"{self.path} {addresses.redact(document)} {self.settings}{self._more}"

    def lost_ground(self, referred: Collection[Digest]) -> bool:
        """Whether a gc has taken away what the plan builds on, which it may until that is one of its roots.

        referred: the directories that are roots: what hangs on these stays
        """
        if self.previous and self.previous.blob not in referred:
            return True
        found = [leaf.blob for leaf in self.plan.leaves.values() if leaf.blob not in self.plan.blobs] if self.plan else []
        return any(self.store.blobs.size(leaf) is None for leaf in found)

    # Fetch and settle

    def sources(self) -> list[Source]:
        """The files to fetch."""
        return [self.plan.source(file) for file in self.plan.wanted] if self.plan else []

    def take(self, fetched: Mapping[str, Digest | UpstreamError]) -> None:
        """Note which files could not be had: {key of a source: its SHA-256, or why}; others are passed over.

        A failure of transport keeps the old state: of the leaf where each is read by itself, else of all. The rest is settled.
        """
        self.failed = {}
        if self.plan is None:
            return
        plan = self.plan
        self.failed = self._misstated(plan) | {
            file.name: result for file in plan.wanted if isinstance(result := fetched.get(plan.source(file).key), UpstreamError)
        }
        broken = {name: error for name, error in self.failed.items() if isinstance(error, TransportError)}
        if self.ecosystem.read_by_leaf and plan.standing:
            late = {leaf: str(broken[file]) for leaf, file in plan.listing(broken).items()}
            plan.set_aside(late)
            self._note_late(late)
            self.failed = {name: error for name, error in self.failed.items() if name not in broken}
        elif broken:
            self.keep(next(iter(broken.values())))

    def _note_late(self, names: Mapping[str, str]) -> None:
        if self._tied and names:
            self.late |= names
            self.outdated = True

    def _misstated(self, plan: DirectoryPlan) -> dict[str, UpstreamError]:
        """Files whose bytes are held, with another size than their record states: a client would refuse them."""
        if self.repo.download == "redirect":
            return {}
        wrong = []
        for batch in plan.batches():
            listed = [file for file in batch if file.sha256 and file.size is not None]
            held = self.store.held(file.sha256 for file in listed if file.sha256)
            wrong += [(file, size) for file in listed if (size := held.get(file.sha256 or b"", file.size)) != file.size]
        urls = {file.name: addresses.redact(plan.source(file).urls[0]) for file, _ in wrong}
        return {file.name: MismatchError(urls[file.name], "size", str(file.size), str(size)) for file, size in wrong}

    def settle(self, fetched: Mapping[str, Digest | UpstreamError]) -> None:
        """Withhold what could not be had, and complete the records whose digest is known only now."""
        if self.plan is None:
            return
        plan = self.plan
        for name, error in self.failed.items():
            plan.withheld[name] = error.problem
        for leaf in list(plan.leaves.values()):
            files = list(leaf.files)
            digests = {
                file.name: result
                for file in files
                if file.sha256 is None and isinstance(result := fetched.get(plan.source(file).key), bytes)
            }
            withheld = {file.name for file in files if file.name in self.failed}
            if withheld:
                plan.wanting.add(leaf.name)
            withheld |= {file.name for file in files if digests.get(file.name, file.sha256) in self.rules.digests}
            settle_leaf(self.store, plan, leaf, digests, withheld)
        self.unfinished = None
        try:
            self._refuse_to_shrink(plan)  # an upstream whose files have all become a login page, say
        except ShrinkError as error:
            self.keep(error)

    def lost(self) -> list[Source]:
        """Files of the settled directory that are not in the store: gc took them before they were registered."""
        return [self.plan.source(file) for file in missing(self.plan, self.store.held)] if self.plan else []

    def refresh_wanted(self) -> None:
        """Look up again what is missing: only what is held after the registration stays held."""
        if self.plan:
            self.plan.wanted = missing(self.plan, self.store.held)

    # Finish

    def stage(self) -> dict[Digest, bytes]:
        """Store leaves and buckets as planned so far, and the directory once it is finished; their bytes, by digest."""
        if self.plan is None:
            return {}
        if self.final is None:
            self.unfinished = build_directory(self.plan)
        return self._put(self.plan)

    def _put(self, plan: DirectoryPlan) -> dict[Digest, bytes]:
        blobs = dict(plan.blobs)
        if self.final:
            blobs |= self.final.blobs
        elif self.unfinished:
            blobs |= self.unfinished.blobs
            del blobs[self.unfinished.digest]  # it would be an orphan once its documents are known
        self.store.put(list(blobs.values()))
        rows = {leaf.canonical: leaf.blob for leaf in plan.leaves.values()}
        rows.update({leaf.source: leaf.blob for leaf in plan.leaves.values() if leaf.source})
        self.store.index.put_leaves(rows)
        return blobs

    def finish(self, publish: Publish) -> None:
        """Derive documents, which completes the directory. Sets `final`, and `unchanged` if it comes out as it was."""
        if self.plan is None:
            return
        wanted = self.ecosystem.documents(self.repo, self.plan.header.info)
        old = self.reader.document.documents if self.reader else {}
        same = {planned.name: planned.suffixes for planned in wanted} == {name: was.suffixes for name, was in old.items()}
        bare = self.unfinished = self.unfinished or build_directory(self.plan)
        made = with_documents(bare, old) if same else None
        if made and self.previous and made.digest == self.previous.blob:
            self.unchanged, self.plan.blobs = True, {}
        else:
            self._put(self.plan)
            plain = publish.plain and publish.wants_tree(self.repo.path, self.repo.download, usual=self.ecosystem.linked)
            reader = DirectoryReader(self.store.metadata, bare.digest, bare.directory)
            made = with_documents(bare, export.derive(self.store, self.ecosystem, reader, wanted, plain=plain))
        self.final, self.unfinished = made, None

    @property
    def changed(self) -> bool:
        """Whether something else is going to be published than before."""
        return self.digest != (self.previous.blob if self.previous else None)

    @property
    def published(self) -> DirectoryReader | None:
        """What is going to be published, once it is finished: the directory itself may not be stored yet."""
        return DirectoryReader(self.store.metadata, self.final.digest, self.final.directory) if self.final else self.reader

    @property
    def digest(self) -> Digest | None:
        """The directory that is going to be published, as far as is known: the new one, or the one it had."""
        if self.final:
            return self.final.digest
        return self.previous.blob if self.previous else None

    def remember(self) -> None:
        """Once it is sealed: ask upstream "changed since?" next time. Not if a file failed: it must be tried again."""
        if self.plan is None or self.final is None:
            return
        self.bad &= self.store.quarantined()  # the others have been had again; what was found bad since then comes to light
        digest, validators = self.final.digest, self.plan.header.validators
        if not (self.failed or self.plan.aside):
            self.store.index.put_seen({self._seen_key(url): Seen(known, digest) for url, known in validators.items()})
        marked = Marked(digest, self.plan.names, self.plan.mark, tuple(sorted(self.plan.wanting)))
        noted.note(self.store.index, self.path, self.settings, self._more, marked)
