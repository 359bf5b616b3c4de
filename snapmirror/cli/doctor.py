"""snapmirror doctor: what is not as it should be on this machine and at upstreams, and what to do about it."""

import stat
from collections.abc import Iterator
from pathlib import Path

import typer

from .. import clock
from ..errors import ObjectError, UsageError
from ..findings import Finding
from ..store import suitable
from ..store.layout import Layout
from . import stores
from .config import Config
from .context import ConfigOption, JsonOption, output, output_json, printable, read_config
from .ecosystems import ECOSYSTEMS

_FAILED, _WARNED = 1, 3


def doctor(json: JsonOption = False, config: ConfigOption = None) -> None:
    """Look whether all is as it should be here and at upstreams, and say what to do. Status 3 for a warning, 1 for worse."""
    settings = read_config(config)
    found = []
    for finding in findings(settings):
        found.append(finding)
        if not json:
            advice = f"; {finding.advice}" if finding.advice else ""
            output(printable(f"{finding.result:4}  {finding.check}: {finding.found}{advice}"))
    failures, warnings = (sum(finding.result == result for finding in found) for result in ("fail", "warn"))
    if json:
        output_json({"checks": [finding._asdict() for finding in found], "failures": failures, "warnings": warnings})
    raise typer.Exit(_FAILED if failures else _WARNED if warnings else 0)


def findings(config: Config) -> Iterator[Finding]:
    """All that can be told without changing anything, as it is found."""
    from ..serve import port  # aiohttp and requests take long to load
    from ..sync import reach

    if config.is_remote:
        yield _objects(config)
    yield from suitable.findings(Layout(config.store_path, config.index_path), clock.now)
    yield suitable.space(config.store_path, config.download.room)
    yield port.finding(config.serve)
    if config.sign.key:
        yield _key(config)
    if not config.repo:
        yield Finding("repos", "warn", "the configuration has no [[repo]]", "add one, as snapmirror.toml(5) describes")
    yield from reach.findings(ECOSYSTEMS, config.repo, config.download, clock.now)


def _objects(config: Config) -> Finding:
    """The store, if it is no folder; what else is told of one is then of its cache."""
    try:
        there = stores.there(config)
    except (ObjectError, UsageError) as error:
        return Finding("objects", "fail", str(error), "see that the address, [s3] and the credentials are right")
    found = "is a store" if there else "can be asked, and is no store yet; the first `snapmirror sync` makes it one"
    return Finding("objects", "ok", f"{config.store} {found}")


def _key(config: Config) -> Finding:
    path = Path(config.sign.key)
    try:
        config.sign.read_key()
    except UsageError as error:
        return Finding("signing key", "fail", str(error), "sync would refuse to begin; make one with `snapmirror key generate`")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding("signing key", "warn", f"{path} can be read by others, who could sign as you", f"chmod 600 {path}")
    return Finding("signing key", "ok", f"{path} can be read by nobody else")
