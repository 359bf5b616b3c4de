"""Proof from afar: the very bytes of records and blobs, signatures over them, and `snapmirror verify`."""

import base64
import hashlib
import os
import re
from pathlib import Path

import msgspec
import pytest
import requests
from channels import Channel
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from mirror import Mirror
from serving import server
from upstream import Upstream

from snapmirror.store import fs
from snapmirror.store.records import Record
from snapmirror.store.signatures import PrivateKey
from snapmirror.store.store import Store


def test_the_server_gives_the_very_bytes_of_records_and_blobs(mirror: Mirror, channel: Channel) -> None:
    """For copies, and for whoever checks: what was forgotten is 410 and what is denied 403, as everywhere else."""
    mirror.sync()
    old, root = mirror.snapshots()[0], mirror.root / "store"
    directory = bytes.fromhex(mirror.record().repos["chan"].directories["noarch"].digest)
    names = [path.name for path in root.glob("blobs/*/*")]
    file = hashlib.sha256(next(channel.root.glob("noarch/lib*.conda")).read_bytes()).hexdigest()
    with server(mirror.config) as (url, _), requests.Session() as session:
        record = session.get(f"{url}/-/snapshots/{old}.json", timeout=9)
        assert record.content == (root / f"snapshots/{old}.json").read_bytes()
        assert session.head(record.url, timeout=9).headers["Content-Length"] == str(len(record.content))
        assert session.get(f"{url}/-/snapshots/{old}.sig", timeout=9).status_code == 404
        for name in names:
            blob = session.get(f"{url}/-/blobs/{name}", timeout=9)
            assert hashlib.sha256(blob.content).hexdigest() == name
            assert "immutable" in blob.headers["Cache-Control"]
        part = session.get(f"{url}/-/blobs/{directory.hex()}", headers={"Range": "bytes=3-"}, timeout=9)
        assert (part.status_code, part.content) == (
            206,
            (root / f"blobs/{directory.hex()[:2]}/{directory.hex()}").read_bytes()[3:],
        )
        for path in (
            "snapshots/20260101T000000Z.json",
            "snapshots/current.json",
            f"snapshots/{old}.pages",
            f"blobs/{'0' * 64}",
        ):
            assert session.get(f"{url}/-/{path}", timeout=9).status_code == 404, path
        for path in ("blobs/../snapmirror.json", f"blobs/{directory.hex().upper()}", "blobs/", "snapshots/"):
            prepared = requests.Request("GET", url).prepare()
            prepared.url = f"{url}/-/{path}"
            assert session.send(prepared, timeout=9).status_code == 404, path
    mirror.sync()
    mirror.run("forget", old)
    mirror.run("deny", "chan", file, "--reason", "bad")
    with server(mirror.config) as (url, _):
        gone = requests.get(f"{url}/-/snapshots/{old}.json", timeout=9)
        assert gone.status_code == 410
        assert f"snapshot {old} was forgotten; the nearest kept" in gone.text
        assert requests.get(f"{url}/-/snapshots/{old}.sig", timeout=9).status_code == 410
        assert requests.get(f"{url}/-/blobs/{file}", timeout=9).status_code == 403


def signed(mirror: Mirror) -> str:
    """Make a key for a mirror, and sync; the public key."""
    mirror.settings["sign"] = {"key": "mirror.key"}
    printed = mirror.run_bare("key", "generate", str(mirror.root / "mirror.key")).out
    assert printed == (mirror.root / "mirror.key.pub").read_text()
    mirror.sync()
    return str(mirror.root / "mirror.key.pub")


def test_a_key_is_private_readable_and_never_replaced(mirror: Mirror) -> None:
    key = mirror.root / "a.key"
    mirror.run_bare("key", "generate", str(key))
    assert key.stat().st_mode & 0o777 == 0o600
    private, public = (
        re.fullmatch(r"snapmirror-ed25519-(\w+) (\S{44}) ([0-9a-f]{16})\n", path.read_text())
        for path in (key, key.with_name("a.key.pub"))
    )
    assert private
    assert public
    assert (private[1], public[1], private[3]) == ("private", "public", public[3])
    assert hashlib.sha256(base64.b64decode(public[2])).hexdigest()[:16] == public[3]
    before = key.read_bytes()
    for name in ("a.key", "b.key"):
        (mirror.root / "b.key.pub").touch()
        refused = mirror.run_bare("key", "generate", str(mirror.root / name))
        assert (refused.status, "never replaced" in refused.err) == (2, True)
    assert key.read_bytes() == before
    assert not (mirror.root / "b.key").exists()
    assert "is a folder" in mirror.run_bare("key", "generate", ".").err


