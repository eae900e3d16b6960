"""The owner's page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from human_ui.asking import templates
from human_ui.guard import site_of, whoever
from human_ui.overview import overview
from human_ui.training import training

router = APIRouter()


@router.get("/owner", response_class=HTMLResponse)
def page(request: Request) -> Response:
    """How the study goes; for others, the page on which to sign in."""
    site, person = site_of(request), whoever(request)
    if person is None or person.role != "owner":
        asked = {"study": site.study(), "person": person, "was_in": False}
        return templates.TemplateResponse(request, "join.html", asked)
    shown = {"study": site.study(), "person": person, "now": overview(site.store), "runs": training(site.store)}
    return templates.TemplateResponse(request, "owner.html", shown)
