"""Run an OpenAI-compatible server on this machine that gives prepared replies, or compares answers word by word."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]  # status, body


def completion(text: str) -> Reply:
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def compare(body: dict[str, Any]) -> Reply:
    """Rate 3 if answer and correct answer are the same, else 0."""
    told = dict(line.split(": ", 1) for line in body["messages"][1]["content"].splitlines() if ": " in line)
    return completion("3" if told["Correct answer"] == told["Answer to rate"] else "0")


class Server:
    """OpenAI-compatible server that answers with the given replies, then with the last one."""

    def __init__(self, *replies: Reply | Callable[[dict[str, Any]], Reply]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        left, lock, server = list(replies), threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.requests.append({"path": self.path, **body})
                    server.headers.append(dict(self.headers))
                    reply = left.pop(0) if len(left) > 1 else left[0]
                status, content = reply(body) if callable(reply) else reply
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
