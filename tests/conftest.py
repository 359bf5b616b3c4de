"""Fixtures that several modules of tests share: an upstream, a channel on it, a mirror of that channel."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from channels import Channel, make_package
from mirror import Mirror
from upstream import Upstream

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a shell; what tests start is to heed Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    """A server of an empty folder."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    with Upstream(folder) as server:
        yield server


@pytest.fixture
def channel(upstream: Upstream) -> Channel:
    """The channel `chan` of that server, published: `tool` in linux-64, `lib` and `data` in noarch."""
    made = Channel(upstream.root / "chan", subdirs=["linux-64"])
    made.add(
        make_package("tool", subdir="linux-64", depends=["lib"]), make_package("lib"), make_package("data", ext=".tar.bz2")
    )
    made.publish()
    return made


@pytest.fixture
def mirror(tmp_path: Path, upstream: Upstream, channel: Channel) -> Mirror:
    """A mirror of that channel, not synced yet."""
    made = Mirror(tmp_path / "mirror")
    made.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"])
    return made
