"""A camera on the network, emulated: JPEG pictures over HTTP each with its number in its greys."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64
SHADES, APART = 7, 28  # of either half: further apart than a film's compression moves them
STEPS = SHADES**2  # numbers that the two halves tell apart


def picture(number, width=WIDTH, height=HEIGHT):
    """Noise about a grey of either half, as a sensor has it: no two are the same."""
    noise = np.random.default_rng(number).integers(-3, 4, (height, width, 3))
    shades = np.array([number % STEPS // SHADES, number % SHADES])
    return (30 + APART * np.repeat(shades, width // 2)[None, :, None] + noise).astype(np.uint8)


def number_of(shown):
    """Of a picture, modulo STEPS."""
    half, edge = shown.shape[1] // 2, shown.shape[1] // 20
    greys = [float(part[:, edge:-edge].mean()) for part in np.split(shown, [half], axis=1)]
    first, second = (round((grey - 30) / APART) for grey in greys)
    return (first * SHADES + second) % STEPS


def jpeg(data):
    out = BytesIO()
    Image.fromarray(data).save(out, "JPEG", quality=95)
    return out.getvalue()


@contextmanager
def camera(fps=25.0):
    """Its address; it sends to everybody who asks, until he goes or it ends."""
    over, pictures = threading.Event(), [jpeg(picture(k)) for k in range(STEPS)]

    class Sends(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            k, due = 0, time.monotonic()
            try:
                while not over.is_set():
                    data = pictures[k % STEPS]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
                    k, due = k + 1, due + 1 / fps
                    time.sleep(max(0.0, due - time.monotonic()))
            except OSError:  # nobody looks any more
                pass

        def log_message(self, *said):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sends)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
