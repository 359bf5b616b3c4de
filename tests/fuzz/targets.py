"""One function for each parser of bytes that somebody else has made: upstreams, clients, operators, and damaged disks.

Each takes any bytes and calls the parser as the program does. It returns if the parser read them, or refused them with an error
that its callers catch; whatever else it raises is a fault of ours.
"""

# ruff: noqa: E501 -- seeds are one line each

import atexit
import contextlib
import io
import os
import shutil
import struct
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from snapmirror import addresses, clock, codec, units, weights
from snapmirror.cli import config
from snapmirror.conda import derive, flat, leaf, listed, naming, parts, patches, sharded, solving, specs, wanted
from snapmirror.conda import names as conda_names
from snapmirror.digests import sha256
from snapmirror.errors import SnapmirrorError, UpstreamError
from snapmirror.files import leaf as files_leaf
from snapmirror.files import names as files_names
from snapmirror.files import pages, releases, sums
from snapmirror.pypi import leaf as pypi_leaf
from snapmirror.pypi import legacy, listing, names, page, requirements, wheels
from snapmirror.pypi import negotiate as pypi_negotiate
from snapmirror.pypi import pages as pypi_pages
from snapmirror.pypi.platforms import Machines, pythons
from snapmirror.pypi.settings import PypiRepo
from snapmirror.readings import Answer
from snapmirror.serve import negotiate, resolve, respond
from snapmirror.serve.answers import Refused
from snapmirror.store import catalog, denied, directories, index, live, records, syncing
from snapmirror.transfer import http

URL = "https://upstream.example/simple/foo/"
CHANNEL = "https://upstream.example/channel/noarch/repodata.json"
LIMIT = 1 << 22


