"""wrk: how many requests a second a server answers, with one thread and 16 connections."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from .measure import run

#: requests are put together once, so that wrk has as little to do as it can
_LUA = """\
{fields}local requests, last = {{}}, 0
function init()
  for _, path in ipairs({{{paths}}}) do requests[#requests + 1] = wrk.format("GET", path) end
end
function request()
  last = last % #requests + 1
  return requests[last]
end
"""


def script(file: Path, paths: Sequence[str], fields: Mapping[str, str] | None = None) -> None:
    """Write what wrk is to ask for: paths below a server, in turn. fields: of every request"""
    stated = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in (fields or {}).items())
    file.write_text(_LUA.format(fields=stated, paths=", ".join(f'"/{path}"' for path in paths)))


def command(file: Path | str, address: str, seconds: int) -> str:
    """The command line."""
    return f"wrk -t1 -c16 -d{seconds}s --timeout 60s -s {file} {address}"


def wrk(file: Path, address: str, seconds: int) -> float:
    """Requests a second. Raises RuntimeError if one was not answered with 200."""
    said = run(shlex.split(command(shlex.quote(str(file)), address, seconds)))
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk on {address}: {said}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if not found:
        raise RuntimeError(f"wrk said: {said}")
    return float(found[1])
