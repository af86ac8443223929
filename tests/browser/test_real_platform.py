"""The whole way in a browser: a platform on the demo model, its SFT job, and a chat with what it made."""

import os
import re
from pathlib import Path

import pytest

from tests.browser.pages import expect, go, log_in, picture
from tests.integration.served_endpoint import served

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BASE = "smollm2-135m-instruct"
STEPS = 8
# What configs/persona_sft.yaml says, for a tenth of its time.
SETTINGS = {
    "max steps": str(STEPS),
    "learning rate": "0.0005",
    "per device train batch size": "4",
    "model max length": "128",
}
LOADED = 240_000  # milliseconds that a model may take to be loaded, beside whatever else this machine does
TRAINED = 400_000


@pytest.fixture(scope="module")
def platform(demo_model, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOALIGN_ROOTS", os.pathsep.join([str(demo_model.parent), str(ROOT / "data")]))
        flags = ["--jobs=true", f"--checkpoint_path={demo_model}"]
        with served(home, *flags, scopes=["infer", "jobs"]) as running:
            yield running


@pytest.fixture
def started(page, platform):
    """The page of the demo's SFT job, which was started from the form."""
    log_in(page, platform.url, platform.token)
    go(page, "New job")
    page.get_by_label("Pick a model for model_name_or_path", exact=True).select_option(BASE)
    page.get_by_role("button", name="Pick a model for model_name_or_path: use it").click()
    page.get_by_label("data path (required)").fill("persona_sft.jsonl")
    for name, value in SETTINGS.items():
        page.get_by_label(name, exact=True).fill(value)
    picture(page, "real-new-job")
    page.get_by_role("button", name="Start the sft job").click()
    expect(page.get_by_role("heading", name=re.compile("Job job-"))).to_be_visible()
    return page


def losses(page):
    """How many points the curve of the loss has now."""
    line = page.locator("figure", has_text="Loss").locator("polyline").first
    points = line.get_attribute("points") if line.count() else None
    return len(points.split()) if points else 0


def test_sft_from_the_form_to_a_chat_with_its_model(started):
    page = started
    expect(page.locator(".badge.running")).to_be_visible(timeout=60_000)
    seen = set()
    for _ in range(TRAINED // 500):
        seen.add(losses(page))
        if len(seen) == 4 and max(seen) < STEPS:
            picture(page, "real-job-running")
        if page.locator(".badge.succeeded, .badge.failed, .badge.lost").count():
            break
        page.wait_for_timeout(500)
    log = page.get_by_role("log", name="Log")
    assert page.locator(".badge.succeeded").count(), log.inner_text()
    expect(log).to_contain_text(f"done: {STEPS} steps")
    line = page.locator("figure", has_text="Loss").locator("polyline").first
    expect(line).to_have_attribute("points", re.compile(rf"^(\S+ ){{{STEPS - 1}}}\S+$"))
    assert len(seen - {0}) >= 3, seen  # it moved while the job ran
    picture(page, "real-job")
    page.get_by_role("link", name="Chat with the model").click()
    page.get_by_label("Message to both").fill("Who are you?")
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Tokens at most").fill("32")
    page.get_by_role("button", name="Send").click()
    for side, who in (("A", BASE), ("B", re.compile("^ft:"))):
        talk = page.get_by_role("log", name=f"Conversation with Model {side}")
        expect(talk.locator(".turn.other strong")).to_have_text(who, timeout=LOADED)
        expect(talk).to_have_attribute("aria-busy", "false", timeout=LOADED)
        assert len(talk.locator(".turn.other .text").inner_text().split()) > 2
    answers = page.locator(".turn.other .text").all_inner_texts()
    assert len(set(answers)) == 2, answers
    picture(page, "real-chat")
