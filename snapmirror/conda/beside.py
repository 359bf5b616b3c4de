"""What a channel has beside its repodata (`sidecars`): reading it, and cutting it down to the packages that are listed.

All of it is kept in one directory of the repo, named "". A document that says something of packages (see parts) is cut: each
part is in the leaf `<subdir>/<name>`, or `<name>` for a document at the root. Everything else is kept byte for byte, as a
file of the leaf that its name tells. A leaf is canonical MessagePack of

packages     {path below the channel: {"sha256": raw bytes, "size": bytes, "of"}}, as a shard lists packages; "of": of what is
             kept at a package's address with an ending added, the hash of that package, in hexadecimal digits
documents    {path of a document below the channel: its part}
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from blake3 import blake3

from .. import addresses, codec
from ..digests import Digest, sha256
from ..errors import AbsentError, BadIndexError, UpstreamError
from ..readings import Answer, Draft, File, Known, Reading, Unchanged, Upstream
from ..store.directories import DirectoryReader
from ..validators import Validators
from . import leaf as leaves
from . import names, parts
from .revisions import counted, has_counts, times
from .settings import CondaRepo
from .upstream import REPODATA_LIMIT

#: bytes that what is kept at a package's address with an ending added may have
_LIMIT = 64 << 20
#: part of every source digest; raise its number when other leaves are made of the same documents
_SALT = b"conda sidecars 2\0"
#: a leaf that lists nothing, as MessagePack: {}
_EMPTY = b"\x80"


class Beside(Reading):
    """What upstream has. Fulfils `readings.Reading`, and has no drafts: `Followed` cuts it down to what is published."""

    def __init__(
        self, repo: CondaRepo, answers: Mapping[str, tuple[str, Answer]], doubtful: Mapping[str, UpstreamError] | None = None
    ) -> None:
        """answers: {path below the channel: (URL, answer)}
        doubtful: {path: why an upstream could not tell}, of documents that the other upstreams do not have
        """
        self.bases: tuple[str, ...] = tuple(map(addresses.as_folder, repo.upstreams))
        self.document = self.bases[0]
        self.info: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self.invalid: Mapping[str, str] = {}
        self.sources: Mapping[str, Digest] = {}
        self.validators: Mapping[str, Validators] = {
            url: answer.validators for url, answer in answers.values() if answer.validators
        }
        #: {path: (URL, bytes as fetched)}; not expanded, for they are held until all packages are fetched
        self.bodies = {path: (url, answer.body) for path, (url, answer) in answers.items()}
        self.doubtful = doubtful or {}

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts."""
        return iter(())


def read(repo: CondaRepo, subdirs: Collection[str], upstream: Upstream, known: Known) -> Beside | None:
    """Ask upstream for the documents in `sidecars`; None if nothing has changed. Raises UpstreamError.

    A document comes from the first upstream that has it. If one has changed, the unchanged ones are fetched again as well.
    """
    missing = list(_paths(repo, subdirs))
    found: dict[str, tuple[str, Answer]] = {}
    unchanged: dict[str, str] = {}
    problems: dict[str, UpstreamError] = {}
    absent: set[str] = set()
    vanished = False
    for address in repo.upstreams:
        for suffix in (".zst", ""):
            asked = {
                addresses.file_url(addresses.as_folder(address), path + suffix): path
                for path in missing
                if not suffix or _is_cut(path)
            }
            for url, answer in upstream.get_many(asked, limit=REPODATA_LIMIT, known=known):
                if isinstance(answer, Answer):
                    found[asked[url]] = (url, answer)
                elif isinstance(answer, AbsentError):
                    absent.add(asked[url])
                    vanished = vanished or known(url) is not None
                elif isinstance(answer, UpstreamError):
                    problems[asked[url]] = answer
                elif isinstance(answer, Unchanged):
                    unchanged[asked[url]] = url
            missing = [path for path in missing if path not in found and path not in unchanged]
    doubtful = {path: problems[path] for path in missing if path in problems}
    for path in doubtful.keys() - absent:
        raise doubtful[path]
    if unchanged and not (found or vanished or doubtful):
        return None
    found |= _get_anew(unchanged, upstream)
    return Beside(repo, found, doubtful)


def _get_anew(urls: Mapping[str, str], upstream: Upstream) -> Iterator[tuple[str, tuple[str, Answer]]]:
    """(path, (URL, answer)) of documents that have not changed: their parts depend on what is listed. Raises UpstreamError."""
    paths = {url: path for path, url in urls.items()}
    for url, answer in upstream.get_many(paths, limit=REPODATA_LIMIT):
        if isinstance(answer, Exception):
            raise answer
        yield paths[url], (url, answer)


def _paths(repo: CondaRepo, subdirs: Collection[str]) -> Iterator[str]:
    """Where documents may be, as paths below the channel: of names that we don't know, at its root and in each subdir."""
    for name in repo.sidecars:
        if name.startswith("*"):
            continue
        if name not in parts.BY_FILE:
            yield name
        if name not in (parts.CHANNELDATA, parts.NOTICES):
            yield from (f"{subdir}/{name}" for subdir in subdirs)