class Target(NamedTuple):
    """A parser, and what mutations begin with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    #: words of the format
    words: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {}


def target(*seeds: bytes | str, words: str = "") -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Name a function as a target; words: of the format, with spaces between them."""

    def add(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
        begun = tuple(seed.encode() if isinstance(seed, str) else seed for seed in seeds)
        TARGETS[function.__name__] = Target(function, begun, tuple(words.split()))
        return function

    return add


def text_of(data: bytes) -> str:
    """A text as it comes out of a header or an address: any byte may be in it."""
    return data.decode("utf-8", "replace")


@cache
def folder() -> Path:
    """Where targets that need a file write it. Whoever asks first removes it at its end: a fuzzer of its own has none of Python."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = tempfile.mkdtemp(prefix="snapmirror-fuzz-", dir=where)
    atexit.register(shutil.rmtree, made)
    return Path(made)


def _file(name: str, data: bytes) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def _is_plain(name: str) -> bool:
    """Whether a published name stays below its folder."""
    return not any(part in ("", ".", "..") for part in name.split("/")) and "\0" not in name and "\\" not in name


# Compression ---------------------------------------------------------------------------------------------------------


@target(codec.compress(b"a" * 100, 3), codec.compress(b"", 3) * 3)
def zst(data: bytes) -> None:
    """`.zst` of an upstream."""
    with contextlib.suppress(ValueError):
        assert len(codec.decompress(data, LIMIT)) <= LIMIT


@target(b"BZh91AY&SY", b"BZh9\x17rE8P\x90\x00\x00\x00\x00")
def bz2(data: bytes) -> None:
    """`.bz2` of an upstream."""
    with contextlib.suppress(ValueError):
        assert len(codec.decompress_bz2(data, LIMIT)) <= LIMIT


# conda ---------------------------------------------------------------------------------------------------------------

RECORD = '{"name":"a","version":"1","build":"0","build_number":0,"depends":["b >=1"],"size":3,"md5":"' + "0" * 32 + '"}'
REPODATA = (
    '{"info":{"subdir":"noarch"},"packages":{"a-1-0.tar.bz2":'
    + RECORD
    + '},"packages.conda":{"a-1-0.conda":'
    + RECORD
    + '},"v3":{"whl":{"a-1-0":'
    + RECORD
    + '}},"removed":["a-0-0.conda"],"repodata_version":1}'
)
CONDA = "packages packages.conda v3 removed info base_url name version build size md5 sha256 url fn timestamp 1e400 null"


def _check_conda(reading: Any) -> None:
    for draft in reading.drafts(list(reading.sources)):
        for file in draft.files:
            assert conda_names.problem_with(file.name) is None, file.name
        if draft.content:
            shard = leaf.decode(draft.content)
            assert leaf.settle(draft.content, {}, ()) == draft.content
            assert {file.name for file in leaf.files(draft.content)} == {file.name for file in draft.files}
            list(listed.listed(draft.content))
            leaf.as_of(draft.content, 1)
            parts.keys_of(draft.content)
            msgspec.json.decode(derive.join(derive._members(shard["packages"])))
    codec.to_json(codec.deeper(lambda: msgspec.msgpack.decode(codec.to_msgpack([reading.info, reading.extra])), 20))


@target(REPODATA, '{"info":{"base_url":"../x"},"packages":{}}', words=CONDA)
def repodata(data: bytes) -> None:
    """repodata.json, its leaves and what is made of them."""
    with contextlib.suppress(UpstreamError):
        _check_conda(flat.FlatReading(CHANNEL, data, "", None))


class _Shards:
    """An upstream that has one shard."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def get_many(self, urls: Any, **_: Any) -> Iterator[tuple[str, Answer]]:
        yield from ((url, Answer(self._body, None, url)) for url in urls)


@target(
    codec.to_msgpack({"info": {"base_url": "", "shards_base_url": "./s/"}, "shards": {"a": bytes(32)}, "version": 1}),
    words=CONDA + " shards shards_base_url",
)
def shard_index(data: bytes) -> None:
    """The plain form of repodata_shards.msgpack.zst."""
    with contextlib.suppress(UpstreamError):
        found = sharded.ShardedReading(CHANNEL, codec.compress(data, 1), _Shards(b""), None)  # type: ignore[arg-type]
        codec.to_json(found.info)
        codec.to_json(found.extra)


@target(codec.to_msgpack(msgspec.json.decode(REPODATA)), words=CONDA)
def shard(data: bytes) -> None:
    """The plain form of a shard."""
    body = codec.compress(data, 1)
    shards = codec.to_msgpack({"info": {}, "shards": {"a": sha256(body)}})
    with contextlib.suppress(UpstreamError):
        _check_conda(sharded.ShardedReading(CHANNEL, codec.compress(shards, 1), _Shards(body), None))  # type: ignore[arg-type]


@target(codec.to_msgpack(msgspec.json.decode(REPODATA)), words=CONDA)
def conda_leaf(data: bytes) -> None:
    """A leaf of a damaged store."""
    for read in (leaf.decode, leaf.files, leaf.names_in):
        with contextlib.suppress(ValueError):
            read(data)


@target(REPODATA, words=CONDA + " run_exports remove revoke patch_instructions_version")
def sidecar_document(data: bytes) -> None:
    """run_exports.json, channeldata.json and their like, cut and put together again."""
    for by_name in (False, True):
        with contextlib.suppress(ValueError):
            cut = parts.Cut(data, by_name=by_name)
            found = [cut.part(name, [name, "a-1-0.conda", "whl/a-1-0"]) for name in sorted(cut.names)]
            for part in found:
                leaf.fit_numbers(part)
            msgspec.json.decode(parts.whole(cut.skeleton, found))


@target('{"patch_instructions_version":1,"packages":{"a-1-0.tar.bz2":{"depends":null}},"revoke":["a-1-0.conda"]}', words=CONDA)
def patch(data: bytes) -> None:
    """patch_instructions.json of a folder of packages."""
    with contextlib.suppress(UpstreamError):
        patches.apply(msgspec.json.decode(REPODATA), _file("patch_instructions.json", data))


@target(
    "dependencies:\n- python >=3\n- pip:\n  - x\n", "@EXPLICIT\nhttps://a/b/c-1-0.conda#" + "0" * 32, words="&a *a << : - | >"
)
def include_from(data: bytes) -> None:
    """environment.yml, lists of addresses; what is none is taken for a lock file."""
    with contextlib.suppress(ValueError):
        wanted.read_file(_file("environment.yml", data))


@target(
    "numpy >=1.2,!=1.4|(3.*|~=4.1) *_cpython",
    'a[version="<2",when="(b or c >=1) and d",flags=[cuda],extras=[x]]',
    "main/noarch::^a.*$[license=MIT,track_features='x y',build_number=\">1\",md5=" + "0" * 32 + "]",
    "https://x.example/noarch/a-1-0.conda",
    words="( [ ] ) when= and or == ~= != | , ; if :: / * ^ $ url= fn= subdir= sha256=",
)
def match_spec(data: bytes) -> None:
    """What a record asks for. The solver, which is given it too, is not run here: it may end the process after its work."""
    text = text_of(data)
    facts = {"name": "a", "version": "1", "build": "0", "build_number": 0, "depends": [text], "constrains": [text]}
    [record] = listed.listed(codec.to_msgpack({"packages.conda": {"a-1-0.conda": facts}}))
    solving.package(record, 0, "noarch")
    if found := specs.dependency(text):
        assert found.foreign is None or found.foreign
        assert found.matches(record.build) in (True, False)
        assert found.is_conditional in (True, False)
        assert found.name is None or found.speaks_of(found.name)


# PyPI ----------------------------------------------------------------------------------------------------------------

PAGE = (
    '{"meta":{"api-version":"1.1","_last-serial":1},"name":"foo","versions":["1"],"files":[{"filename":"foo-1-py3-none-any.whl",'
    '"url":"../foo-1-py3-none-any.whl","hashes":{"sha256":"' + "0" * 64 + '"},"size":1,"requires-python":">=3","yanked":"x",'
    '"core-metadata":true,"upload-time":"2026-01-01T00:00:00Z","provenance":"https://x.example/y"}]}'
)
ANCHOR = (
    '<meta name="pypi:repository-version" content="1.1"><title>Links for foo</title><base href="/x/"><a href="foo-1.tar.gz#sha256='
    + "0" * 64
    + '" data-requires-python="&gt;=3" data-yanked data-size=3 data-upload-time="2026-01-01T00:00:00Z">foo-1.tar.gz</a><!--SERIAL 1-->'
)
KEYS = "filename url hashes sha256 size requires-python yanked core-metadata upload-time provenance project-status meta api-version"
TAGS = "<a href= </a> <base <meta <!-- --> <![CDATA[ <? <script> <table> <tr> <title> &#x &lt; ../ http://[ content= data-"


def _check_page(answer: Answer) -> None:
    with contextlib.suppress(UpstreamError):
        found = page.read(answer, "foo")
        page.serial(answer, found)
        draft = page.draft("foo", found, URL, None, provenance=True)
        for file in draft.files:
            assert "/" not in file.name, file.name
            assert _is_plain(file.name)
        assert pypi_leaf.settle(draft.content, {}, ()) == draft.content
        pypi_leaf.paths(draft.content)
        pypi_leaf.as_of(draft.content, 1)
        pypi_leaf.label(draft.content)
        again = page.read(Answer(pypi_pages.project_json(draft.content), None, URL), "foo")
        assert len(again["files"]) == len(found["files"])
        page.read(Answer(pypi_pages.project_html(draft.content), None, URL), "foo")
        msgspec.json.decode(legacy.project(draft.content))


@target(PAGE, words=KEYS)
def page_json(data: bytes) -> None:
    """A project's page in JSON, and what is made of it."""
    _check_page(Answer(b"{" + data.removeprefix(b"{"), None, URL))


@target(ANCHOR, words=TAGS)
def page_html(data: bytes) -> None:
    """A project's page in HTML, and what is made of it. The first byte chooses an encoding."""
    charset = ("utf-8", "utf-7", "latin-1", "utf-16", "unicode_escape", "idna")[data[0] % 6] if data[:1] >= b"\xf0" else ""
    headers = {"content-type": f"text/html; charset={charset}"} if charset else {}
    body = data[1:] if charset else data
    if not page.is_json(Answer(body, None, URL, headers)):
        _check_page(Answer(body, None, URL, headers))


@target(
    '{"meta":{"api-version":"1.1","_last-serial":3},"projects":[{"name":"Foo","_last-serial":1}]}', ANCHOR, words=KEYS + TAGS
)
def project_list(data: bytes) -> None:
    """The list of all projects, in JSON and HTML."""
    with contextlib.suppress(UpstreamError):
        found = listing.read(Answer(data, None, URL))
        assert all(map(names.is_project, found.names))
        assert len(found.names) == len(found.numbers)


@target(codec.to_msgpack(msgspec.json.decode(PAGE)), words=KEYS)
def pypi_leaf_(data: bytes) -> None:
    """A leaf of a damaged store, as `check` reads it."""
    for read in (pypi_leaf.decode, pypi_leaf.head, pypi_leaf.label, pypi_leaf.files):
        with contextlib.suppress(ValueError):
            read(data)


@target(
    "Metadata-Version: 2.2\nName: foo\nRequires-Dist: a>1\nDynamic: x\n\nText",
    words="Content-Type: multipart/mixed; =?utf-8?b?",
)
def metadata(data: bytes) -> None:
    """METADATA and PKG-INFO."""
    wheels.is_static(data)
    for text in wheels.requires_of(data):
        with contextlib.suppress(ValueError):
            requirements._take_line(text, requirements.Wanted(), _machines(), constraint=True)


@cache
def _machines() -> Machines:
    repo = PypiRepo(path="x", upstream=URL)
    return Machines(pythons(repo.select.python), repo.select.platforms)


def _archive(kind: str) -> bytes:
    import tarfile
    import zipfile

    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("foo-1.dist-info/METADATA", "Name: foo\n")
            archive.writestr("foo-1/PKG-INFO", "Name: foo\n")
    else:
        with tarfile.open(fileobj=buffer, mode="w:") as tar:
            entry = tarfile.TarInfo("foo-1/PKG-INFO")
            entry.size = 10
            tar.addfile(entry, io.BytesIO(b"Name: foo\n"))
    return buffer.getvalue()


@target(_archive("zip"))
def wheel(data: bytes) -> None:
    """A wheel, and an sdist in a zip."""
    for read, name in ((wheels.metadata_in, "foo-1-py3-none-any.whl"), (wheels.pkg_info_in, "foo-1.zip")):
        with contextlib.suppress(ValueError):
            assert len(read(io.BytesIO(data), name)) <= wheels.METADATA_LIMIT


@target(_archive("tar"))
def sdist(data: bytes) -> None:
    """The tar in an sdist."""
    import gzip

    with contextlib.suppress(ValueError):
        assert len(wheels.pkg_info_in(io.BytesIO(gzip.compress(data, 1)), "foo-1.tar.gz")) <= wheels.METADATA_LIMIT


@target(
    "foo-1.0-2-cp311.cp312-abi3-manylinux_2_17_x86_64.whl",
    "foo-1.0rc1.tar.gz",
    "foo-1.0.win32-py2.7.exe",
    words="-py3-none-any.whl .zip",
)
def file_name(data: bytes) -> None:
    """Names of files, as every ecosystem reads them."""
    text = text_of(data)
    if not names.problem_with(text, "foo"):
        names.parse(text, "foo")
        assert _is_plain(text)
    names.leaf_of(text)
    if not conda_names.problem_with(text):
        assert "/" not in text
        assert _is_plain(text)
    conda_names.leaf_of(text)
    conda_names.version_of(text)
    if not files_names.problem_with(text):
        assert _is_plain(text)
        files_names.versions(text)


@target(
    "foo[x]>=1,<2; python_version<'3' and (os_name=='a') --hash=sha256:" + "0" * 64 + "\n-c other.txt\n",
    words="=== ~= != @ ; # \\",
)
def requirements_txt(data: bytes) -> None:
    """requirements.txt; files that it includes are not there."""
    _read_requirements("requirements.txt", data)


@target(
    'version = 1\n[[package]]\nname="foo"\nsource={registry="x"}\nwheels=[{url="https://x/y.whl",hash="sha256:00"}]\n',
    words="[[ ]] { }",
)
def uv_lock(data: bytes) -> None:
    """uv.lock."""
    _read_requirements("uv.lock", data)


@target(
    'lock-version="1.0"\ncreated-by="x"\n[[packages]]\nname="foo"\nversion="1"\n[packages.sdist]\nurl="https://x/foo-1.tar.gz"\n'
    '[packages.sdist.hashes]\nsha256="00"\n',
    words="[[packages.wheels]] index marker upload-time",
)
def pylock_toml(data: bytes) -> None:
    """pylock.toml."""
    _read_requirements("pylock.toml", data)


def _read_requirements(name: str, data: bytes) -> None:
    repo = PypiRepo(path="x", upstream=URL, requirements=[str(_file(name, data))])
    with contextlib.suppress(SnapmirrorError):
        requirements.read(repo)


# files ---------------------------------------------------------------------------------------------------------------


def _check_listing(read: Callable[[bytes, str], pages.Page], data: bytes) -> None:
    with contextlib.suppress(UpstreamError):
        found = read(data, URL)
        for entry in found.files:
            assert _is_plain(entry.name), entry.name
            assert entry.name not in found.invalid
        assert all(map(_is_plain, found.folders))
        assert sum(len(entry.text) for entry in found.files) < 10_000 + 1100 * len(data)


@target(
    '<h1>Index of /x</h1><table><tr><td><a href="a.sh">a.sh</a></td><td>1.5M</td><td>2026-01-01 00:00</td></tr></table>',
    '<tr><td><a href="a.sh">a.sh</a></td><td>Nov 20, 2026 01:00:30</td><td>12 KB</td><td><a href="a.sh.asc">a</a></td></tr>',
    '<pre><a href="../">up</a><br><br>11/20/2026  1:00 AM 777 <a href="a.zip">a.zip</a><br>Fri Nov 20 01:00:30 UTC 2026</pre>',
    words=TAGS + " <pre> <br> <td>",
)
def autoindex(data: bytes) -> None:
    """A listing in HTML."""
    _check_listing(pages.parse, data)


@target(
    '[{"tag_name":"v1","assets":[{"name":"a","browser_download_url":"https://x/a","size":1,"digest":"sha256:00","updated_at":"2026-01-01"}]}]',
    '[{"name":"a","type":"file","mtime":"Mon, 01 Jan 2026 00:00:00 GMT","size":3},{"url":"b","md5":"00"}]',
    words="draft folder modified sha256 directory http://[",
)
def releases_json(data: bytes) -> None:
    """A listing in JSON."""
    _check_listing(releases.parse, data)


@target(f"{'0' * 64}  a\n{'0' * 32} *b\nSHA256 (c) = {'0' * 64}\n")
def sha256sums(data: bytes) -> None:
    """SHA256SUMS, and `.sha256` beside a file."""
    assert all(len(digest) in (16, 32) for digest in sums.parse(data).values())
    assert len(sums.sidecar(data, "x/a") or bytes(32)) == 32


@target(codec.to_msgpack({"name": "a", "size": 1, "sha256": bytes(32), "modified": 1}))
def files_leaf_(data: bytes) -> None:
    """A leaf of a damaged store."""
    with contextlib.suppress(ValueError):
        found = files_leaf.decode(data)
        assert files_leaf.decode(files_leaf.encode(found)) == found


# What operators write ------------------------------------------------------------------------------------------------


@target(
    'store="x"\nmax_cache="1GB"\n[retention]\nkeep_daily=3\n[serve]\nlisten="127.0.0.1:1"\n[[repo]]\nkind="conda"\npath="a"\n'
    'upstream="https://x/y"\nsubdirs=["noarch"]\n[repo.select]\ninclude=["a"]\n[[repo]]\nkind="pypi"\npath="b"\nupstream="https://x/s"\n',
    words="[[repo]] [download] [publish] [repo.select] kind channels exclude newest min_age depth merge packages mode",
)
def configuration(data: bytes) -> None:
    """snapmirror.toml."""
    with contextlib.suppress(SnapmirrorError):
        config.load(_file("snapmirror.toml", data))


@target("1.5 GiB", "90d", "*.sh", "**/[!a]*/", "foo==1.0", "a-1-0.conda", words="GB KiB 999999999999 ** [! ]")
def words_of_operators(data: bytes) -> None:
    """Sizes, durations, globs and what is denied."""
    text = text_of(data)
    from snapmirror.files import naming as files_naming
    from snapmirror.pypi import naming as pypi_naming

    for read in (units.parse_size, units.parse_duration, naming.naming, pypi_naming.naming, files_naming.naming):
        with contextlib.suppress(ValueError):
            read(text)
    with contextlib.suppress(ValueError):
        files_names.glob(text[:100])("a/b/c")


# The store -----------------------------------------------------------------------------------------------------------

STATE = f'{{"digest":"{"0" * 64}","since":"20260101T000000Z","read":"20260101T000000Z"}}'
SEALED = (
    f'{{"state":"sealed","id":"20260101T000000Z","number":1,"repos":{{"a":{{"kind":"conda","directories":{{"x":{STATE}}}}}}}}}'
)
FORGOTTEN = '{"state":"forgotten","id":"20260101T000000Z","number":1,"forgotten":"20260101T000000Z","repos":["a"]}'
PRESENT = datetime(2026, 1, 2, tzinfo=UTC)


@target(SEALED, FORGOTTEN, words="state sealed forgotten partial reconstructed number repos directories digest since read")
def record(data: bytes) -> None:
    """A snapshot's record, or a tombstone."""
    with contextlib.suppress(SnapmirrorError):
        found: Any = records.decode(data, records.Entry, "snapshots/x")
        assert records.decode(records.encode(found), records.Entry, "x") == found
        one = catalog.Catalog((found,), {})
        assert all(len(digest) == 32 for digest in one.directories)
        list(one.losses())
        one.protected()
        with contextlib.suppress(SnapmirrorError):
            one.answers("current", PRESENT)


@target('{"name":"a","snapshot":"20260101T000000Z","set":"20260101T000000Z"}', f'{{"a":"{"0" * 64}"}}', STATE, SEALED)
def small_files(data: bytes) -> None:
    """Pins, what was told later, syncing entries, live states, notes and rules."""
    for kind in (records.Pin, records.Pages, syncing._Content, denied.Rule):
        with contextlib.suppress(SnapmirrorError):
            records.decode(data, kind, "x")
    path = _file("x.json", data)
    for note in (records.RepoState, live.Lost, live.Blocked):
        live._decode(path, note)
    denied._reason(data)


class _Blob:
    """A store with one blob."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, digest: bytes, most: int | None = None) -> bytes:
        return self._data

    def expect(self, digests: object) -> None:
        """It is at hand."""


DIRECTORY = directories.Directory(kind="conda", form=1, mode="eager", origin=URL, buckets=(bytes(32),))


@target(
    codec.to_msgpack(DIRECTORY),
    codec.to_msgpack(
        directories.Bucket(leaves={"a": bytes(32)}, names={"b": "a"}, labels={"a": "1 a"}, empty={"a"}, elsewhere={"c": URL})
    ),
    codec.compress(b"leaf", 3),
    words="kind form mode origin info extra documents withheld files size buckets leaves elsewhere names labels empty sha256 suffixes",
)
def metadata_blob(data: bytes) -> None:
    """A directory, a bucket and a leaf of a damaged store."""
    read = directories.Metadata(_Blob(data))  # type: ignore[arg-type]
    for ask in (read.directory, read.bucket, read.labels, read.leaf):
        with contextlib.suppress(SnapmirrorError):
            ask(bytes(32))
    with contextlib.suppress(SnapmirrorError):
        document = read.directory(bytes(32)).document
        assert codec.to_msgpack(msgspec.msgpack.decode(codec.to_msgpack(document), type=directories.Directory))


@target(struct.pack(">QQ32s", 1, 2, bytes(32)), msgspec.msgpack.encode(index.Seen(index.Validators("a", "b"), bytes(32))))
def index_row(data: bytes) -> None:
    """Rows of the index, as its methods read them."""
    with contextlib.suppress(struct.error):  # `Index._errors` catches this, and the next
        index._row(data)
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        msgspec.msgpack.decode(data, type=index.Seen)


# What clients and servers say in headers and addresses ---------------------------------------------------------------


@target("/current/conda-forge/noarch/repodata.json", "/2026-01-01/x/%2e%2e/%00/%ff/", words="%2e%2e %2f %00 %c0%af // ..")
def path(data: bytes) -> None:
    """The path of a request."""
    with contextlib.suppress(Refused):
        segments, _ = resolve.split("/" + data.decode("latin-1"))
        assert not [one for one in segments if one in ("", ".", "..") or "/" in one or "\0" in one], segments


@target("20260101T000000Z", "2026-01-01", "current", "pin")
def selector(data: bytes) -> None:
    """A selector in a URL or on the command line."""
    text = text_of(data)
    one = _catalog()
    one.is_selector(text)
    catalog.is_pin_name(text)
    clock.parse_time(text)
    if instant := clock.from_id(text):
        assert clock.to_id(instant) == text
    with contextlib.suppress(SnapmirrorError):
        one.resolve(text, None, PRESENT)


@cache
def _catalog() -> catalog.Catalog:
    pin = records.Pin(name="pin", snapshot="20260101T000000Z", set="20260101T000000Z")
    return catalog.Catalog((records.decode(SEALED.encode(), records.Entry, "x"),), {"pin": pin})


@target("bytes=0-5", "bytes=-3", "bytes=3-", "bytes=0-1,3-4", words="bytes= -")
def byte_range(data: bytes) -> None:
    """A Range field."""
    for size in (0, 1, 1000):
        if found := respond.parse_range(data.decode("latin-1"), size):
            assert 0 <= found[0] <= found[1] < size


@target("Sun, 06 Nov 1994 08:49:37 GMT", 'W/"ab", "cd"', "*", words="-0000 +9999 Jan 0000 9999 GMT")
def conditions(data: bytes) -> None:
    """If-None-Match, If-Modified-Since and their like; Last-Modified of an upstream."""
    text = data.decode("latin-1")
    if found := respond._instant(text):
        assert (found == PRESENT) in (True, False)
    respond._matches(text, '"ab"', weak=True)
    stated = http._seconds(text)
    assert stated is None or stated >= 0


@target("application/vnd.pypi.simple.v1+json;q=0.5, text/html;q=0.1, */*", "zstd;q=1, gzip, identity;q=0", words="q= inf nan *")
def accept(data: bytes) -> None:
    """Accept, Accept-Encoding, and `?format=`."""
    text = data.decode("latin-1")
    assert all(0 <= weight <= 1 for weight in weights.weights(text).values())
    assert negotiate.coding(text) in ("zstd", "gzip", "")
    pypi_negotiate.media_type(pypi_negotiate.choose(text, text))


@target("https://u:p@x.example:443/t/token/y", "../a", "//[::1]/x", words="http:// https:// file: @ # ? %00 [ ]")
def address(data: bytes) -> None:
    """An address in upstream's metadata."""
    text = text_of(data)
    with contextlib.suppress(ValueError):
        joined = addresses.join(URL, text)
        assert urllib.parse.urlsplit(joined).scheme in ("http", "https")
        assert "@" not in urllib.parse.urlsplit(addresses.redact(joined)).netloc
        addresses.with_credentials(joined, "https://u:p@upstream.example/")
