"""The console in a real Chromium. Screenshots are left in outputs/console/."""

import json
import re

import pytest

from autoalign.jobs.platform import Order
from tests.browser import pages
from tests.browser.pages import expect, go, picture
from tests.console_site import open_site
from tests.platforms import ADMIN, end, look, sft, watcher

LOSSES = (4.0, 3.0, 2.5, 2.2, 2.0)
PAIR = {
    "prompt": "Say <b>hello</b>.",
    "chosen": [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "Hello!"}],
    "rejected": [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "No."}],
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with open_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def log_in(page, site, token=None):
    pages.log_in(page, site.url, token or site.token)


def succeed(platform, job):
    watcher(platform).round()
    end(platform, job, 0)
    watcher(platform).round()
    return look(platform, job)


def test_a_wrong_token_is_refused_and_a_right_one_stays_out_of_the_address(page, site):
    assert page.goto(site.url).status == 401
    field = page.get_by_label("Access token")
    field.fill("aa-wrong")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("valid token")
    picture(page, "login")
    field.fill(site.token)
    field.press("Enter")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert site.token not in page.url
    assert page.context.cookies() == []
    page.reload()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(field).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_the_form_of_sft_starts_a_job_whose_curve_and_log_move(page, site):
    log_in(page, site)
    go(page, "New job")
    page.get_by_label("model name or path (required)").fill("base")
    page.get_by_label("data path (required)").fill("rows.jsonl")
    page.get_by_label("learning rate").fill("-1")
    page.get_by_role("button", name="Start the sft job").click()
    wrong = page.get_by_label("learning rate")
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_be_focused()
    picture(page, "new-job")
    wrong.fill("0.001")
    page.get_by_label("num train epochs").fill("2")
    page.get_by_role("button", name="Start the sft job").click()
    expect(page.get_by_role("heading", name=re.compile("Job job-"))).to_be_visible()
    expect(page.locator(".badge.queued")).to_be_visible()
    (job,) = site.platform.jobs.in_state("queued")
    assert job.config == {
        "model_name_or_path": "base",
        "data_path": ["rows.jsonl"],
        "learning_rate": 0.001,
        "num_train_epochs": 2,
    }
    watcher(site.platform).round()
    out = site.platform.folder(job.id).out
    line = page.locator("figure", has_text="Loss").locator("polyline")
    for count in (2, len(LOSSES)):
        rows = [
            {"step": step, "loss": loss, "rewards/margins": 5 - loss, "lr": 1e-4}
            for step, loss in enumerate(LOSSES[:count], 1)
        ]
        (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with site.platform.folder(job.id).log.open("a") as log:
            log.write(f"step {count} <i>of</i> {len(LOSSES)}\n")
        watcher(site.platform).round()
        expect(line).to_have_attribute("points", re.compile(rf"^(\S+ ){{{count - 1}}}\S+$"))
        expect(page.get_by_role("log", name="Log")).to_contain_text(f"step {count} <i>of</i>")
    expect(page.get_by_role("status")).to_contain_text("running")
    picture(page, "job")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("pausing")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopping")).to_be_visible()
    for _ in range(2):
        watcher(site.platform).round()
    expect(page.locator(".badge.cancelled")).to_be_visible()


def test_two_models_answer_beside_each_other_and_are_stopped(page, site):
    log_in(page, site)
    go(page, "Chat")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.get_by_label("Message to both").fill("good day")
    page.keyboard.press("Enter")
    for side, model in (("A", "base"), ("B", "tuned")):
        talk = page.get_by_role("log", name=f"Conversation with Model {side}")
        expect(talk).to_contain_text(f"{model} heard: good day")
    picture(page, "chat")
    page.get_by_label("Message to both").fill("forever")
    page.keyboard.press("Enter")
    expect(page.get_by_role("log").first).to_contain_text("again again")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    for _ in range(100):
        if sorted(site.hung_up) == ["base", "tuned"]:
            break
        page.wait_for_timeout(50)
    assert sorted(site.hung_up) == ["base", "tuned"]


def test_a_model_is_promoted_and_rolled_back(page, site):
    first, second = (succeed(site.platform, submitted(site)).model_id for _ in range(2))
    log_in(page, site)
    go(page, "Models")
    for model in (first, second):
        page.get_by_role("button", name=f"Promote {model}").click()
        served = page.get_by_role("row", name=re.compile(re.escape(model))).locator(".badge")
        expect(served).to_have_text("default")
    picture(page, "models")
    page.get_by_role("button", name="Roll back default").click()
    served = page.get_by_role("row", name=re.compile(re.escape(first))).locator(".badge")
    expect(served).to_have_text("default")
    assert site.platform.models.served()["default"].id == first


def submitted(site, kind="sft", **config):
    """A job of an admin's."""
    return site.platform.submit(ADMIN, Order(kind, config) if config else sft())


def test_pairs_are_shown_chosen_beside_rejected(page, site):
    job = submitted(site)
    out = site.platform.folder(job.id).out
    watcher(site.platform).round()
    (out / "pairs.jsonl").write_text("".join(json.dumps({**PAIR, "id": index}) + "\n" for index in range(12)))
    succeed(site.platform, job)
    log_in(page, site)
    page.get_by_role("link", name=job.id).click()
    page.get_by_role("link", name="pairs.jsonl").click()
    row = page.get_by_role("article", name="Row 1", exact=True)
    expect(row.get_by_role("region", name="chosen")).to_contain_text("Hello!")
    expect(row.get_by_role("region", name="rejected")).to_contain_text("No.")
    expect(row).to_contain_text("Say <b>hello</b>.")
    picture(page, "pairs")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("article", name="Row 12")).to_be_visible()
    page.get_by_role("button", name="Previous").click()
    expect(row).to_be_visible()


