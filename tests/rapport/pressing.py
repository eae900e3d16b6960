"""A simulated person at a real browser's keys."""

import json

from sqlalchemy import select

from embodied.episodes import Episodes
from embodied.store import Store
from human_ui.tables import LEASE


class Person:
    """likes(query): a Compare. Looks at what a lease shows, in the run's own store, and knows the key to press."""

    def __init__(self, folder, page, likes):
        self.store, self.page = Store(folder / "answers.sqlite", Episodes(folder / "episodes")), page
        self.likes = likes
        self.waiting, self.sent = {}, []  # leases in the order in which the page shows them; those answered
        page.on("response", self.lent)
        page.on("request", self.answered)

    def lent(self, response):
        if response.url.endswith("/api/leases") and response.request.method == "POST" and response.ok:
            self.waiting |= {one["lease"]: None for one in response.json() if one["lease"] not in self.sent}

    def answered(self, request):
        if "/api/answers/" in request.url and request.method == "PUT":
            self.sent.append(json.loads(request.post_data)["lease"])

    def key(self, lease):
        with self.store.read() as connection:
            row = connection.execute(select(LEASE.c.query, LEASE.c.shown).where(LEASE.c.id == lease)).one()
        (query,), shown = self.store.queries([row.query]), json.loads(row.shown)
        first = self.likes(query).first
        return "0" if first == 0.5 else "1" if (first > 0.5) == (shown[0] == 0) else "2"

    def answer(self):
        lease = next(iter(self.waiting))
        key, before = self.key(lease), len(self.sent)
        while len(self.sent) == before:  # nothing counts in the quarter of a second after a question has come
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(50)
        assert self.sent[-1] == lease, "another question was on the page"
        del self.waiting[lease]
