"""What the tests in a real Chromium ask of a page."""

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}

in_every_look = pytest.mark.parametrize(
    ("scheme", "window"),
    [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)],
    ids=["light", "dark", "light-phone", "dark-phone"],
)


def complaints(context: BrowserContext) -> list[str]:
    """Collect whatever goes wrong in the pages of a context."""
    found: list[str] = []

    def said(message: ConsoleMessage) -> None:
        # What could not be loaded is told below, but for the icon, which no site has to have.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            found.append(message.text)

    context.on("console", said)
    context.on("weberror", lambda each: found.append(str(each.error)))
    context.on("response", lambda each: each.status >= 400 and found.append(each.url))
    return found


def forbid_inline(context: BrowserContext) -> None:
    """Have the admin's pages sent with a policy that lets no inline script or style through."""
    policy = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'"

    def answer(route: Route) -> None:
        response = route.fetch(max_redirects=0)
        headers = {**response.headers, "content-security-policy": policy}
        route.fulfill(response=response, headers=headers)

    context.route("**/admin/**", answer)


def assert_readable(page: Page, part: str = "body") -> None:
    """See that a page fits its window, that its text stands out, and that its fields are named.

    The latter two in the part that a selector names: what is around it may be somebody else's.
    """
    page.wait_for_load_state("load")
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window, f"{page.url} scrolls sideways: {wide} px in {window}"
    assert page.evaluate(CONTRAST, part) == [], page.url
    assert page.locator("h1").count() == 1, page.url
    fields = page.locator(part).locator(
        "input:not([type=hidden], [type=submit], .select2-search__field)"
    )
    named = "all => all.map(each => each.labels.length || each.ariaLabel)"
    assert all(fields.evaluate_all(named)), page.url
