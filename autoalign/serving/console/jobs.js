// The list of jobs, with their states as they change.
import { get, poll } from "./api.js";
import { announce, button, el, labelled, table, when } from "./dom.js";

const STATES = ["queued", "running", "paused", "succeeded", "failed", "cancelled", "lost"];
const EVERY = 2; // seconds

/** A state with its own sign: colour alone tells nothing to some. */
export function badge(job) {
  const wanted = { cancel: "stopping", pause: "pausing" }[job.intent];
  const text = job.state === "running" && wanted ? wanted : job.state;
  return el("span", { class: `badge ${job.state}` }, text);
}

/** How long a job has run, or ran. */
export function duration(job) {
  if (!job.started_at) return "—";
  const seconds = Math.max(0, Math.round((job.finished_at ?? Date.now() / 1000) - job.started_at));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

/** Shows `#/jobs`. */
export async function jobsView(frame, { signal }) {
  const state = el("select", {}, new Option("any state", ""), STATES.map((name) => new Option(name)));
  const place = el("div", {});
  const known = new Map();
  const pages = [null];
  const look = async () => {
    const after = pages.at(-1);
    const page = await get("api/jobs", { limit: 20, after, state: state.value || null });
    if (signal.aborted) return;
    for (const job of page.data) {
      if (known.has(job.id) && known.get(job.id) !== job.state) announce(`${job.kind} job ${job.id} is ${job.state}`);
      known.set(job.id, job.state);
    }
    show(page);
  };
  const focusables = () => [...place.querySelectorAll("a, button, [tabindex]")];
  const focus = (name) => (focusables().find((each) => nameOf(each) === name) ?? focusables()[0])?.focus({ preventScroll: true });
  const turn = async (name, change) => { change(); await look(); focus(name); };
  let shown = "";
  let times = new Map();
  const show = (page) => {
    for (const job of page.data) times.get(job.id)?.replaceChildren(duration(job));
    const key = JSON.stringify([state.value, pages, page]);
    if (shown === key) return;
    shown = key;
    times = new Map(page.data.map((job) => [job.id, el("span", {}, duration(job))]));
    const focused = place.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    const left = place.querySelector(".wide")?.scrollLeft ?? 0;
    const steps = el("p", { class: "row" },
      pages.length > 1 && button("Newer", () => turn("Newer", () => pages.pop())),
      page.has_more && button("Older", () => turn("Older", () => pages.push(page.data.at(-1).id))));
    place.replaceChildren(page.data.length ? listed(page.data, times) : empty(state.value), steps);
    place.querySelector(".wide")?.scrollTo({ left });
    if (focused !== null) focus(focused);
  };
  state.addEventListener("change", () => { pages.splice(1); look().catch((error) => announce(error.message, true)); });
  frame.append(
    el("div", { class: "row" }, el("h1", {}, "Jobs"), labelled("State", state, { class: "field inline" }),
      el("a", { class: "button", href: "#/new" }, "New job")),
    place,
  );
  await poll(EVERY, signal, look, (error) => announce(error.message, true));
}

const nameOf = (each) => each.getAttribute("aria-label") ?? each.textContent;

function listed(jobs, times) {
  const rows = jobs.map((job) => [
    el("a", { href: `#/job/${job.id}` }, job.id),
    job.kind, badge(job), job.owner, when(job.created_at), times.get(job.id), job.message || "—",
  ]);
  return table("Jobs", ["Job", "Kind", "State", "Owner", "Created", "Time", "Message"], rows, { class: "cards" });
}

function empty(state) {
  return el("p", {}, state ? `No job is ${state}. ` : "No jobs yet. ", el("a", { href: "#/new" }, "Start one"), ".");
}
