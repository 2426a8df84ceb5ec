"""What is seen while it is seen: a page of this computer in the browser.

The opencv-python-headless that kouros needs has no windows, and not every Python has tkinter; a browser is where a
screen is. The page is served on the loopback interface alone, under a name that nobody can guess.
"""

import secrets
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8

from kouros.export.pictures import photo_to_draw_on

_SIDE = 640
_QUALITY = 80
_PAGE = b"""<!doctype html><meta charset="utf-8"><title>kouros</title>
<style>body { margin: 0; background: #222 } img { display: block; margin: auto; height: 100vh }</style>
<img src="pictures" alt="what is seen">
"""
_BORDER = "picture"


class Preview:
    """A page that shows the newest picture; pictures that nobody looks at cost nothing."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._pixels: UInt8[np.ndarray, "height width 3"] | None = None
        self._number, self._ended = 0, False
        self._token = secrets.token_urlsafe(12)
        preview = self

        class Handler(_Handler):
            shown: ClassVar[Preview] = preview

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._token}/"

    def show(self, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        """The next picture, RGB."""
        with self._changed:
            self._pixels, self._number = pixels, self._number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """No more pictures come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def page_of(self, path: str) -> str | None:
        """What is meant by a path: the page, its pictures, or nothing."""
        return {f"/{self._token}/": "page", f"/{self._token}/pictures": "pictures"}.get(path)

    def pictures(self) -> Iterator[bytes]:
        """JPEG files, each newer than the one before, until no more come."""
        last = 0
        while True:
            with self._changed:
                while self._number == last and not self._ended:
                    self._changed.wait()
                if self._number == last or self._pixels is None:
                    return
                last, pixels = self._number, self._pixels
            small = cv2.cvtColor(photo_to_draw_on(pixels, _SIDE)[0], cv2.COLOR_RGB2BGR)
            yield cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


class _Handler(BaseHTTPRequestHandler):
    shown: ClassVar[Preview]

    def do_GET(self) -> None:
        wanted = self.shown.page_of(self.path)
        if wanted is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        kind = "text/html" if wanted == "page" else f"multipart/x-mixed-replace; boundary={_BORDER}"
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with suppress(OSError):  # whoever looked has left
            if wanted == "page":
                self.wfile.write(_PAGE)
                return
            for picture in self.shown.pictures():
                head = f"--{_BORDER}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Nobody wants to read of it."""


@contextmanager
def preview() -> Iterator[tuple[Preview, bool]]:
    """A page, and whether a browser shows it by now."""
    page = Preview()
    try:
        opened = False
        with suppress(webbrowser.Error):
            opened = webbrowser.open(page.url)
        yield page, opened
    finally:
        page.close()
