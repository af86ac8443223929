// One job: its state, curves, log, files, and what can be done with it.
import { get, poll, post } from "./api.js";
import { announce, button, el, table, when } from "./dom.js";
import { badge, duration } from "./jobs.js";
import { curves } from "./curves.js";
import { logBox } from "./log.js";
import { chats } from "./names.js";

const EVERY = 1.5; // seconds
const PAGE = 1000; // figures at a time, as many as the API gives
const OVER = ["succeeded", "failed", "cancelled", "lost"];

/** Shows `#/job/ID`. */
export async function jobView(frame, { argument: id, signal, bearer }) {
  const path = `api/jobs/${encodeURIComponent(id)}`;
  const facts = el("div", {});
  const charts = curves();
  const files = el("section", { "aria-label": "Files" });
  frame.append(el("h1", {}, `Job ${id}`), facts, charts.element, logBox(path, signal), files);
  let seen = "";
  let start = 0;
  const rows = [];
  const once = async () => {
    const job = await get(path);
    if (signal.aborted) return;
    const state = job.state + job.intent;
    if (seen && seen !== state) announce(`The job is ${job.state}`);
    if (seen !== state) facts.replaceChildren(summary(job), actions(job, path, look, bearer.may("infer")));
    else facts.querySelector(".facts").replaceWith(list(job));
    seen = state;
    showFiles(files, job);
    for (let page = null; page === null || page.data.length === PAGE; start = page.next) {
      page = await get(`${path}/metrics`, { start, limit: PAGE });
      if (signal.aborted) return;
      rows.push(...page.data);
    }
    charts.show(rows);
    return OVER.includes(job.state) ? "over" : null;
  };
  // One look after the other: two at a time would take the same figures twice.
  let last = Promise.resolve();
  const look = () => (last = last.catch(() => {}).then(once));
  await poll(EVERY, signal, look, (error) => announce(error.message, true));
}

function list(job) {
  const pairs = [
    ["State", badge(job)], ["Kind", job.kind], ["Owner", job.owner], ["Created", when(job.created_at)],
    ["Time", duration(job)], ["Message", job.message || "—"],
    ["Model", job.model ? el("a", { href: "#/models" }, job.model) : "—"],
  ];
  return el("dl", { class: "facts" }, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function summary(job) {
  const config = el("details", {}, el("summary", {}, "Configuration"), el("pre", {}, JSON.stringify(job.config, null, 2)));
  return el("div", { class: "summary" }, list(job), config);
}

function actions(job, path, look, mayChat) {
  const act = (name, said) => async () => {
    await post(`${path}/${name}`);
    announce(said);
    await look();
  };
  const live = ["queued", "running"].includes(job.state) && job.intent !== "cancel";
  return el("p", { class: "row" },
    mayChat && job.state === "succeeded" && job.model && chats(job.kind) && el("a", { class: "button", href: `#/chat/${encodeURIComponent(job.model)}` }, "Chat with the model"),
    (live || job.state === "paused") && button("Stop", act("stop", "The job is being stopped"), { class: "danger" }),
    live && job.intent !== "pause" && button("Pause", act("pause", "The job is being paused")),
    job.state === "paused" && button("Resume", act("resume", "The job is queued again")));
}

function showFiles(place, job) {
  const key = JSON.stringify(job.artefacts);
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const rows = job.artefacts.map((each) => [
    each.kind === "file" && /\.(jsonl?|csv|txt|md|yaml)$/.test(each.name)
      ? el("a", { href: `#/rows/${job.id}/${each.name.split("/").map(encodeURIComponent).join("/")}` }, each.name) : each.name,
    each.kind, each.step ?? "—", each.kind === "file" ? size(each.bytes) : "—",
  ]);
  place.replaceChildren(el("h2", {}, "Files"),
    rows.length ? table("Files", ["Name", "Kind", "Step", "Size"], rows) : el("p", {}, "None yet."));
}

/** Bytes, for people. */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let index = 0;
  for (; bytes >= 1000 && index < units.length - 1; index++) bytes /= 1000;
  return `${index ? bytes.toFixed(1) : bytes} ${units[index]}`;
}
