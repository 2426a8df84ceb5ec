"""A web server: photos are posted, people come back as JSON. Processes with one thread each share the photos.

    python examples/9_server.py --port 8080 --workers 2
    curl --data-binary @photo.jpg http://localhost:8080/

Only the standard library and kouros; behind a real server (gunicorn, uvicorn) `people_in` is what a worker calls.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context

LARGEST = 20 * 2**20
"""Bytes of a photo that is posted."""


def begin() -> None:
    """In each worker, once: one thread, and everything read and compiled before the first photo comes."""
    import torch

    import kouros

    torch.set_num_threads(1)
    kouros.load_body()


def people_in(photo: bytes) -> tuple[int, str]:
    """Status and JSON for one photo; runs in a worker. People would go through the pipe as well: they are small."""
    import kouros
    from kouros.data.images import ImageError

    try:
        people = kouros.reconstruct(photo)
    except ImageError as error:
        return 400, json.dumps({"error": str(error)})
    return 200, json.dumps({"people": [person.to_dict() for person in people]})


class Handler(BaseHTTPRequestHandler):
    """Takes a photo from the body of a POST."""

    pool: ProcessPoolExecutor

    def do_POST(self) -> None:
        """Answer with people."""
        length = int(self.headers.get("Content-Length", 0))
        if not 0 < length <= LARGEST:
            status, answer = 413, json.dumps({"error": f"post a photo of at most {LARGEST} bytes."})
        else:
            status, answer = self.pool.submit(people_in, self.rfile.read(length)).result()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer.encode())


def server(host: str, port: int, workers: int) -> ThreadingHTTPServer:
    """Ready to serve; port 0 takes a free one."""
    # Spawned, not forked: threads of torch do not survive a fork.
    Handler.pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin)
    serving = ThreadingHTTPServer((host, port), Handler)
    serving.daemon_threads = False  # who closes it waits for the last answer
    return serving


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 answers other machines, too")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--once", action="store_true", help="end after one photo")
    options = parser.parse_args()
    with server(options.host, options.port, options.workers) as serving:
        print(f"http://{options.host}:{serving.server_address[1]}/", flush=True)
        if options.once:
            serving.handle_request()
            serving.server_close()
            Handler.pool.shutdown()
        else:
            serving.serve_forever()
