"""Accept connections as a model hub does, and fall silent before or within an answer."""

import socket
import threading
from typing import Self


class SilentHub:
    """A hub on this machine that accepts every connection and says `start` and nothing more, for ever."""

    def __init__(self, start: bytes = b"") -> None:
        self._start = start

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            self._held.append(connection)
            connection.sendall(self._start)

    def __exit__(self, *error: object) -> None:
        self._server.close()
        for connection in self._held:
            connection.close()
