"""`bisect`: the day on which something broke, in as few runs as can be, with real clients."""

import json
import sys
import textwrap
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import ceil, log2
from pathlib import Path

import pytest
from channels import Channel, make_package
from inprocess import store_at, sync
from mirror import Mirror, Result
from pypi_index import Index
from serving import serving
from test_real_data import HISTORY, playback, turn
from wheels import wheel

from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.conda import CondaRepo
from snapmirror.errors import UsageError
from snapmirror.pypi import PypiRepo
from snapmirror.store.catalog import Catalog
from snapmirror.sync.bisect import Bisection
from snapmirror.sync.settings import Publish

DAYS = [f"202405{day:02}T120000Z" for day in range(1, 18)]
#: from this one on the index has a version that does not work
BROKEN = DAYS[11]


class Mirrored:
    """A mirror of an index and a channel, over seventeen days. On the fifth day nothing has changed."""

    def __init__(self, root: Path) -> None:
        self.mirror = Mirror(root / "mirror")
        self.mirror.write()
        self.mirror.env["SNAPMIRROR_CONFIG"] = str(self.mirror.config)
        channel = Channel(root / "chan")
        repos = [CondaRepo(path="chan", upstream=channel.root.as_uri())]
        with Index(root / "index") as index, store_at(self.mirror.store_path) as store:
            repos += [PypiRepo(path="pypi", upstream=f"{index.url}/simple/", projects=["app", "lib"])]
            index.upload("app", *wheel("app", "1.0", ["lib"]))
            for number, day in enumerate(DAYS):
                if number != 4:
                    index.upload("lib", *wheel("lib", "2.0" if day == BROKEN else f"1.{number}"))
                channel.add(*([make_package("broken")] if day == BROKEN else []))
                channel.publish()
                sync(store, *repos, seal_as=day, publish=Publish(trees=[]))
            self.catalog = store.catalog()

    def bisect(
        self, *command: str, good: str = DAYS[0], bad: str = DAYS[-1], status: int = 0, options: tuple[str, ...] = ()
    ) -> Result:
        """Run `bisect` with a command."""
        result = self.mirror.run_bare("bisect", "--good", good, "--bad", bad, *options, "--", *command)
        assert result.status == status, result.err
        return result


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Mirrored:
    return Mirrored(tmp_path_factory.mktemp("bisect"))


def exits(statuses: Mapping[str, int], otherwise: int = 0) -> list[str]:
    """A command that ends with a status for each snapshot."""
    cases = "".join(f"*/{id_}) exit {status};; " for id_, status in statuses.items())
    return ["sh", "-c", f'case "$SNAPMIRROR_URL" in {cases}*) exit {otherwise};; esac']


# With clients


def test_the_day_that_broke_an_installation_with_uv(mirrored: Mirrored, tmp_path: Path) -> None:
    pytest.importorskip("uv", reason="uv is not installed")
    target, cache = tmp_path / "target", tmp_path / "cache"
    uv = Path(sys.executable).parent / "uv"
    command = f"""
        rm -rf {target}; echo at $SNAPMIRROR_URL
        {uv} pip install -q --cache-dir {cache} --python {sys.executable} --target {target} app || exit 255
        ! grep -q 2.0 {target}/lib.py
    """
    found = mirrored.bisect("sh", "-c", command, good="2024-05-01", bad="2024-05-17")
    assert found.out == (
        f"{BROKEN} is the first bad snapshot; {DAYS[10]} is good\n"
        "+ chan/noarch/broken-1.0-0.conda\n"
        "+ pypi/lib-2.0-py3-none-any.whl\n"
    )
    tried = [line for line in found.err.splitlines() if line.startswith("at http://127.0.0.1:")]
    assert len(tried) <= 2 + ceil(log2(15))  # both ends, and sixteen days, of which two are alike


QUERY = textwrap.dedent(
    """
    import asyncio, os, sys
    from rattler import Channel, Gateway
    async def main():
        channel = Channel(os.environ["SNAPMIRROR_URL"] + "/mojo")
        records = await Gateway(cache_dir=sys.argv[1]).query([channel], ["osx-arm64"], [sys.argv[2].rsplit("-", 2)[0]])
        return any(record.file_name == sys.argv[2] for found in records for record in found)
    os._exit(asyncio.run(main()))
    """
)


