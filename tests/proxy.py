"""A server that stands before another one, passes requests on to it, and keeps what was asked."""

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import requests

#: fields of an answer that are of the connection, or that we write ourselves
_OURS = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Asked(NamedTuple):
    """One request, and how it was answered."""

    path: str
    #: whether it was only to be answered if something had changed
    conditional: bool
    status: int
    #: whether the answer allows to ask so the next time
    validated: bool


def make_certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate, with its key in the same file."""
    folder.mkdir()
    new = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}"
    command = ["openssl", *new.split(), "-addext", f"subjectAltName=DNS:{name}", "-keyout", "key", "-out", "cert"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "both.pem").write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return folder / "both.pem"


class Proxy:
    """Before the server of an address, which may be below a path; `url` leads through it to the same."""

    def __init__(
        self, address: str, *, certificate: Path | None = None, clients: Path | None = None, trusted: str = ""
    ) -> None:
        """certificate: with its key in the same file; then it speaks TLS. clients: the certificates that they may show, if they
        have to. trusted: certificates of who signs upstream's
        """
        self.asked: list[Asked] = []
        parts = urlsplit(address)
        self._origin, self._verify = f"{parts.scheme}://{parts.netloc}", trusted or True
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{parts.path}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if clients:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(clients)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self._server.server_port}{parts.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def paths(self) -> list[str]:
        """All that were asked for."""
        return [one.path for one in self.asked]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fields = {name: value for name, value in self.headers.items() if name != "Host"}
                answer, body = proxy._ask(self.path, fields)
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in _OURS:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *message: object) -> None:
                pass

        return Handler

    def _ask(self, path: str, fields: dict[str, str]) -> tuple[requests.Response, bytes]:
        """The answer, and its content in the coding that it has."""
        url = self._origin + path
        answer = requests.get(url, headers=fields, timeout=60, verify=self._verify, stream=True, allow_redirects=False)
        conditional = not {"If-None-Match", "If-Modified-Since"}.isdisjoint(fields)
        validated = not {"ETag", "Last-Modified"}.isdisjoint(answer.headers)
        self.asked.append(Asked(path, conditional, answer.status_code, validated))
        return answer, answer.raw.read()