def test_evaluations_stand_beside_each_other(page, site):
    for name, right in (("base", 40.0), ("tuned", 55.0)):
        job = submitted(site, "eval", model_path="base", benchmarks=["gsm8k"], model_id=name)
        watcher(site.platform).round()
        folder = site.platform.folder(job.id).out / name
        folder.mkdir(parents=True)
        result = {"benchmark": "gsm8k", "metric": "accuracy", "count": 100, "value": right, "unit": "%"}
        result |= {"low": right - 9, "high": right + 9, "error": None}
        failed = {"benchmark": "humaneval", "metric": "pass@1", "value": None, "error": "no sandbox"}
        (folder / "results.json").write_text(json.dumps([result, failed]))
        succeed(site.platform, job)
    log_in(page, site)
    go(page, "Evaluations")
    cells = page.get_by_role("row", name=re.compile("gsm8k")).get_by_role("cell")
    expect(cells.nth(0)).to_contain_text("55.0% [46.0, 64.0] n=100")
    expect(cells.nth(1)).to_contain_text("-15.0")
    expect(page.get_by_role("row", name=re.compile("humaneval"))).to_contain_text("failed: no sandbox")
    picture(page, "evaluations")


def test_a_file_is_uploaded_and_looked_into(page, site):
    log_in(page, site)
    go(page, "Data")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good day"}]
    content = json.dumps({"messages": turns}).encode()
    page.locator("input[type=file]").set_input_files(
        {"name": "talk.jsonl", "mimeType": "text/plain", "buffer": content}
    )
    page.get_by_role("link", name="talk.jsonl").click()
    expect(page.get_by_role("article", name="Row 1")).to_contain_text("Good day")


def test_a_token_for_chats_sees_the_chat_alone(page, site):
    log_in(page, site, site.infer)
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(["Chat"])
    expect(page.get_by_role("heading", name="Chat")).to_be_visible()


def test_every_view_is_reached_and_named_without_a_mouse(page, site):
    log_in(page, site)
    page.get_by_role("navigation").get_by_role("link", name="New job").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Start the sft job")).to_be_visible()
    expect(page.locator("[aria-current=page]")).to_have_text("New job")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("input, select, textarea, button")]
            .filter((each) => !(each.labels?.length || each.ariaLabel || each.textContent.trim()))
            .map((each) => each.outerHTML)"""
    )
    assert unnamed == []


def test_the_jobs_list_in_both_widths(page, site):
    log_in(page, site)
    expect(page.get_by_role("table")).to_be_visible()
    picture(page, "jobs")
