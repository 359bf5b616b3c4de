"""Services that hold objects: moto, which is quick to start, and a gateway of Ceph, which is the real thing."""

import contextlib
import random
import re
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mirror import Mirror
from serving import free_port, running

#: starts Ceph's monitor, disk and gateway
_CEPH = Path(__file__).resolve().parents[2] / "shared" / "tools" / "ceph-rgw-up.sh"


@dataclass
class Service:
    """One that runs."""

    endpoint: str
    access_key: str
    secret_key: str
    #: whether it checks signatures, and until when they are good
    strict: bool = False
    #: addresses of buckets that were made
    made: list[str] = field(default_factory=list)

    @property
    def client(self) -> Any:
        """One of boto3, to look at objects without our own code, and to change them behind our back."""
        import boto3

        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)

    def bucket(self, *, versioned: bool = False) -> str:
        """A new, empty bucket."""
        name = f"test-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=name)
        if versioned:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def use(self, mirror: Mirror, store: str, *, endpoint: str = "") -> Mirror:
        """Give a mirror a store of objects, and a cache of its own. store: `bucket/prefix`"""
        keys = {"access_key": self.access_key, "secret_key": self.secret_key}
        table = {"endpoint": endpoint or self.endpoint, "region": "us-east-1", **keys}
        mirror.settings |= {"store": f"s3://{store}", "cache": str(mirror.root / "cache"), "s3": table}
        mirror.store_path = mirror.root / "cache"
        return mirror

    def keys(self, store: str, folder: str = "") -> dict[str, int]:
        """{key below the store: bytes}"""
        bucket, _, prefix = store.partition("/")
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/{folder}")
        return {one["Key"].removeprefix(f"{prefix}/"): one["Size"] for page in pages for one in page.get("Contents", ())}

    def contents(self, store: str) -> dict[str, bytes]:
        """{key below the store: its bytes}"""
        bucket, _, prefix = store.partition("/")
        client = self.client
        return {key: client.get_object(Bucket=bucket, Key=f"{prefix}/{key}")["Body"].read() for key in self.keys(store)}

    def restore(self, store: str, contents: dict[str, bytes]) -> None:
        """Make a store hold these objects, and no others."""
        bucket, _, prefix = store.partition("/")
        client = self.client
        for key in self.keys(store):
            client.delete_object(Bucket=bucket, Key=f"{prefix}/{key}")
        for key, data in contents.items():
            client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=data)


#: one request after the other: of two that create an object at once, it tells both on a busy machine that they have
_MOTO = """
import os, sys, threading
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # it prints a line for every request
os.dup2(1, 2)
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
every, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one(environ, start):
    with lock:
        return list(every(environ, start))
run_simple("127.0.0.1", int(sys.argv[1]), one, threaded=True)
"""


@contextlib.contextmanager
def moto() -> Iterator[Service]:
    """A server of moto's, which keeps all in memory and checks no signature."""
    port = free_port()
    with running([sys.executable, "-c", _MOTO, str(port)], port) as url:
        yield Service(url, "key", "secret")


def can_ceph() -> str:
    """Why no gateway of Ceph can be started; empty if one can be."""
    if not _CEPH.exists():
        return "what starts it (../shared) is not beside the project"
    missing = [name for name in ("ceph-mon", "ceph-osd", "radosgw", "uuidgen", "curl") if not shutil.which(name)]
    return (
        f"{', '.join(missing)} is not installed (Debian: ceph-mon ceph-osd ceph-common radosgw uuid-runtime)" if missing else ""
    )


def _three_ports() -> int:
    """The first of three ports in a row that nothing listens on, below those that the system gives to connections."""
    for _ in range(100):
        first = random.randrange(10000, 30000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            for port in range(first, first + 3):
                opened.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise RuntimeError("no three ports in a row are free")


@contextlib.contextmanager
def ceph(folder: Path) -> Iterator[Service]:
    """A gateway of Ceph with one disk, which is a file."""
    port = _three_ports()
    started = subprocess.run(["bash", _CEPH, "start", folder, str(port)], capture_output=True, text=True, timeout=120)
    try:
        assert started.returncode == 0, started.stderr[-2000:]
        said = dict(word.split("=", 1) for word in started.stdout.split() if "=" in word)
        yield Service(said["AWS_ENDPOINT_URL"], said["AWS_ACCESS_KEY_ID"], said["AWS_SECRET_ACCESS_KEY"], strict=True)
    finally:
        subprocess.run(["bash", _CEPH, "stop", folder], capture_output=True, timeout=60)


#: what a request becomes: the method, path and headers of one go in; None: go on with these headers; a status: answer that;
#: -1: cut the connection in the middle of the body
Tamper = Callable[[str, str, dict[str, str]], int | None]


@contextlib.contextmanager
def tampered(service: Service, tamper: Tamper, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a proxy in front of a service, which does with requests what a function says."""
    target = service.endpoint.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
            length = int(self.headers.get("Content-Length", 0))
            status = tamper(self.command, self.path, headers)
            if status == -1:
                self.rfile.read(length // 2)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not ended
                self.connection.close()
                self.close_connection = True
                return None
            body = self.rfile.read(length)
            if status is not None:
                return self.answer(status, {}, b"<Error><Code>SlowDown</Code></Error>")
            upstream = HTTPConnection(target, timeout=30)
            try:
                upstream.request(self.command, _ABSOLUTE.sub("", self.path), body, headers)
                response = upstream.getresponse()
                kept = {key: value for key, value in response.getheaders() if key.lower() not in _HOP}
                self.answer(response.status, kept, response.read())
            finally:
                upstream.close()

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            if self.command != "HEAD":
                headers = {key: value for key, value in headers.items() if key.lower() != "content-length"}
                headers["Content-Length"] = str(len(body))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = handle_any  # noqa: N815

    ThreadingHTTPServer.request_queue_size = 128  # many requests at once are what is tried
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


#: who takes it for his proxy names the service whole
_ABSOLUTE = re.compile(r"^http://[^/]+")
_HOP = {"connection", "transfer-encoding", "keep-alive"}
