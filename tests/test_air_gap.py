"""Export here, import behind an air gap: a network namespace without a way out, where real clients install at a date."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from channels import Channel, make_package
from mirror import Mirror
from pypi_index import Index
from wheels import wheel

pytest.importorskip("rattler", reason="py-rattler is not installed")
pytest.importorskip("uv", reason="uv is not installed")

NAMESPACE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
DAYS = ["2026-11-01", "2026-11-02"]

pytestmark = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0,
    reason="this machine allows no network namespaces",
)


def test_clients_install_at_a_date_where_nothing_but_the_import_is(mirror: Mirror, channel: Channel, tmp_path: Path) -> None:
    with Index(tmp_path / "index") as index:
        mirror.add("pypi", f"{index.url}/simple/", kind="pypi", projects=["app", "lib"])
        for number, day in enumerate(DAYS, 1):
            for name, needs in (("app", ["lib"]), ("lib", [])):
                channel.add(make_package(name, f"{number}.0", depends=needs))
                file, content, metadata = wheel(name, f"{number}.0", needs)
                index.upload(name, file, content, metadata)
            channel.publish()
            mirror.sync("--seal-as", day)
    mirror.run("export", "--to", str(tmp_path / "all.tar"))
    script = Path(__file__).with_name("behind_gap.py")
    command = [*NAMESPACE, sys.executable, script, tmp_path / "all.tar", tmp_path / "site", *DAYS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {
        day: {
            "rattler": [f"app-{number}.0-0", f"lib-{number}.0-0"],
            "pip": [f"app-{number}.0", f"lib-{number}.0"],
            "uv": [f"app-{number}.0", f"lib-{number}.0"],
        }
        for number, day in enumerate(DAYS, 1)
    }
