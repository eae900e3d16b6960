"""A study behind a real TLS proxy under a path, with exactly the file of the documentation: nginx, `rapport ask`, a
browser, and a learner. Only the name, the ports and the paths are put in."""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

import human_ui
from human_ui import people
from human_ui.client import Client
from human_ui.server import listen
from human_ui.site import open_site
from tests.human_ui.served import ask, make_study, shot
from tests.human_ui.test_page import saved, wait_for_question

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
FILE = Path(human_ui.__file__).parent.parent / "docs" / "proxy" / "nginx.conf"
AROUND = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def tool(name, package):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or pytest.fail(
        f"no {name}: apt-get install {package}"
    )


def free_port():
    with listen() as free:
        return free.getsockname()[1]


def certificate(folder):
    """Self-signed, for localhost."""
    command = [tool("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", f"{folder}/privkey.pem", "-out", f"{folder}/fullchain.pem", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)


def put_in(text, **places):
    for there, here in places.values():
        assert there in text, f"the documented file has no {there!r}"
        text = text.replace(there, here)
    return text


def wait_until_it_listens(port, running):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert running.poll() is None, running.stderr.read()
        with socket.socket() as tried:
            if not tried.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens at {port}")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    """A study at https://localhost:PORT/cups, with invitations as `rapport ask` prints them."""
    nginx = tool("nginx", "nginx-light")
    folder = tmp_path_factory.mktemp("proxied")
    tls, port = free_port(), free_port()
    certificate(folder)
    site_conf = put_in(
        FILE.read_text(),
        port=("listen 443 ssl", f"listen 127.0.0.1:{tls} ssl"),
        name=("server_name study.example.org", "server_name localhost"),
        certificate=("/etc/letsencrypt/live/study.example.org/", f"{folder}/"),
        server=("127.0.0.1:8000", f"127.0.0.1:{port}"),
    )
    (folder / "site.conf").write_text(site_conf)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=getpass.getuser()))
    study = make_study(folder / "study")
    site = open_site(study)
    ask(site, 4)
    learner = people.invite(site.store, "learner", "learner")
    address = f"https://localhost:{tls}/cups"
    told = ["--public", "--address", address, "--port", str(port), "--invite", "ann"]
    served = subprocess.Popen(
        [sys.executable, "-m", "rapport", "ask", str(study), *told],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    proxy = subprocess.Popen([nginx, "-c", f"{folder}/nginx.conf"], stderr=subprocess.PIPE, text=True)
    try:
        said = [served.stdout.readline() for _ in range(3)]
        wait_until_it_listens(port, served)
        wait_until_it_listens(tls, proxy)
        links = [re.search(r"https://\S+", line)[0] for line in said]
        yield SimpleNamespace(
            site=site, address=address, port=port, said=said, links=links, learner=learner, folder=folder
        )
    finally:
        for running in (served, proxy):
            running.send_signal(signal.SIGKILL if running is served else signal.SIGTERM)
            running.communicate(timeout=30)
        site.store.close()


@pytest.fixture
def client(proxied):
    """Of somebody at an address of their own."""

    def from_(address, **kwargs):
        transport = httpx.HTTPTransport(local_address=address, verify=False)
        return httpx.Client(transport=transport, base_url=proxied.address, **kwargs)

    return from_


def test_a_person_joins_by_link_and_answers(proxied, browser):
    start, mine, _ = proxied.links
    assert start.startswith(proxied.address) and mine.startswith(f"{proxied.address}/#")
    assert f"passes it on to http://127.0.0.1:{proxied.port}" in proxied.said[0]
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    asked, problems = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.goto(mine)
    for n in (1, 2, 3):
        wait_for_question(page)
        page.keyboard.press("1")
        saved(page, n)
    shot(page, "proxied")
    assert page.url == f"{proxied.address}/" and len(proxied.site.store.answers()) == 3
    clips = [url for url in asked if "/clips/" in url]
    assert clips and all(url.startswith((f"{proxied.address}/", "blob:")) for url in asked), asked
    assert problems == []
    (cookie,) = context.cookies()
    assert cookie["secure"] and cookie["httpOnly"] and cookie["path"] == "/cups" and cookie["sameSite"] == "Lax"
    part = page.evaluate(
        """async (url) => {
          const [whole, part] = [await fetch(url), await fetch(url, { headers: { Range: "bytes=10-19" } })];
          const [all, some] = [new Uint8Array(await whole.arrayBuffer()), new Uint8Array(await part.arrayBuffer())];
          const cached = whole.headers.get("cache-control");
          return { status: part.status, range: part.headers.get("content-range"), cached,
                   same: some.length === 10 && some.every((byte, i) => byte === all[10 + i]) };
        }""",
        clips[0],
    )
    assert part["status"] == 206 and part["same"] and part["range"].startswith("bytes 10-19/")
    assert part["cached"] == "private, max-age=31536000, immutable"
    context.close()


def test_the_owner_comes_by_link(proxied, browser):
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(proxied.links[2])
    page.get_by_role("heading", name="People").wait_for()
    assert page.url == f"{proxied.address}/owner"
    context.close()


def test_redirects_stay_under_the_address(proxied, client):
    nobody = client("127.0.0.1")
    for path, there in (("", "/"), ("/owner/", "/owner"), ("/api/me/", "/api/me")):
        found = nobody.get(proxied.address + path)
        assert found.is_redirect and found.headers["location"] == proxied.address + there
    assert nobody.get(proxied.address.removesuffix("/cups") + "/owner").status_code == 404, "outside of the prefix"
    page = nobody.get("/").text
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert links and all(link.startswith("/cups/") for link in links)


def test_a_learner_waits_through_the_proxy(proxied, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", f"{proxied.folder}/fullchain.pem")
    learner = Client(proxied.address, proxied.learner)
    before = learner.answers()
    began = time.monotonic()
    assert learner.answers(after=before[-1].seq if before else 0, wait=3.0) == [] and time.monotonic() - began >= 3.0
    assert learner.queue()["answers"] == len(before)


def test_who_writes_is_known_by_the_address_that_the_proxy_saw(proxied, client):
    """Guesses of invitations are counted by address: neither is everybody one because of the proxy, nor does it help to
    say that one is somebody else."""

    def guess(who, i):
        headers = {"X-Rapport": "1", "X-Forwarded-For": f"203.0.113.{i % 250}"}
        return who.post("/api/session", json={"token": "guess"}, headers=headers).status_code

    with client("127.0.0.2") as many, client("127.0.0.3") as other:
        # Twice what a minute allows: should the minute turn meanwhile, one of the two still has too many.
        assert {guess(many, i) for i in range(2 * proxied.site.limits.post + 2)} == {401, 429}
        assert guess(other, 0) == 401


def test_writes_come_from_the_pages_of_the_address_alone(proxied, client):
    origin = proxied.address.removesuffix("/cups")
    expected = {
        origin: 401,
        origin.replace("https", "http"): 403,
        "https://localhost": 403,
        f"http://127.0.0.1:{proxied.port}": 403,
        "https://evil.example": 403,
        "null": 403,
    }
    with client("127.0.0.4") as nobody:
        for said, status in expected.items():
            headers = {"X-Rapport": "1", "Origin": said}
            found = nobody.post("/api/session", json={"token": "guess"}, headers=headers)
            assert found.status_code == status, said
        # A name that the proxy was called by makes no page ours.
        headers = {"X-Rapport": "1", "Origin": "https://evil.example", "Host": "evil.example"}
        assert nobody.post("/api/session", json={"token": "guess"}, headers=headers).status_code == 403


def test_what_is_too_large_is_refused_behind_the_proxy_too(proxied, client):
    with client("127.0.0.5") as nobody:
        found = nobody.post("/api/session", content=b"x" * 100_000, headers={"X-Rapport": "1"})
    assert found.status_code == 413 and "send at most" in found.json()["detail"]