def test_a_key_that_cannot_be_read_ends_a_sync_before_upstream_is_asked(mirror: Mirror, upstream: Upstream) -> None:
    mirror.settings["sign"] = {"key": "mirror.key"}
    missing = mirror.sync(status=2)
    assert f"{mirror.root / 'mirror.key'}: the key can't be read: No such file" in missing.err
    mirror.run_bare("key", "generate", str(mirror.root / "mirror.key"))
    mirror.settings["sign"] = {"key": "mirror.key.pub"}
    assert "not the one that ends in .pub" in mirror.sync(status=2).err
    assert upstream.requests == []
    assert not mirror.store_path.exists()


def test_a_signed_snapshot_is_verified_from_afar(mirror: Mirror, channel: Channel) -> None:
    """Also what `openssl` or any other program can check: Ed25519 over the very bytes of the record."""
    mirror.sync()
    unsigned = mirror.snapshots()[0]
    key = signed(mirror)
    id_ = mirror.snapshots()[-1]
    record = (mirror.store_path / f"snapshots/{id_}.json").read_bytes()
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(Path(key).read_text().split()[1]))
    signature = base64.b64decode((mirror.store_path / f"snapshots/{id_}.sig").read_text().split()[1])
    public.verify(signature, b"snapmirror snapshot record v1\0" + record)
    assert mirror.run("check").out.startswith("0 problems")
    mirror.run_bare("key", "generate", str(mirror.root / "other.key"))
    with server(mirror.config) as (url, _):
        found = mirror.run_bare("verify", url, "--key", key, "--all", "--json").json
        assert (found["snapshot"], found["problems"], found["unchecked"]) == (id_, [], {})
        assert (found["directories"], found["leaves"], found["files"]) == (2, 3, 3)
        few = mirror.run_bare("verify", url, "--key", key, "--sample", "1", "--json").json
        assert (few["files"], few["unchecked"]) == (1, {"not in the sample": 2})
        assert f"Snapshot {id_} is as signed" in mirror.run_bare("verify", url, "--key", key).out
        before = mirror.run_bare("verify", url, "--key", key, "--snapshot", unsigned)
        assert (before.status, f"record {unsigned}: is not signed" in before.out) == (5, True)
        other = mirror.run_bare("verify", url, "--key", str(mirror.root / "other.key.pub"))
        assert (other.status, "is by another key" in other.out) == (5, True)
        absent = mirror.run_bare("verify", url, "--key", key, "--snapshot", "20200101T000000Z")
        assert (absent.status, "404" in absent.err) == (1, True)
    nobody = mirror.run_bare("verify", url, "--key", key)
    assert (nobody.status, nobody.out) == (1, "")


def test_one_wrong_byte_anywhere_is_found_and_named(mirror: Mirror, channel: Channel) -> None:
    key = signed(mirror)
    id_ = mirror.snapshots()[-1]
    directory = mirror.reader("chan/linux-64")
    leaf = directory.leaf("tool")
    assert leaf
    file = hashlib.sha256((channel.root / "linux-64" / "tool-1.0-0.conda").read_bytes()).digest()
    blobs = {
        "directory chan/linux-64": directory.digest,
        "bucket 0 of chan/linux-64": directory.document.buckets[0],
        "leaf tool of chan/linux-64": leaf,
        "file chan/linux-64/tool-1.0-0.conda": file,
    }
    snapshots = mirror.store_path / "snapshots"
    places = {"signature of": snapshots / f"{id_}.sig"}
    places |= {what: mirror.store_path / "blobs" / digest.hex()[:2] / digest.hex() for what, digest in blobs.items()}
    with server(mirror.config) as (url, _):
        for what, path in (*places.items(), ("signature of", snapshots / f"{id_}.json")):
            right = path.read_bytes()
            path.chmod(0o644)
            # of a record a byte that leaves it one: the time at which upstream was read
            place = right.rindex(b'"read": "') + 12 if path.suffix == ".json" else len(right) * 2 // 3
            wrong = b"1" if right[place : place + 1] == b"0" else b"0"
            path.write_bytes(right[:place] + wrong + right[place + 1 :])
            found = mirror.run_bare("verify", url, "--key", key, "--all")
            assert found.status == 5, (what, found.out)
            assert found.out.startswith(what), (what, found.out)
            assert f"Snapshot {id_} is not as signed: 1 problem" in found.out
            if path.parent == snapshots:
                assert f"snapshots/{id_}.sig: " in mirror.run("check", status=5).out
            path.write_bytes(right)
        assert mirror.run_bare("verify", url, "--key", key, "--all").status == 0


