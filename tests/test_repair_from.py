"""`check --repair --from`: what is lost comes back from another snapmirror or an old mirror; what does not is listed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from channels import Channel, make_package
from mirror import Mirror
from serving import serving
from test_damage import LIB, blob, overwrite, sound
from upstream import Upstream

from snapmirror.digests import sha256


def lose_all(mirror: Mirror) -> None:
    """Nothing is left but the records."""
    for path in mirror.store_path.glob("blobs/??/*"):
        path.unlink()


def old_mirror(mirror: Mirror, channel: Channel, upstream: Upstream) -> str:
    """A folder of files whose names say nothing."""
    folder = mirror.root / "old"
    folder.mkdir()
    for number, path in enumerate(channel.root.rglob("*.*")):
        if path.is_file():
            shutil.copy(path, folder / f"{number}.bin")
    return str(folder)


def old_site(mirror: Mirror, channel: Channel, upstream: Upstream) -> str:
    """An old mirror over HTTP, with upstream's layout."""
    shutil.copytree(channel.root, upstream.root / "old")
    return f"{upstream.url}/old"


def store_folder(mirror: Mirror, channel: Channel, upstream: Upstream) -> str:
    shutil.copytree(mirror.store_path, mirror.root / "other", symlinks=True)
    return str(mirror.root / "other")


def store_site(mirror: Mirror, channel: Channel, upstream: Upstream) -> str:
    """What another snapmirror answers below `/-/blobs/`."""
    (upstream.root / "-" / "blobs").mkdir(parents=True)
    for path in mirror.store_path.glob("blobs/??/*"):
        shutil.copy(path, upstream.root / "-" / "blobs" / path.name)
    return upstream.url


Place = Callable[[Mirror, Channel, Upstream], str]


