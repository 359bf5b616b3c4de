"""Shell completion: what is offered after what was typed, and that bash asks for it with the script that it is given."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from channels import Channel
from mirror import Mirror


def offers(mirror: Mirror, *words: str) -> list[str]:
    """What is offered after `snapmirror` and these words, of which the last one is not finished."""
    asked = {
        "_SNAPMIRROR_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(("snapmirror", *words)),
        "COMP_CWORD": str(len(words)),
    }
    result = mirror.run_bare(environment={**os.environ, "HOME": str(mirror.root), **asked, **mirror.env})
    assert result.err == ""
    return result.out.split()


def test_what_is_offered(mirror: Mirror, channel: Channel) -> None:
    mirror.add("own/tools", channel.root.as_uri())
    mirror.sync("--seal-as", "20260301T010203Z")
    mirror.sync()
    mirror.run("pin", "paper", "2026-03-01")
    (newest,) = mirror.snapshots()[1:]
    assert {"sync", "show", "snapshots", "status", "serve"} == {one for one in offers(mirror, "s") if one != "schedule"}
    assert offers(mirror, "sync", "--d") == ["--dry-run"]
    config = ("-c", str(mirror.config))
    assert offers(mirror, "sync", *config, "") == ["chan", "own/tools"]
    assert offers(mirror, "diff", *config, "paper", "current", "ow") == ["own/tools"]
    assert offers(mirror, "show", *config, "2026030") == ["20260301T010203Z"]
    assert offers(mirror, "unpin", *config, "") == ["paper"]
    assert offers(mirror, "client", "p") == ["pixi", "pip"]
    mirror.env["SNAPMIRROR_CONFIG"] = str(mirror.config)
    day = f"{newest[:4]}-{newest[4:6]}-{newest[6:8]}"
    assert offers(mirror, "show", "") == ["current", "paper", day, "2026-03-01", newest, "20260301T010203Z"]


def test_where_there_is_nothing_to_offer(mirror: Mirror) -> None:
    """No configuration, a wrong one, no store: nothing is offered, and nothing is said in the middle of a line."""
    assert offers(mirror, "show", "") == []
    mirror.settings["stroe"] = "x"
    mirror.write()
    assert offers(mirror, "sync", "-c", str(mirror.config), "") == []
    del mirror.settings["stroe"]
    mirror.write()
    assert offers(mirror, "show", "-c", str(mirror.config), "") == []
    assert not mirror.store_path.exists()


#: installs what `snapmirror` says, and does what bash does when the tabulator key is pressed
PRESSED = """\
eval "$(_SNAPMIRROR_COMPLETE=source_bash snapmirror)"
COMP_WORDS=(snapmirror sync -c mirror.toml ch)
COMP_CWORD=4
$(complete -p snapmirror | sed 's/.*-F \\([^ ]*\\).*/\\1/') snapmirror
echo "${COMPREPLY[@]}"
"""


def test_bash(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    (tmp_path / "mirror.toml").write_text('[[repo]]\nkind = "conda"\npath = "chan"\nupstream = "http://127.0.0.1:9/"\n')
    program = tmp_path / "snapmirror"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m snapmirror "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [bash, "--norc", "-c", PRESSED]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("chan\n", "")
