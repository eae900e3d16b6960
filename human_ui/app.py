"""The web app: pages for people, an interface for their browsers, one for learners and one for the study's owner."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from human_ui import asking, learning, owning
from human_ui.guard import protect
from human_ui.site import Site

WEB = Path(__file__).parent / "web"


def create_app(site: Site, prefix: str = "") -> FastAPI:
    """prefix: the path under which a proxy shows it, such as /study."""
    app = FastAPI(title="Rapport", version=version("rapport"), root_path=prefix, docs_url=None, redoc_url=None)
    app.state.site = site
    protect(app)
    app.include_router(asking.router)
    app.include_router(learning.router)
    app.include_router(owning.router)
    app.mount("/static", StaticFiles(directory=WEB / "static"), name="static")
    return app
