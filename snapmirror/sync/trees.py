"""The tree objects of a repo: one for each of its directories, with what the repo has beside that, and one for the rest."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from ..digests import Digest, sha256
from ..ecosystem import Ecosystem
from ..store.directories import DirectoryReader
from ..store.records import Record, place_of
from ..store.store import Store
from ..store.trees import gone
from . import export
from .directory import DirectorySync
from .settings import Publish

_Value = TypeVar("_Value")


class RepoTrees:
    """Trees of one state of a repo, under the names that clients ask for."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem], readers: Mapping[str, DirectoryReader]) -> None:
        """readers: its directories by name."""
        self._store = store
        self._ecosystems = ecosystems
        self._readers = readers
        #: whether the directory "" is what there is beside others
        self._follows = "" in readers and len(readers) > 1

    def build(self, standing: Mapping[str, str], *, plain: bool) -> dict[str, str]:
        """Make the objects; {place below the repo: object, or a file in one}, {} if there is no eager directory.

        standing: {name of a directory: object} of those that are there already; plain: see `Publish.plain`
        Raises DamagedError.
        """
        names = [name for name, reader in self._readers.items() if reader.document.mode == "eager"]
        if not any(name or not self._follows for name in names):
            return {}
        links: dict[str, str] = {}
        for name in names:
            if name in standing:
                links[name] = standing[name]
            elif name or not self._follows:
                links[name] = self.build_one(name, plain=plain)
            elif files := [path for path, _ in self.blobs("")] + list(self.documents("", plain=plain)):
                tree = self.build_one("", plain=plain)
                links |= {path: f"{tree}/{path}" for path in files}
        return links

    def build_one(self, name: str, *, plain: bool) -> str:
        """Make the object of one directory, or of what no other directory has. Raises DamagedError."""
        for shown in {name, ""} & self._readers.keys():
            export.refill(self._store, self._ecosystem(shown), self._readers[shown], plain=plain)
        listing, documents = dict(self.blobs(name)), {}
        for path, (digest, suffix) in self.documents(name, plain=plain).items():
            document = documents[path] = self._store.documents.path(digest, suffix)
            try:
                listing[path] = sha256(document.read_bytes()) if suffix else digest
            except FileNotFoundError:
                raise gone(document) from None
        for path, digest in self._store.documents.put_all(self._pages(name)).items():
            listing[path], documents[path] = digest, self._store.documents.path(digest, "")
        return self._store.trees.build(listing, documents)

    def at(self, place: str) -> str:
        """The directory to which a place below the repo belongs."""
        return place if place in self._readers else ""

    def stands(self, name: str, tree: str, *, plain: bool) -> bool:
        """Whether the object of a directory that has not changed is there, with the forms that are wanted now, of which a check
        may have taken one out.
        """
        folder = self._store.trees.path(tree)
        forms = self.documents(name, plain=True).items()
        return folder.is_dir() and all((folder / path).exists() == (bool(suffix) or plain) for path, (_, suffix) in forms)

    def pages(self, name: str) -> Iterator[str]:
        """The names of the pages below a directory."""
        return (path for path, _ in self._pages(name))

    def _pages(self, name: str) -> Iterable[tuple[str, bytes]]:
        pages = self._ecosystem(name).pages
        return pages.static(self._readers[name]) if pages else ()

    def blobs(self, name: str) -> Iterator[tuple[str, Digest]]:
        """Files and leaves below a directory. Raises DamagedError."""
        return self._below(name, self._blobs_of)

    def documents(self, name: str, *, plain: bool) -> dict[str, tuple[Digest, str]]:
        """Documents in every form below a directory: digest of the plain form, and suffix."""
        found = self._below(name, _documents_of)
        return {path: (digest, suffix) for path, (digest, suffix) in found if suffix or plain}

    def _below(
        self, name: str, entries: Callable[[str, DirectoryReader], Iterable[tuple[str, _Value]]]
    ) -> Iterator[tuple[str, _Value]]:
        """What a directory has, and what the repo has beside it in the same folder."""
        if name or not self._follows:
            yield from entries(name, self._readers[name])
        if self._follows:
            for path, value in entries("", self._readers[""]):
                if self._folder_of(path) == name:
                    yield path[len(name) + 1 :] if name else path, value

    def _folder_of(self, path: str) -> str:
        return next((name for name in self._readers if name and path.startswith(f"{name}/")), "")

    def _blobs_of(self, name: str, reader: DirectoryReader) -> Iterator[tuple[str, Digest]]:
        ecosystem = self._ecosystem(name)
        for leaf in reader.leaves.values():
            if path := ecosystem.leaf_path(leaf):
                yield path, leaf
            for path, file in ecosystem.paths(reader.read(leaf)).items():
                if file.sha256:
                    yield path, file.sha256

    def _ecosystem(self, name: str) -> Ecosystem:
        return self._ecosystems[self._readers[name].document.kind]


def _documents_of(name: str, reader: DirectoryReader) -> Iterator[tuple[str, tuple[Digest, str]]]:
    for document, derived in reader.document.documents.items():
        for suffix in derived.suffixes:
            yield document + suffix, (derived.sha256, suffix)


def of_record(store: Store, ecosystems: Mapping[str, Ecosystem], record: Record, publish: Publish) -> dict[str, str]:
    """Make the trees of the repos of a snapshot that a sync would export; {place: tree}, as `Published.publish` takes them."""
    links: dict[str, str] = {}
    for path, repo in record.repos.items():
        if not publish.wants_tree(path, "eager", usual=ecosystems[repo.kind].linked):  # build leaves out what is not eager
            continue
        readers = {name: store.metadata.directory(state.blob) for name, state in repo.directories.items()}
        built = RepoTrees(store, ecosystems, readers).build({}, plain=publish.plain)
        links |= {place_of(path, place): tree for place, tree in built.items()}
    return links


def build_trees(
    store: Store, ecosystems: Mapping[str, Ecosystem], publish: Publish, path: str, directories: Sequence[DirectorySync]
) -> dict[str, str]:
    """The tree objects of what is going to be published of a repo; one that a directory had stands if nothing in it is new.

    directories: all of the repo. Returns what `RepoTrees.build` does. Raises DamagedError.
    """
    if not publish.wants_tree(path, directories[0].repo.download, usual=directories[0].ecosystem.linked):
        return {}
    newest = store.catalog().newest(path)
    links = store.published.links(newest.id) if newest else {}
    trees = RepoTrees(store, ecosystems, {one.name: found for one in directories if (found := one.published)})
    several = bool(directories[0].name)
    following = [one for one in directories if several and not one.name]
    beside = next((one.digest for one in following), None)
    was_beside = newest.repos[path].directories.get("") if several and newest else None
    standing = {
        one.name: link
        for one in directories
        if beside == (was_beside.blob if was_beside else None)  # trees of the others have what lies beside them
        and not one.changed
        # what a check took out of the tree too, and we have had again
        and not any(part.plan and part.plan.leaves for part in (one, *following))
        and (link := links.get(one.path))
        and trees.stands(one.name, link, plain=publish.plain)
    }
    return trees.build(standing, plain=publish.plain)