def test_a_file_that_hardly_ever_ends(mirror: Mirror, channel: Channel) -> None:
    """Is read as far as it may go by what was signed: who is not trusted must not keep a check busy for ever."""
    key, file = signed(mirror), (channel.root / "linux-64" / "tool-1.0-0.conda").read_bytes()
    name = hashlib.sha256(file).hexdigest()
    path = mirror.store_path / "blobs" / name[:2] / name
    path.chmod(0o644)
    os.truncate(path, 1 << 40)
    with server(mirror.config) as (url, _):
        found = mirror.run_bare("verify", url, "--key", key, "--all")
    assert found.status == 5
    assert f"file chan/linux-64/tool-1.0-0.conda: has more than the {len(file)} bytes that it is listed with" in found.out
    assert "1 problem" in found.out


def test_what_the_server_does_not_hold_is_counted(mirror: Mirror, channel: Channel) -> None:
    """Also where directories of different modes list the same leaves."""
    mirror.repos[0]["download"] = "on-demand"
    mirror.add("away", mirror.repos[0]["upstream"], subdirs=["linux-64"], download="redirect")
    key = signed(mirror)
    with server(mirror.config) as (url, _):
        assert requests.get(f"{url}/current/chan/linux-64/tool-1.0-0.conda", timeout=9).status_code == 200
        found = mirror.run_bare("verify", url, "--key", key, "--all").out
        assert "1 file," in found
        assert "not checked: 2 files not held (on-demand)" in found
        assert "files not on this server (redirect)" in found


def test_a_forgotten_snapshot_loses_its_signature(mirror: Mirror) -> None:
    key = signed(mirror)
    mirror.sync()
    old, new = mirror.snapshots()
    mirror.run("forget", old)
    assert [path.name for path in mirror.store_path.glob("snapshots/*.sig")] == [f"{new}.sig"]
    (mirror.store_path / f"snapshots/{old}.sig").write_text("left by a crash")
    mirror.run("check")
    mirror.run("reindex")
    mirror.run("gc")
    assert [path.name for path in mirror.store_path.glob("snapshots/*.sig")] == [f"{new}.sig"]
    with server(mirror.config) as (url, _):
        gone = mirror.run_bare("verify", url, "--key", key, "--snapshot", old)
        assert (gone.status, "410" in gone.err) == (1, True)
        assert mirror.run_bare("verify", url, "--key", key).status == 0


def test_check_misses_a_signature_that_is_gone_and_names_one_that_does_not_match(mirror: Mirror) -> None:
    """The record says who has signed it: whoever removes or replaces a signature is told of, by a copy without a key too."""
    signed(mirror)
    path = next(mirror.store_path.glob("snapshots/*.sig"))
    right = path.read_bytes()
    path.unlink()
    assert f"{path.name}: is missing" in mirror.run("check", status=5).out
    path.write_bytes(right[:-2] + b"\n")
    assert f"{path.name}: is by the key" in mirror.run("check", status=5).out
    path.write_bytes(right)
    record = path.with_suffix(".json")
    before = record.read_bytes()
    record.write_bytes(before.replace(b'"number": 1', b'"number": 2'))
    assert f"{path.name}: does not match" in mirror.run("check", status=5).out
    record.write_bytes(before)
    mirror.run_bare("key", "generate", str(mirror.root / "new.key"))
    for settings in ({"key": "new.key"}, {}):
        mirror.settings["sign"] = settings
        mirror.run("check")
        path.unlink()
        assert f"{path.name}: is missing" in mirror.run("check", status=5).out
        path.write_bytes(right)


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("with_key", [True, False])
def test_a_crash_between_signature_and_record_leaves_nothing_that_confuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_key: bool
) -> None:
    """Before the record there is its signature, durable; without the record it means nothing, and another takes its place."""
    root, key = tmp_path / "store", PrivateKey.generate()
    Store.create(root)
    record = Record(id="20261120T010000Z", number=1, repos={})
    calls: list[str] = []
    replace = fs.replace

    def dying(path: Path, data: bytes) -> None:
        calls.append(path.name)
        if path.suffix == ".json":
            raise Died
        replace(path, data)

    with Store.open(root, write=True, key=key) as store:
        monkeypatch.setattr(fs, "replace", dying)
        with pytest.raises(Died):
            store.snapshots.write(record)
        monkeypatch.setattr(fs, "replace", replace)
        assert calls == [f"{record.id}.sig", f"{record.id}.json"]
        assert (store.catalog().entries, store.snapshots.signed()) == ((), [record.id])
    with Store.open(root, write=True, key=key if with_key else None) as store:
        store.snapshots.write(msgspec.structs.replace(record, partial=True))
        files = store.snapshots.files(record.id)
        assert files
        assert bool(files.signature) == with_key
        assert b'"partial": true' in files.record
        assert not files.signature or key.public.problem(files.record, files.signature) == ""
