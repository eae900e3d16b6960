"""The web app: pages for people, an interface for their browsers, one for learners and one for the study's owner."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from human_ui import asking, learning, owning
from human_ui.guard import protect
from human_ui.site import Site

WEB = Path(__file__).parent / "web"


def create_app(site: Site) -> FastAPI:
    """A proxy passes paths on as they are: those of a site at https://example.org/study begin with /study."""
    prefix = urlsplit(site.address).path
    app = FastAPI(title="Rapport", version=version("rapport"), root_path=prefix, docs_url=None, redoc_url=None)
    app.state.site = site
    protect(app)
    app.include_router(asking.router)
    app.include_router(learning.router)
    app.include_router(owning.router)
    app.mount("/static", StaticFiles(directory=WEB / "static"), name="static")
    return app
