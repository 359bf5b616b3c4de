"""snapmirror schedule: units for systemd, or a line for cron, that run the mirror every night."""

import os
import pwd
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import config as configuration
from .config import Config
from .context import ConfigOption, find_config, output, say

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")

_UNITS = """\
# /etc/systemd/system/snapmirror-sync.service
[Unit]
Description=Sync the mirror {config}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={user}
# passwords and keys that the configuration takes from the environment
EnvironmentFile=-/etc/snapmirror.env
{before}ExecStart={command}
# done, but something upstream was not as it should be
SuccessExitStatus=3
ReadWritePaths={paths}
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=true
PrivateDevices=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectControlGroups=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictSUIDSGID=true
NoNewPrivileges=true
Nice=10

# /etc/systemd/system/snapmirror-sync.timer
[Unit]
Description=Sync the mirror {config}

[Timer]
OnCalendar={calendar}
# a time at which the machine was off is made up for
Persistent=true

[Install]
WantedBy=timers.target

# systemctl daemon-reload && systemctl enable --now snapmirror-sync.timer"""


def schedule(
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="Hour and minute by this machine's clock: 01:00.")],
    weekly: Annotated[str, typer.Option("--weekly", metavar="DAY", help="Only on this day: mon, tue, ... sun.")] = "",
    cron: Annotated[bool, typer.Option("--cron", help="Print a line for a crontab instead of units for systemd.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print units for systemd, or a line for cron, that sync this mirror every night and then collect garbage."""
    time = _TIME.fullmatch(at)
    if not time:
        raise UsageError(f"--at {at}: write an hour and a minute, such as 01:00")
    if weekly and weekly.lower() not in _DAYS:
        raise UsageError(f"--weekly {weekly}: write one of {', '.join(_DAYS)}")
    path = find_config(config).absolute()
    found = configuration.load(path)
    if cron:
        output(_cron(path, int(time[1]), int(time[2]), weekly.lower()))
    else:
        day = f"{weekly.capitalize()} " if weekly else ""
        output(_units(path, found, f"{day}*-*-* {int(time[1]):02}:{time[2]}:00"))


def _command(verb: str, config: Path) -> list[str]:
    """The words of a command line that runs a verb, by the very program that runs now."""
    program = Path(sys.argv[0]).absolute()
    run = [str(program)] if program.name == "snapmirror" else [sys.executable, "-m", "snapmirror"]
    return [*run, verb, "--config", str(config)]


def _commands(config: Path) -> tuple[str, str]:
    """The command lines of sync and of gc, for a shell."""
    return shlex.join(_command("sync", config)), shlex.join(_command("gc", config))


def _cron(config: Path, hour: int, minute: int, weekly: str) -> str:
    """A line for a crontab. gc runs even if the sync fails: on a full disk it is what helps."""
    sync, gc = _commands(config)
    command = f"{{ {sync}; {gc}; }} >>snapmirror.log 2>&1".replace("%", r"\%")
    return f"{minute} {hour} * * {_DAYS.index(weekly) if weekly else '*'} {command}"


def _units(config: Path, found: Config, calendar: str) -> str:
    store = found.store_path
    folders = [store, *([found.index_path.parent] if found.index_path else [])]
    user = _user(store.stat().st_uid if store.exists() else os.geteuid())
    cache = _join(["/usr/bin/install", "-d", "-o", user, str(store)], expanded=True)
    for folder in folders:
        if not (found.is_remote or folder.exists()):
            say(f"{folder} is not there yet, and systemd lets nobody write to what is not: run `snapmirror sync` once first")
    for repo in found.repo:
        if repo.link:
            why = "what the service may write to is a mount of its own, and no link leads from one to another"
            say(f"{repo.path}: link = true copies there: {why}; write a folder that holds both into ReadWritePaths")
    sync, gc = _commands(config)
    # systemd would not run a second command where the first has failed; see `_cron`
    both = ["/bin/sh", "-c", f"{sync}; status=$?; {gc} && exit $status"]
    return _UNITS.format(
        config=_specifiers(str(config)),
        user=user,
        before=f"# the cache may be thrown away\nExecStartPre=+{cache}\n" if found.is_remote else "",
        command=_join(both, expanded=True),
        paths=_join([str(folder) for folder in folders]),
        calendar=calendar,
    )


def _user(number: int) -> str:
    """The name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _join(words: list[str], *, expanded: bool = False) -> str:
    """Words as systemd takes them apart again (systemd.service(5), section COMMAND LINES).

    expanded: whether it also replaces variables in them, `$NAME`, as it does in commands
    """
    return " ".join(_quote(word.replace("$", "$$") if expanded else word) for word in words)


def _quote(word: str) -> str:
    text = _specifiers(word)
    if re.fullmatch(r"[\w@%+=:,./$-]+", text, re.ASCII):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _specifiers(text: str) -> str:
    """A text in which systemd replaces no `%n`."""
    return text.replace("%", "%%")
