"""An index on loopback, of projects with one file each."""

import hashlib
import json
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler
from random import Random

from .servers import Loopback

JSON = "application/vnd.pypi.simple.v1+json"


class Handler(BaseHTTPRequestHandler):
    """Answers for an index; `index` is set by it."""

    index: "Index"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Pages are right, files as the index has them sent."""
        index = self.index
        match self.path.split("/")[1:]:
            case ["simple", ""]:
                listed = {"meta": {"api-version": "1.4"}, "projects": [{"name": name} for name in index.contents]}
                self.whole(json.dumps(listed).encode(), JSON)
            case ["simple", project, ""] if project in index.contents:
                self.whole(json.dumps(index.page(project)).encode(), JSON)
            case ["files", name] if (project := name.partition("-")[0]) in index.contents:
                index.send(self, project)
            case ["elsewhere", project]:
                self.whole(index.contents[project])
            case _:
                self.whole(b"no such thing", status=404)

    def begin(self, status: int, **fields: str) -> None:
        """Status line and header."""
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def whole(self, content: bytes, media: str = "application/octet-stream", status: int = 200) -> None:
        """A right answer."""
        self.begin(status, Content_Type=media, Content_Length=str(len(content)))
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Index(Loopback):
    """The index."""

    def __init__(self, projects: Iterable[str], size: int) -> None:
        """size: of each file"""
        self.contents = {name: Random(name).randbytes(size) for name in projects}
        #: the same at an address whose certificate nobody has signed, if there is one
        self.unproved = ""
        self.handler = type("Handler", (Handler,), {"index": self})
        super().__init__(self.handler)
        self._server.socket.listen(256)  # where a proxy sends its clients on, all of them come at once

    def send(self, handler: Handler, project: str) -> None:
        """Answer a request for the file of a project."""
        handler.whole(self.contents[project])

    def page(self, project: str) -> object:
        """As PyPI has it."""
        name, content = f"{project}-1.0-py3-none-any.whl", self.contents[project]
        record = {
            "filename": name,
            "url": f"{self.address}/files/{name}",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "size": len(content),
            "upload-time": "2026-11-01T10:00:00Z",
            "yanked": False,
        }
        return {"meta": {"api-version": "1.4"}, "name": project, "versions": ["1.0"], "files": [record]}
