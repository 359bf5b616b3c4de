"""Real clients of a channel, each in a process of its own."""

import hashlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path

#: py-rattler 0.28 may die at the end of the interpreter, after its work: what it printed counts, not its status
_INSTALL = textwrap.dedent(
    """
    import asyncio, json, sys, pathlib
    from rattler import Channel, Gateway, MatchSpec, Platform, SourceConfig, install, solve
    url, spec, prefix, cache, platform, sharded = sys.argv[1:7]
    async def main():
        config = SourceConfig(sharded_enabled=sharded == "sharded")
        gateway = Gateway(cache_dir=pathlib.Path(cache) / "repodata", default_config=config)
        records = await solve([Channel(url)], [MatchSpec(spec)], gateway=gateway,
                              platforms=[Platform(platform), Platform("noarch")])
        await install(records, target_prefix=prefix, cache_dir=str(pathlib.Path(cache) / "pkgs"),
                      platform=Platform(platform), show_progress=False)
        print(json.dumps([record.name.normalized for record in records]), flush=True)
    asyncio.run(main())
    """
)


def install(
    channel: str, spec: str, folder: Path, *, platform: str = "linux-64", sharded: bool = True
) -> dict[str, dict[str, str]]:
    """Solve and install with py-rattler, with empty caches; {package: {installed file: SHA-256}}."""
    prefix = folder / "prefix"
    arguments = [channel, spec, str(prefix), str(folder / "cache"), platform, "sharded" if sharded else "flat"]
    done = subprocess.run([sys.executable, "-c", _INSTALL, *arguments], capture_output=True, text=True, timeout=120)
    lines = done.stdout.strip().splitlines()
    assert lines, done.stderr
    found = {}
    for name in json.loads(lines[-1]):
        [record] = [json.loads(path.read_bytes()) for path in (prefix / "conda-meta").glob(f"{name}-*.json")]
        found[name] = {file: hashlib.sha256((prefix / file).read_bytes()).hexdigest() for file in record["files"]}
    return found