@pytest.mark.parametrize("place", [old_mirror, old_site, store_folder, store_site])
def test_a_file_that_upstream_has_no_more_comes_from_elsewhere(
    place: Place, mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    mirror.sync()
    before = mirror.published()
    given = place(mirror, channel, upstream)
    (channel.root / "noarch" / "lib-1.0-0.conda").unlink()
    overwrite(blob(mirror), b"damaged")
    mirror.run("check", "--repair", status=5)
    mirror.run("check", "--repair", "--from", given).line("got", LIB.hex(), "again")
    assert mirror.published() == before
    sound(mirror)


@pytest.mark.parametrize("place", [store_folder, store_site])
def test_another_snapmirror_gives_metadata_too_and_all_that_this_leads_to(
    place: Place, mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    mirror.sync()
    before = mirror.published()
    given = place(mirror, channel, upstream)
    shutil.rmtree(channel.root)
    lose_all(mirror)
    mirror.run("check", "--repair", status=5)
    mirror.run("check", "--repair", "--from", given)
    assert mirror.published() == before
    sound(mirror)


@pytest.mark.parametrize("place", [old_mirror, old_site, store_folder, store_site])
def test_what_is_given_is_not_trusted(place: Place, mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    mirror.sync()
    given = place(mirror, channel, upstream)
    (channel.root / "noarch" / "lib-1.0-0.conda").unlink()
    right = make_package("lib").data
    for path in [path for root in (mirror.root, upstream.root) for path in root.rglob("*")]:
        if path.is_file() and path.read_bytes() == right:  # ours as well
            overwrite(path, right[:-1] + bytes([right[-1] ^ 1]))
    assert LIB.hex() in mirror.run("check", "--read-data", "--repair", "--from", given, status=5).out
    assert not blob(mirror).exists()


def test_what_cannot_be_had_again_is_listed_with_every_snapshot_that_needs_it(mirror: Mirror, channel: Channel) -> None:
    mirror.sync("--seal-as", "2026-01-01")  # before there was `lib` 2
    channel.add(make_package("lib", version="2"))
    channel.publish()
    for day in ("2026-01-02", "2026-01-03"):
        mirror.sync("--seal-as", day)
    lost = sha256(make_package("lib", version="2").data)
    (channel.root / "noarch" / "lib-2-0.conda").unlink()
    blob(mirror, lost).unlink()
    _, *needing = mirror.snapshots()
    found = mirror.run("check", "--repair", "--json", status=5).json["problems"]
    assert [one["snapshots"] for one in found if one["what"] == f"blob {lost.hex()}"] == [needing]
    assert f"    needed by {needing[0]} to {needing[1]}\n" in mirror.run("check", status=5).out


def test_a_place_that_is_none_is_refused(mirror: Mirror) -> None:
    mirror.sync()
    mirror.run("check", "--repair", "--from", "nowhere", status=2).line("--from nowhere", "neither")
    mirror.run("check", "--from", str(mirror.root), status=2).line("--from", "--repair")
    mirror.run("check", "--max-duration", "1h", status=2).line("--max-duration", "--read-data")


# What should not be there, or not so


def as_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_a_link_to_a_file_elsewhere(path: Path) -> None:
    moved = path.rename(path.parents[3] / "moved")
    path.symlink_to(moved)


def as_a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def empty(path: Path) -> None:
    overwrite(path, b"")


def writable(path: Path) -> None:
    path.chmod(0o644)


def written_to(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    "harm", [as_a_folder, as_a_link_to_a_file_elsewhere, as_a_link_to_nothing, empty, writable, written_to]
)
def test_a_blob_that_is_not_as_it_was_put_there_is_named_and_mended(harm: Callable[[Path], None], mirror: Mirror) -> None:
    mirror.sync()
    before = mirror.published()
    harm(blob(mirror))
    assert LIB.hex() in mirror.run("check", status=5).out
    mirror.run("check", "--repair")
    assert blob(mirror).stat().st_mode & 0o777 == 0o444
    assert not blob(mirror).is_symlink()
    assert mirror.published() == before
    sound(mirror)


def test_a_wrong_length_alone_takes_a_file_away_at_once(mirror: Mirror) -> None:
    mirror.sync()
    overwrite(blob(mirror), b"short")
    mirror.run("check", status=5)
    assert not blob(mirror).exists()
    assert not (mirror.tree("chan/noarch") / "lib-1.0-0.conda").exists()
    assert (mirror.store_path / "quarantine" / LIB.hex()).exists()
    with serving(mirror.store_path) as url:
        answer = requests.get(f"{url}/chan/noarch/lib-1.0-0.conda", timeout=30)
        assert (answer.status_code, "in quarantine" in answer.text) == (503, True)


def copied_and_altered(folder: Path) -> None:
    """The usual editor: a copy in the file's place."""
    path = folder / "lib-1.0-0.conda"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"?")


def copied_and_writable(folder: Path) -> None:
    path = folder / "lib-1.0-0.conda"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def with_a_file_more(folder: Path) -> None:
    (folder / "index.html").write_text("hello")


def without_its_plain_document(folder: Path) -> None:
    (folder / "repodata.json").unlink()


def with_another_document(folder: Path) -> None:
    (folder / "repodata.json").unlink()
    (folder / "repodata.json").write_text("{}")


@pytest.mark.parametrize(
    "harm",
    [copied_and_altered, copied_and_writable, with_a_file_more, with_another_document, without_its_plain_document],
)
def test_a_tree_that_somebody_has_changed_is_mended_without_upstream(
    harm: Callable[[Path], None], mirror: Mirror, channel: Channel
) -> None:
    mirror.sync()
    before = mirror.published()
    shutil.rmtree(channel.root)
    harm(mirror.tree("chan/noarch"))
    assert "chan/noarch" in mirror.run("check", status=5).out
    mirror.run("check", "--repair")
    assert mirror.published() == before
    sound(mirror)


def test_what_is_no_blob_is_named(mirror: Mirror) -> None:
    mirror.sync()
    (mirror.store_path / "blobs" / "00" / "notes.txt").write_text("mine")
    assert "blobs/00/notes.txt: is no blob" in mirror.run("check", status=5).out


def test_every_record_that_cannot_be_read_is_named_and_the_rest_is_checked(mirror: Mirror) -> None:
    mirror.sync()
    mirror.sync()
    for snapshot in mirror.snapshots():
        (mirror.store_path / "snapshots" / f"{snapshot}.json").write_text("{")
    (mirror.store_path / "blobs" / "00" / "notes.txt").write_text("mine")
    names = [path.name for path in (mirror.store_path / "snapshots").iterdir()]
    for options in ([], ["--read-data"], ["--repair"]):
        said = mirror.run("check", *options, status=5)
        assert all(f"snapshots/{name}: can't be read" in said.out for name in names)
        assert "notes.txt" in said.out
        assert "run `snapmirror check`" not in said.out + said.err
    mirror.run("reindex")  # where the index is damaged too, no check can begin without it
    assert list((mirror.store_path / "published").iterdir())  # trees of a record that can't be read stay


def test_a_record_in_which_a_name_has_rotted_is_named(mirror: Mirror) -> None:
    """It can be read, and says another thing than the tree that was made of it."""
    mirror.sync()
    (path,) = (mirror.store_path / "snapshots").iterdir()
    right = path.read_bytes()
    for wrong in (right.replace(b'"noarch"', b'"noarcg"'), right.replace(b'"chan"', b'"chao"')):
        overwrite(path, wrong)
        for arguments in ([], ["--repair"]):
            said = mirror.run("check", *arguments, status=5).out
            assert f"published/{path.stem}/chan/noarch: is published, and the record lists nothing there" in said
    overwrite(path, right)
    mirror.run("check")


def test_the_newest_record_is_missed_and_nothing_is_deleted_until_it_is_back(mirror: Mirror, channel: Channel) -> None:
    """No gap in the numbers tells: its tree does."""
    mirror.sync("--seal-as", "2026-01-01")
    channel.add(make_package("more"))
    channel.publish()
    mirror.sync()
    before = mirror.published()
    newest = mirror.store_path / "snapshots" / f"{mirror.snapshots()[-1]}.json"
    record = newest.read_bytes()
    newest.unlink()
    for verb in (["check"], ["check", "--repair"], ["gc", "--grace", "0s"]):
        said = mirror.run(*verb, status=5)
        assert f"snapshots/{newest.name}: is missing" in said.out + said.err
    newest.write_bytes(record)
    sound(mirror)
    assert mirror.published() == before


def test_a_blob_is_not_taken_away_because_the_index_has_another_blake3_of_it(mirror: Mirror) -> None:
    mirror.sync()
    with mirror.store() as store:
        row = store.index.blob(LIB)
        assert row
        store.index.put_blobs({LIB: row._replace(blake3=bytes(31) + b"1")})
    mirror.run("check", "--read-data")
    with mirror.store() as store:
        found = store.index.blob(LIB)
        assert found
        assert found.blake3 == row.blake3
    sound(mirror)