def _is_cut(path: str) -> bool:
    return path == parts.CHANNELDATA or ("/" in path and path.rpartition("/")[2] in parts.BY_FILE)


class Followed(Reading):
    """What is published of `Beside`: what it says of packages that the snapshot lists. Fulfils `readings.Reading`."""

    def __init__(
        self,
        repo: CondaRepo,
        read: Beside,
        others: Mapping[str, DirectoryReader],
        previous: DirectoryReader | None,
        upstream: Upstream,
    ) -> None:
        """See Follower.follow. Raises UpstreamError if a document that was published before can't be had or read now."""
        self._others, self._previous, self._upstream = others, previous, upstream
        self._endings = [name[1:] for name in repo.sidecars if name.startswith("*")]
        self.bases, self.document, self.extra, self.invalid = read.bases, read.document, read.extra, read.invalid
        self.validators: Mapping[str, Validators] = read.validators
        self._cuts: dict[str, parts.Cut] = {}
        #: what is kept byte for byte: {name of a leaf: {path: bytes}}
        self._files: dict[str, dict[str, bytes]] = {}
        unusable: dict[str, UpstreamError] = dict(read.doubtful)
        for path, (url, body) in sorted(read.bodies.items()):
            try:
                self._take(path, url, body)
            except ValueError as error:
                unusable[path] = BadIndexError(addresses.redact(url), str(error))
        for path, problem in unusable.items():
            if previous and (path in previous.document.info or _lists(previous, path)):
                raise problem
            if path not in read.doubtful:
                upstream.warn(f"{problem}; it is left out")
        self.info: dict[str, Any] = {path: cut.skeleton for path, cut in self._cuts.items()}
        #: {subdir: {package name in a file's name: files that the leaf of another name lists}}
        self._strays: dict[str, dict[str, list[str]]] = {subdir: _strays(reader) for subdir, reader in others.items()}
        for path, cut in self._cuts.items():
            self._count(path, cut)
        self.sources: Mapping[str, Digest] = {name: self._source(name) for name in self._names()}

    def _count(self, path: str, cut: parts.Cut) -> None:
        """Have a document that counts its records of `v3` count those that are left of them."""
        info = cut.skeleton.get("info")
        if isinstance(info, dict) and has_counts(info):
            folder = path.rpartition("/")[0]
            left = (self._parts(f"{folder}/{name}").get(path, {}) for name in cut.names)
            cut.skeleton["info"] = counted(info, [time for part in left for time in times(part)])

    def _take(self, path: str, url: str, body: bytes) -> None:
        """Cut a document, or keep it as it is. Raises ValueError for one that can't be used."""
        if not _is_cut(path):
            _refuse_page(path, body)
            self._files.setdefault(names.leaf_of(path), {})[path] = body
            return
        text = codec.decompress(body, REPODATA_LIMIT) if url.endswith(".zst") else body
        cut = self._cuts[path] = parts.Cut(text, by_name=path == parts.CHANNELDATA)
        if isinstance(stated := cut.skeleton.get("subdirs"), list):
            cut.skeleton["subdirs"] = [subdir for subdir in stated if subdir in self._others]

    def _names(self) -> set[str]:
        """The names of all leaves that may hold something."""
        found = set(self._files)
        for path, cut in self._cuts.items():
            subdir = path.rpartition("/")[0]
            if not subdir:
                found |= {name for name in cut.names if any(name in reader.leaves for reader in self._others.values())}
            elif reader := self._others.get(subdir):
                found |= {f"{subdir}/{name}" for name in cut.names if name in reader.leaves or name in self._strays[subdir]}
        if self._endings:
            found |= {f"{subdir}/{name}" for subdir, reader in self._others.items() for name in reader.leaves}
        return found

    def _about(self, name: str) -> tuple[str, dict[str, parts.Cut], dict[str, DirectoryReader]]:
        """Of the leaf of a name: the package name in it, {path: document that it holds a part of}, {subdir: that lists the
        package}.
        """
        subdir, _, package = name.rpartition("/")
        cuts = {path: cut for path, cut in self._cuts.items() if path.rpartition("/")[0] == subdir}
        others = {subdir: self._others[subdir]} if subdir in self._others else {} if subdir else dict(self._others)
        return package, cuts, others

    def _source(self, name: str) -> Digest:
        package, cuts, others = self._about(name)
        running = blake3(_SALT + repr((self._endings, sorted(self._others))).encode())
        for path, cut in cuts.items():
            running.update(path.encode() + cut.digest(package))
        for subdir, reader in others.items():
            running.update(f"{subdir} {self._strays[subdir].get(package, ())} {reader.document.origin}".encode())
            running.update(reader.leaf(package) or b"")
        for path, body in self._files.get(name, {}).items():
            running.update(path.encode() + sha256(body))
        return running.digest()

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts."""
        for name in names:
            bodies = {sha256(body): body for body in self._files.get(name, {}).values()}
            files = {path: _entry(body) for path, body in self._files.get(name, {}).items()}
            for path, entry, body in self._with_endings(name) if self._endings else ():
                files[path] = entry
                bodies |= {entry["sha256"]: body} if body is not None else {}
            documents = self._parts(name)
            content = self._encode(files, documents) if files or documents else b""
            listed = tuple(File(path, entry["size"], entry["sha256"], None) for path, entry in files.items())
            yield Draft(name, content, listed, self.sources[name], {}, bodies)

    def _parts(self, name: str) -> dict[str, parts.Part]:
        """The parts that the leaf of a name holds: {path of the document: part}. Raises BadIndexError."""
        package, cuts, others = self._about(name)
        found = {}
        for path, cut in cuts.items():
            try:
                part = cut.part(package, self._listed(package, others, by_name=path == parts.CHANNELDATA))
            except ValueError as error:
                raise BadIndexError(addresses.redact(self.bases[0] + path), str(error)) from None
            if by_name := part.get("packages", {}).get(package) if path == parts.CHANNELDATA else None:
                _keep_subdirs(by_name, self._others)
            if part:
                found[path] = part
        return found

    def _encode(self, files: dict[str, Any], documents: dict[str, parts.Part]) -> bytes:
        try:
            return codec.to_msgpack({"packages": files, "documents": documents})
        except OverflowError:
            for path, part in documents.items():
                try:
                    leaves.fit_numbers(part)
                except ValueError as problem:
                    raise BadIndexError(addresses.redact(self.bases[0] + path), str(problem)) from None
            return codec.to_msgpack({"packages": files, "documents": documents})

    def _listed(self, package: str, others: Mapping[str, DirectoryReader], *, by_name: bool) -> Collection[str]:
        """What a part may speak of (see Cut.part): what subdirs list of a package, or the package itself if any lists it."""
        keys = {
            key
            for subdir, reader in others.items()
            for key in (*parts.keys_of(reader.read_leaf(package) or _EMPTY), *self._strays[subdir].get(package, ()))
        }
        return {package} if by_name and keys else () if by_name else keys

    def _with_endings(self, name: str) -> Iterator[tuple[str, dict[str, Any], bytes | None]]:
        """What upstream has at the addresses of a leaf's packages with an ending added: (path, entry, bytes unless held).

        Each address is asked once, when its package is first listed: that is one request a package. What is absent is noted.
        Raises UpstreamError.
        """
        package, _, others = self._about(name)
        before = self._previous.read_leaf(name) if self._previous else None
        held = leaves.decode(before)["packages"] if before else {}
        wanted = {}
        for subdir, reader in others.items():
            for file in leaves.files(reader.read_leaf(package) or _EMPTY):
                base = reader.elsewhere(package, file.name) or addresses.file_url(reader.document.origin, file.name)
                for ending in self._endings:
                    path, of = f"{subdir}/{file.name}{ending}", (file.sha256 or file.other or b"").hex()
                    if path in held and held[path].get("of") == of:
                        yield path, held[path], None
                    else:
                        wanted[addresses.with_credentials(base, self.bases[0]) + ending] = (path, of)
        noted = {f"absent {addresses.redact(url)} {of}": url for url, (_, of) in wanted.items()}
        for key in self._upstream.notes.get(noted):
            del wanted[noted[key]]
        absent = {}
        for url, answer in self._upstream.get_many(wanted, limit=_LIMIT):
            path, of = wanted[url]
            if isinstance(answer, AbsentError):
                absent[f"absent {addresses.redact(url)} {of}"] = b""
            elif isinstance(answer, Exception):
                raise answer
            else:
                yield path, {**_entry(answer.body), "of": of}, answer.body
        self._upstream.notes.put(absent)


def _entry(body: bytes) -> dict[str, Any]:
    return {"sha256": sha256(body), "size": len(body)}


def _lists(reader: DirectoryReader, path: str) -> bool:
    leaf = reader.read_leaf(reader.name_of(path) or names.leaf_of(path))
    return leaf is not None and any(file.name == path for file in leaves.files(leaf))


def _strays(reader: DirectoryReader) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in sorted(reader.names):
        found.setdefault(names.leaf_of(file), []).append(file)
    return found


def _refuse_page(path: str, body: bytes) -> None:
    """Raise ValueError for what is not JSON though its name says so, or is a web page: a "not found" with the status 200."""
    if path.endswith(".json"):
        try:
            msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"can't be parsed: {error}") from None
    elif body.lstrip()[:1] == b"<" and not path.endswith((".html", ".xml")):
        raise ValueError("is a page")


def _keep_subdirs(record: Any, subdirs: Iterable[str]) -> None:
    if isinstance(record, dict) and isinstance(stated := record.get("subdirs"), list):
        record["subdirs"] = [subdir for subdir in stated if subdir in subdirs]
