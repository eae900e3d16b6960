"""A real browser that looks at a served study."""

from types import SimpleNamespace

import pytest

from human_ui import people
from human_ui.server import beside
from human_ui.site import open_site
from tests.human_ui.served import make_study


@pytest.fixture
def site(tmp_path):
    opened = open_site(make_study(tmp_path / "study"))
    yield opened
    opened.store.close()


@pytest.fixture
def served(site):
    """`site` at `url`."""
    with beside(site) as url:
        yield SimpleNamespace(site=site, url=url)


@pytest.fixture
def page(browser, served):
    """The page of a person who has just followed an invitation."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.goto(f"{served.url}/#{people.invite(served.site.store, 'ann')}")
    yield opened
    context.close()