@pytest.mark.real_data
@pytest.mark.skipif(not HISTORY.exists(), reason="the recorded channels (../shared) are not beside the project")
def test_the_state_of_a_real_channel_that_brought_a_package_with_py_rattler(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror")
    mirror.write()
    mirror.env["SNAPMIRROR_CONFIG"] = str(mirror.config)
    with playback("mojo-channel") as upstream, store_at(mirror.store_path) as store:
        repo = CondaRepo(path="mojo", upstream=upstream, subdirs=["osx-arm64", "linux-64"], download="redirect")
        ids = [str(sync(store, repo, seal_as=turn(upstream, number)).snapshot) for number in range(1, 22)]
    query = [sys.executable, "-c", QUERY, str(tmp_path / "cache"), "mojo-sen-0.1.0-h60d57d3_0.conda"]
    result = mirror.run_bare("bisect", "--good", ids[0], "--bad", ids[-1], "--json", "--", *query)
    assert result.status == 0, result.err
    found = result.json
    assert (found["good"], found["bad"]) == (ids[13], ids[14])
    assert found["changes"]["added"] == [
        f"mojo/{subdir}/mojo-sen-0.1.0-{build}_0.conda"
        for subdir, build in (("linux-64", "hb0f4dca"), ("osx-arm64", "h60d57d3"))
    ]
    assert [trial["snapshot"] for trial in found["trials"][:2]] == [ids[0], ids[-1]]
    assert len(found["trials"]) - 2 <= ceil(log2(20))


def test_every_client_is_set_to_the_snapshot(mirrored: Mirrored, tmp_path: Path) -> None:
    """And nothing of this machine's that says otherwise is left."""
    script = (
        "import json, os, pathlib; told = dict(os.environ)\n"
        "names = ('CONDARC', 'MAMBARC', 'PIP_CONFIG_FILE', 'UV_CONFIG_FILE')\n"
        "files = {name: pathlib.Path(told[name]).read_text() for name in names}\n"
        f"pathlib.Path({str(tmp_path / 'told')!r}).write_text(json.dumps([told, files]))\n"
        f"raise SystemExit(not told['SNAPMIRROR_URL'].endswith({DAYS[0]!r}))"
    )
    mirrored.mirror.env |= {
        "PIP_INDEX_URL": "http://elsewhere.example/",
        "UV_INDEX": "x",
        "CONDA_CHANNELS": "x",
        "NO_PROXY": "a",
    }
    with serving(mirrored.mirror.store_path) as url:
        mirrored.bisect(sys.executable, "-c", script, bad=DAYS[1], options=("--url", f"{url}/"))
    told, files = json.loads((tmp_path / "told").read_text())
    assert told["SNAPMIRROR_URL"] == f"{url}/{DAYS[1]}"
    assert told["NO_PROXY"] == "a,127.0.0.1"
    assert not {"PIP_INDEX_URL", "UV_INDEX", "CONDA_CHANNELS"} & told.keys()
    assert f"channel_alias: {url}/{DAYS[1]}\n" in files["CONDARC"]
    assert f"- {url}/{DAYS[1]}/chan\n" in files["MAMBARC"]
    assert f"index-url = {url}/{DAYS[1]}/pypi/simple/\n" in files["PIP_CONFIG_FILE"]
    assert f'url = "{url}/{DAYS[1]}/pypi/simple/"\n' in files["UV_CONFIG_FILE"]
    assert not Path(told["CONDARC"]).exists()


def test_a_server_with_tokens_lets_the_command_in(tmp_path: Path, mirrored: Mirrored) -> None:
    guarded = Mirror(tmp_path / "guarded")
    guarded.settings |= {"store": str(mirrored.mirror.store_path)}
    guarded.write()
    with guarded.config.open("a") as config:
        config.write(f'[serve.auth.somebody]\nsha256 = "{"0" * 64}"\n')
    guarded.env["SNAPMIRROR_CONFIG"] = str(guarded.config)
    asks = (
        "import os, sys, urllib.request as r; url = os.environ['SNAPMIRROR_URL']\n"
        "try: r.urlopen(url[:url.index('/t/')] + '/current/chan/noarch/repodata.json')\n"
        "except r.HTTPError as error: assert error.code == 401\n"
        "else: sys.exit(200)\n"
        "sys.exit('broken' in r.urlopen(url + '/chan/noarch/repodata.json').read().decode())"
    )
    done = guarded.run_bare("bisect", "--good", DAYS[10], "--bad", DAYS[11], "--", sys.executable, "-c", asks)
    assert (done.status, done.out.splitlines()[0]) == (0, f"{BROKEN} is the first bad snapshot; {DAYS[10]} is good"), done.err


# The search


def searched(catalog: Catalog, judge: Callable[[str], int]) -> Bisection:
    """A whole search between the first and the last day. judge: what the command says of an id"""
    search = Bisection(catalog, catalog.records[0], catalog.records[-1])
    while record := search.next():
        search.note(record, judge(record.id))
    return search


def test_any_day_is_found_in_few_steps(mirrored: Mirrored) -> None:
    with mirrored.mirror.store() as store:
        for first_bad in DAYS[1:]:
            search = searched(mirrored.catalog, lambda id_, planted=first_bad: int(id_ >= planted))  # type: ignore[misc]
            result = search.result(store, ECOSYSTEMS)
            expected = DAYS[5] if first_bad == DAYS[4] else first_bad  # on the fifth day nothing has changed
            assert (result.bad, result.skipped) == (expected, [])
            assert len(result.trials) <= ceil(log2(15))
            assert not {DAYS[4]} & {trial.snapshot for trial in result.trials}


def test_what_is_skipped_or_forgotten_leaves_a_doubt(mirrored: Mirrored) -> None:
    def judge(id_: str) -> int:
        return 125 if DAYS[9] <= id_ <= BROKEN else int(id_ >= BROKEN)

    with mirrored.mirror.store() as store:
        found = searched(mirrored.catalog, judge).result(store, ECOSYSTEMS)
        assert (found.good, found.skipped, found.bad) == (DAYS[8], DAYS[9:12], DAYS[12])
        none = searched(mirrored.catalog, lambda _: 125).result(store, ECOSYSTEMS)
        assert (none.good, len(none.skipped), none.bad) == (DAYS[0], 14, DAYS[-1])
        gone = [record for record in mirrored.catalog.records if record.id in DAYS[10:12]]
        left = mirrored.catalog.forgetting(gone, datetime(2024, 6, 1, tzinfo=UTC))
        found = searched(left, lambda id_: int(id_ >= BROKEN)).result(store, ECOSYSTEMS)
        assert (found.good, found.forgotten, found.bad) == (DAYS[9], DAYS[10:12], DAYS[12])
    told = mirrored.bisect(*exits({DAYS[1]: 125, DAYS[2]: 1}), bad=DAYS[2], status=1)
    assert told.out.startswith(f"the first bad snapshot is one of {DAYS[1]}, {DAYS[2]}; {DAYS[0]} is good\n")


def test_ends_that_can_not_be_meant_so(mirrored: Mirrored) -> None:
    first, last = mirrored.catalog.records[0], mirrored.catalog.records[-1]
    with pytest.raises(UsageError, match="is later than the bad one"):
        Bisection(mirrored.catalog, last, first)
    with pytest.raises(UsageError, match="hold the same"):
        Bisection(mirrored.catalog, mirrored.catalog.by_id[DAYS[3]], mirrored.catalog.by_id[DAYS[4]])  # type: ignore[arg-type]
    search = Bisection(mirrored.catalog, first, last)
    assert (search.verify(first, 0), search.verify(last, 127)) == ("good", "bad")
    for end, status, problem in ((first, 3, "is not good"), (last, 0, "is not bad"), (first, 125, "can't be skipped")):
        with pytest.raises(UsageError, match=f"{end.id} {problem}: the command ended with status {status} there"):
            search.verify(end, status)
    mirrored.bisect("true", status=2).line(f"{DAYS[-1]} is not bad: the command ended with status 0 there")
    mirrored.bisect("true", good="2020-01-01", status=2).line("2020-01-01: there is no snapshot")
    for url in ("ftp://x", "http://[::1"):
        mirrored.bisect("true", options=("--url", url), status=2).line(f"--url {url}: write a URL")


def test_commands_that_can_not_go_on(mirrored: Mirrored) -> None:
    mirrored.bisect("no-such-program", status=2).line("no-such-program: it can't be run: No such file or directory")
    ended = mirrored.bisect(*exits({DAYS[-1]: 1, DAYS[8]: 128}), status=1)
    ended.line(f"the command ended with status 128 at {DAYS[8]}, so the search ends")
    mirrored.bisect("sh", "-c", "kill -9 $$", status=1).line(f"the command was ended by signal 9 at {DAYS[0]}")
