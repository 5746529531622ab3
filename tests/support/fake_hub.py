"""Serve a few files as a model hub does, on this machine alone."""

import json
import re
import threading
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@dataclass
class FakeHub:
    """A hub with repositories name -> revision -> file -> bytes; it keeps what was asked of it.

    Attributes:
        cut: file -> number of bytes after which its next transfer breaks off; once.
        closed: names that answer as gated repositories do.
        stalls: file -> number of bytes after which each of its transfers falls silent until the hub goes.
        mute: say nothing to what asks for the list of files.
        down: answer every request with error 503.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]]
    cut: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    stalls: dict[str, int] = field(default_factory=dict)
    mute: bool = False
    down: bool = False
    fetched: list[tuple[str, str | None]] = field(default_factory=list)  # (file, Range) of each GET of a file

    def __enter__(self) -> Self:
        hub = self
        self._gone = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET  # noqa: N815 - the name is the protocol's

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def files(self, name: str, revision: str) -> dict[str, bytes] | None:
        by_commit = {COMMITS[key]: files for key, files in self.repositories.get(name, {}).items()}
        return by_commit.get(COMMITS.get(revision, revision))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        name, revision = (api[1], api[3]) if api else (file[1], file[2]) if file else ("", "")
        files = self.files(name, revision)
        if self.mute and api and api[2] == "tree":
            self._gone.wait()
            return
        if self.down:
            self.send(request, 503)
        elif name in self.closed:
            self.send(request, 403, {"X-Error-Code": "GatedRepo"})
        elif name not in self.repositories:
            self.send(request, 404, {"X-Error-Code": "RepoNotFound"})
        elif files is None:
            self.send(request, 404, {"X-Error-Code": "RevisionNotFound"})
        elif api:
            info = {"id": name, "sha": COMMITS.get(revision, revision), "siblings": []}
            tree = [{"type": "file", "path": k, "size": len(v), "oid": sha1(v).hexdigest()} for k, v in files.items()]
            self.send(request, 200, body=json.dumps(info if api[2] == "revision" else tree).encode())
        elif file:
            self.send_file(request, file[3], files[file[3]], COMMITS.get(revision, revision))

    def send_file(self, request: BaseHTTPRequestHandler, name: str, data: bytes, commit: str) -> None:
        headers = {"ETag": f'"{sha1(data).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if request.command == "HEAD":
            self.send(request, 200, headers | {"Content-Length": str(len(data))})
            return
        asked = request.headers.get("Range")
        self.fetched.append((name, asked))
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send(request, 206 if start else 200, headers, data[start:], self.cut.pop(name, self.stalls.get(name)))
        if name in self.stalls:
            request.wfile.flush()
            self._gone.wait()

    def send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        cut: int | None = None,
    ) -> None:
        headers = {"Content-Length": str(len(body))} | (headers or {})
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body[:cut])
        request.close_connection = True
