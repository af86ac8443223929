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


def succeed(platform, job, code=0):
    watcher(platform).round()
    end(platform, job, code)
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


def test_an_outage_keeps_the_token_and_is_tried_again(page, site):
    log_in(page, site)
    refusal = {"error": {"message": "the database is away"}}
    page.route("**/console/files", lambda route: route.fulfill(status=503, json=refusal))
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("the database is away")
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_focused()
    page.unroute("**/console/files")
    again.click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()


def test_a_token_that_is_revoked_meanwhile_leaves_the_address_and_a_reason(page, site):
    log_in(page, site)
    page.route("**/api/models*", lambda route: route.fulfill(status=401, json={}))
    go(page, "Models")
    expect(page.get_by_role("alert")).to_contain_text("not valid any more")
    page.unroute("**/api/models*")
    page.get_by_label("Access token").fill(site.token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Models")).to_be_visible()


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


def test_mappings_are_sent_as_json_and_bad_values_not_at_all(page, site):
    log_in(page, site)
    go(page, "New job")
    kind = page.get_by_label("Kind of job")
    kind.focus()
    kind.select_option("grpo")
    start = page.get_by_role("button", name="Start the grpo job")
    expect(start).to_be_visible()
    expect(kind).to_be_focused()
    page.locator("details.advanced > summary").click()
    for key, value in (("model_name_or_path", "base"), ("data_path", "rows.jsonl"), ("reward", "length")):
        page.locator(f"#field-{key}").fill(value)
    options, rate = page.locator("#field-reward_options"), page.locator("#field-learning_rate")
    options.fill("{unit: words, longest: 20}")
    rate.press_sequentially("1e")
    start.click()
    for wrong in (options, rate):
        expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#field-reward_options-hint")).to_contain_text("as JSON")
    expect(page.locator("#field-reward_options-problem")).to_contain_text("JSON is expected")
    options.fill('{"unit": "words", "longest": 20}')
    rate.fill("0.001")
    start.click()
    expect(page.get_by_role("heading", name=re.compile("Job job-"))).to_be_visible()
    job = look(site.platform, site.platform.jobs.in_state("queued")[-1])
    assert job.config["reward_options"] == {"unit": "words", "longest": 20}
    site.platform.cancel(job)


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


@pytest.mark.parametrize("change", ["New chat", "another model"])
def test_an_answer_that_is_still_made_is_no_part_of_a_new_chat(page, site, change):
    log_in(page, site)
    go(page, "Chat")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    choice = page.get_by_role("combobox", name="Model A")
    choice.select_option("base")
    page.get_by_label("Message to both").fill("forever")
    page.keyboard.press("Enter")
    expect(page.get_by_role("log").first).to_contain_text("again again")
    if change == "New chat":
        page.get_by_role("button", name=change).click()
    else:
        choice.select_option("")
        choice.select_option("base")
        page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.get_by_label("Message to both").fill("good day")
    with page.expect_request(
        lambda request: (
            request.url.endswith("/chat/completions") and request.post_data_json["model"] == "base"
        )
    ) as sent:
        page.keyboard.press("Enter")
    assert sent.value.post_data_json["messages"] == [{"role": "user", "content": "good day"}]


def test_a_reward_model_is_not_for_chats(page, site):
    job = succeed(site.platform, submitted(site, "rm", **sft().config))
    log_in(page, site)
    page.goto(f"{site.url}/#/job/{job.id}")
    expect(page.locator(".badge.succeeded")).to_be_visible()
    expect(page.get_by_role("link", name="Chat with the model")).to_have_count(0)
    go(page, "Chat")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    names = page.get_by_role("combobox", name="Model A").locator("option").all_text_contents()
    assert "base" in names
    assert job.model_id not in names


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


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_pairs_are_shown_chosen_beside_rejected(page, site, kind):
    job = submitted(site)
    out = site.platform.folder(job.id).out
    watcher(site.platform).round()
    pairs = [{**PAIR, "id": index} for index in range(12)]
    text = json.dumps(pairs) if kind == "json" else "".join(json.dumps(pair) + "\n" for pair in pairs)
    (out / f"pairs.{kind}").write_text(text)
    succeed(site.platform, job)
    log_in(page, site)
    page.get_by_role("link", name=job.id).click()
    page.get_by_role("link", name=f"pairs.{kind}").click()
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
    for name, right, code in (("base", 40.0, 0), ("tuned", 55.0, 1)):
        job = submitted(site, "eval", model_path="base", benchmarks=["gsm8k"], model_id=name)
        watcher(site.platform).round()
        folder = site.platform.folder(job.id).out / name
        folder.mkdir(parents=True)
        result = {"benchmark": "gsm8k", "metric": "accuracy", "count": 100, "value": right, "unit": "%"}
        result |= {"low": right - 9, "high": right + 9, "error": None}
        failed = {"benchmark": "humaneval", "metric": "pass@1", "value": None, "error": "no sandbox"}
        (folder / "results.json").write_text(json.dumps([result, failed]))
        assert succeed(site.platform, job, code).state == ("failed" if code else "succeeded")
    job = submitted(site, "eval", model_path="base", benchmarks=["gsm8k"])
    watcher(site.platform).round()
    broken = site.platform.folder(job.id).out / "broken" / "results.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("[{]")
    succeed(site.platform, job, 1)
    log_in(page, site)
    go(page, "Evaluations")
    expect(page.get_by_role("alert")).to_contain_text("broken/results.json")
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


def test_a_job_stands_there_before_its_figures_and_waits_as_long_as_it_is_told(page, site):
    job = submitted(site)
    asked = []

    def refuse(route):
        asked.append(route.request.url)
        route.fulfill(status=429, headers={"Retry-After": "30"}, json={"error": {"message": "slower"}})

    log_in(page, site)
    page.route("**/metrics?*", refuse)
    page.get_by_role("link", name=job.id).click()
    expect(page.locator(".badge.queued")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("slower")
    page.wait_for_timeout(4000)
    assert [url.partition("?")[2] for url in asked] == ["start=0&limit=1000"]
    site.platform.cancel(job)


def test_the_jobs_list_keeps_the_focus_as_it_changes(page, site):
    first = submitted(site)
    log_in(page, site)
    link = page.get_by_role("link", name=first.id)
    link.focus()
    page.evaluate("document.activeElement.dataset.mark = 'same'")
    page.wait_for_timeout(2500)
    expect(link).to_have_attribute("data-mark", "same")
    for place in (link, page.get_by_role("region", name="Jobs")):
        place.focus()
        second = submitted(site)
        expect(page.get_by_role("link", name=second.id)).to_be_visible()
        expect(place).to_be_focused()
        site.platform.cancel(second)
    link.press("Enter")
    expect(page.get_by_role("heading", name=f"Job {first.id}")).to_be_visible()
    expect(page.get_by_role("main")).to_be_focused()
    site.platform.cancel(first)


def test_the_jobs_list_in_both_widths(page, site):
    log_in(page, site)
    expect(page.get_by_role("table")).to_be_visible()
    picture(page, "jobs")
