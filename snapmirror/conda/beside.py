"""What a channel has beside its repodata: which documents upstream has, and what is made of them for what is listed.

All of it is kept in one directory of the repo, named "". A document that lists packages is cut into parts
(`parts.Cut`), one leaf a subdir and name; everything else is a file, byte for byte, that a leaf lists as a shard
lists a package.
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
from .settings import CondaRepo
from .upstream import REPODATA_LIMIT

#: bytes of a file that is kept as it is
_LIMIT = 64 << 20
_SALT = b"conda sidecars 1\0"

#: a leaf: the parts of documents by their path below the channel, and files as a shard has packages
_Leaf = dict[str, Any]


class Beside(Reading):
    """What an upstream has. Fulfils `readings.Reading`; nothing of it is published before `Followed` has cut it down."""

    def __init__(
        self, repo: CondaRepo, answers: Mapping[str, tuple[str, Answer]], doubtful: Mapping[str, UpstreamError] | None = None
    ) -> None:
        """answers: {path below the channel: (URL, what is there)}
        doubtful: {path: why one upstream could not tell}, of those that the others have not
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
        #: {path: (URL, bytes as fetched)}; still compressed, for it is held while all packages are fetched
        self.bodies = {path: (url, answer.body) for path, (url, answer) in answers.items()}
        self.doubtful = doubtful or {}

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts."""
        return iter(())


def read(repo: CondaRepo, subdirs: Collection[str], upstream: Upstream, known: Known) -> Beside | None:
    """What upstream has of the documents in `sidecars`; None if nothing has changed. Raises UpstreamError."""
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
    """What has not changed, beside others that have: what is made of it depends on them."""
    paths = {url: path for path, url in urls.items()}
    for url, answer in upstream.get_many(paths, limit=REPODATA_LIMIT):
        if isinstance(answer, Exception):
            raise answer
        yield paths[url], (url, answer)


def _paths(repo: CondaRepo, subdirs: Collection[str]) -> Iterator[str]:
    """Where a document may be, below the channel: those of other names than we know, at its root and in each subdir."""
    for name in repo.sidecars:
        if name.startswith("*"):
            continue
        if name not in parts.BY_FILE:
            yield name
        if name not in (parts.CHANNELDATA, "notices.json"):
            yield from (f"{subdir}/{name}" for subdir in subdirs)


def _is_cut(path: str) -> bool:
    return path == parts.CHANNELDATA or ("/" in path and path.rpartition("/")[2] in parts.BY_FILE)


class Followed(Reading):
    """What is published of it: of packages that the snapshot lists, and of no other. Fulfils `readings.Reading`."""

    def __init__(
        self,
        repo: CondaRepo,
        read: Beside,
        others: Mapping[str, DirectoryReader],
        previous: DirectoryReader | None,
        upstream: Upstream,
    ) -> None:
        """others: the subdirs as they are published; previous: what was published of it before. Raises BadIndexError."""
        self._others, self._previous, self._upstream = others, previous, upstream
        self._endings = [name[1:] for name in repo.sidecars if name.startswith("*")]
        self.bases, self.document, self.extra, self.invalid = read.bases, read.document, read.extra, read.invalid
        self.validators: Mapping[str, Validators] = read.validators
        self._cuts: dict[str, parts.Cut] = {}
        #: {name of a leaf: {path: bytes}}
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
        #: {subdir: {name in the files' names: files that are listed under another}}
        self._strays: dict[str, dict[str, list[str]]] = {subdir: _strays(reader) for subdir, reader in others.items()}
        self.sources: Mapping[str, Digest] = {name: self._source(name) for name in self._names()}

    def _take(self, path: str, url: str, body: bytes) -> None:
        if not _is_cut(path):
            _refuse_page(path, body)
            self._files.setdefault(names.leaf_of(path), {})[path] = body
            return
        text = codec.decompress(body, REPODATA_LIMIT) if url.endswith(".zst") else body
        cut = self._cuts[path] = parts.Cut(text, by_name=path == parts.CHANNELDATA)
        if isinstance(stated := cut.skeleton.get("subdirs"), list):
            cut.skeleton["subdirs"] = [subdir for subdir in stated if subdir in self._others]

    def _names(self) -> set[str]:
        """The leaves that there may be: `<subdir>/<name>`, and of channeldata.json `<name>`."""
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
        """The package name in that of a leaf, the documents that may speak of it, and the subdirs that may list it."""
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
        """The leaves of these names. Raises UpstreamError."""
        for name in names:
            bodies = {sha256(body): body for body in self._files.get(name, {}).values()}
            files = {path: _entry(body) for path, body in self._files.get(name, {}).items()}
            for path, entry, body in self._with_endings(name) if self._endings else ():
                files[path] = entry
                bodies |= {entry["sha256"]: body} if body is not None else {}
            made: _Leaf = {"packages": files, "documents": self._parts(name)}
            content = _encode(made) if made["packages"] or made["documents"] else b""
            listed = tuple(File(path, entry["size"], entry["sha256"], None) for path, entry in files.items())
            yield Draft(name, content, listed, self.sources[name], {}, bodies)

    def _parts(self, name: str) -> dict[str, parts.Part]:
        """{path: what that document says of a name}."""
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

    def _listed(self, package: str, others: Mapping[str, DirectoryReader], *, by_name: bool) -> Collection[str]:
        keys = {
            key
            for subdir, reader in others.items()
            for key in (*parts.keys_of(reader.read_leaf(package) or b"\x80"), *self._strays[subdir].get(package, ()))
        }
        return {package} if by_name and keys else () if by_name else keys

    def _with_endings(self, name: str) -> Iterator[tuple[str, dict[str, Any], bytes | None]]:
        """(path, entry, bytes unless they are held) of what upstream has at a package's address with an ending added.

        Asked for once, when a package is first listed: there is one request a package.
        """
        package, _, others = self._about(name)
        before = self._previous.read_leaf(name) if self._previous else None
        held = leaves.decode(before)["packages"] if before else {}
        wanted = {}
        for subdir, reader in others.items():
            for file in leaves.files(reader.read_leaf(package) or b"\x80"):
                base = reader.elsewhere(package, file.name) or addresses.file_url(reader.document.origin, file.name)
                for ending in self._endings:
                    path, of = f"{subdir}/{file.name}{ending}", (file.sha256 or file.other or b"").hex()
                    if path in held and held[path]["of"] == of:
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


def _encode(made: _Leaf) -> bytes:
    try:
        return codec.to_msgpack(made)
    except OverflowError:
        leaves.drop_huge_numbers(made["documents"])
        return codec.to_msgpack(made)


def _lists(reader: DirectoryReader, path: str) -> bool:
    leaf = reader.read_leaf(reader.name_of(path) or names.leaf_of(path))
    return leaf is not None and any(file.name == path for file in leaves.files(leaf))


def _strays(reader: DirectoryReader) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in sorted(reader.names):
        found.setdefault(names.leaf_of(file), []).append(file)
    return found


def _refuse_page(path: str, body: bytes) -> None:
    """Raise ValueError for what is no JSON though its name says so, or a page: a server's "not found" with the status 200."""
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
