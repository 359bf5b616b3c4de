"""A mirror to look at: two channels and an index over six days, with all that a page has something to say about."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from channels import Channel, make_package
from mirror import Mirror
from pypi_index import Index
from serving import server
from upstream import Upstream
from wheels import wheel

#: of the first snapshot; there is one each day, and then one of now
FIRST, DAYS = datetime(2026, 5, 29, 1, tzinfo=UTC), 6
#: what nobody may put on a page as it is
MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


def id_of(day: int) -> str:
    """The id of the snapshot of a day, counted from 0."""
    return f"{FIRST + timedelta(days=day):%Y%m%dT%H%M%SZ}"


@contextmanager
def window(folder: Path, days: int = DAYS, public_url: str = "") -> Iterator[tuple[Mirror, str]]:
    """The mirror, and the URL of its server, while its upstreams are there too. public_url: see `[serve]`"""
    (folder / "upstream").mkdir(parents=True)
    with Upstream(folder / "upstream") as upstream, Index(folder / "index") as index:
        forge = Channel(upstream.root / "conda-forge", subdirs=["linux-64", "osx-arm64"])
        bio = Channel(upstream.root / "bioconda", subdirs=["linux-64"])
        for subdir in ("linux-64", "osx-arm64"):
            forge.add(make_package("python", "3.12.0", subdir=subdir, license="PSF-2.0"))
        forge.add(*(make_package(f"lib-{name}", license="BSD-3-Clause") for name in "abcdefgh"))
        forge.add(make_package("nasty", "1.0", license=MARKUP, depends=["lib-a >=1.0"]))
        bio.add(make_package("samtools", "1.20", subdir="linux-64", depends=["lib-a"], license="MIT"))
        index.upload("Rich", *wheel("rich", "13.0", ["pygments>=2"]), requires_python=">=3.9")
        index.upload("pygments", *wheel("pygments", "2.17"))
        mirror = Mirror(folder / "mirror")
        mirror.settings["serve"] = {"public_url": public_url}
        mirror.add("conda-forge", f"{upstream.url}/conda-forge", subdirs=["linux-64", "osx-arm64"])
        mirror.add("bioconda", f"{upstream.url}/bioconda", subdirs=["linux-64"])
        mirror.add("pypi", f"{index.url}/simple/", kind="pypi", projects="all")
        for day in range(days):
            _pass_day(day, forge, index)
            forge.publish()
            bio.publish()
            mirror.sync("--seal-as", id_of(day), status=3 if day == 4 else 0)
        mirror.run("pin", "paper", id_of(1))
        mirror.run("deny", "conda-forge", "lib-h==1.0", "--reason", f"unsafe {MARKUP}")
        mirror.sync()
        with server(mirror.config) as (url, _):
            yield mirror, url


def _pass_day(day: int, forge: Channel, index: Index) -> None:
    """What happens upstream."""
    forge.add(*(make_package(f"lib-{name}", f"1.{day}") for name in "abcdefgh"[: day * 2 % 7]))
    if day == 1:
        forge.add(make_package("gone-soon"))
        index.upload("Rich", *wheel("rich", "13.1"), requires_python=">=3.9")
    if day == 3:
        forge.remove("gone-soon-1.0-0.conda")
        index.pages["rich"]["files"][0]["yanked"] = f"broken {MARKUP}"
        index.touch("rich")
    if day == 4:
        forge.hotfix("nasty-1.0-0.conda", depends=["lib-a >=1.4"])
        forge.add(make_package("lost"))
        forge.remove("lost-1.0-0.conda", listed=True)
