"""A TCP proxy that can be cut, paused and frozen: a network that fails, before a real server."""

import contextlib
import socket
import threading
from enum import Enum
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK_BYTES = 64 * 1024


class Towards(Enum):
    """A direction of what is passed on."""

    SERVER = "server"
    CLIENT = "client"


class Proxy:
    """Passes a port on to a server until it is told not to. A context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._flowing = {towards: threading.Event() for towards in Towards}
        self._open: set[socket.socket] = set()
        self._frozen: set[socket.socket] = set()
        self.resume()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        user = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        # A thread in accept() keeps the port open unless the socket is shut down first.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._open):
            _close(end)

    def restore(self) -> None:
        """Accept connections again, after a cut."""
        self._listener = self._listen(self.port)

    def pause(self, *towards: Towards) -> None:
        """Keep connections open, accept new ones, and pass nothing on in these directions."""
        for direction in towards or Towards:
            self._flowing[direction].clear()

    def resume(self) -> None:
        """Pass on what came during a pause, and all that follows."""
        for flowing in self._flowing.values():
            flowing.set()

    def freeze(self) -> None:
        """Leave the connections that there are open and dumb for ever; new ones work."""
        self._frozen |= self._open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        with contextlib.suppress(OSError):
            self.cut()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                self._open |= {near, far}
                ways = ((near, far, Towards.SERVER), (far, near, Towards.CLIENT))
                for way in ways:
                    threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, towards: Towards) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                self._flowing[towards].wait()
                if source not in self._frozen:
                    sink.sendall(chunk)
        for end in (source, sink):
            self._open.discard(end)
            _close(end)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
