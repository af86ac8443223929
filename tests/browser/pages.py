"""What tests of the console do on its pages."""

from pathlib import Path

import pytest

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=30_000)

PICTURES = Path(__file__).resolve().parents[2] / "outputs" / "console"
SIZES = {1280: 800, 400: 800}


def log_in(page, url, token):
    """Enter a token."""
    page.goto(url)
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("navigation")).to_be_visible()


def go(page, name):
    """Click a view's link."""
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()


def picture(page, name):
    """Keep a picture at both widths; nothing may stick out sideways."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
        page.screenshot(path=PICTURES / f"{name}-{width}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 800})
