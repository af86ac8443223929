// The frame: navigation, and which view the address shows. Addresses hold names, never a token.
import { get, hasToken, logOut } from "./api.js";
import { announce, button, el } from "./dom.js";
import { chatView } from "./chat.js";
import { dataView } from "./data.js";
import { evalsView } from "./evals.js";
import { formView } from "./form.js";
import { jobView } from "./job.js";
import { jobsView } from "./jobs.js";
import { modelsView } from "./models.js";
import { rowsView } from "./rows.js";

// Address, name in the navigation ("" for none), the scope it needs, and what shows it.
const VIEWS = [
  ["jobs", "Jobs", "jobs", jobsView],
  ["new", "New job", "jobs", formView],
  ["chat", "Chat", "infer", chatView],
  ["models", "Models", "jobs", modelsView],
  ["evals", "Evaluations", "jobs", evalsView],
  ["data", "Data", "jobs", dataView],
  ["job", "", "jobs", jobView],
  ["rows", "", "jobs", rowsView],
];

let current = new AbortController();

/** Show the console in place of the page that logged in. */
export async function start() {
  const bearer = await get("whoami");
  const holds = (scope) => bearer.scopes.includes(scope) || bearer.scopes.includes("admin");
  const jobs = holds("jobs") && (await hasJobs());
  const may = (scope) => (scope === "jobs" ? jobs : holds(scope));
  const views = VIEWS.filter(([, , scope]) => may(scope));
  const main = el("main", { id: "main", tabindex: "-1" });
  const links = views.filter(([, name]) => name).map(([path, name]) => el("a", { href: `#/${path}` }, name));
  const who = hasToken() ? [el("span", { class: "who" }, bearer.name), button("Log out", logOut, { class: "quiet" })] : [];
  document.body.replaceChildren(
    el("a", { href: "#main", class: "skip", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to content"),
    el("header", {}, el("strong", {}, "AutoAlign"), el("nav", { "aria-label": "Views" }, links), el("div", { class: "account" }, who)),
    main,
    el("div", { id: "status", role: "status", "aria-live": "polite" }),
  );
  const show = () => open(views, links, main, { ...bearer, may });
  addEventListener("hashchange", show);
  show();
}

/** Whether the endpoint runs jobs at all; one for inference alone does not. */
async function hasJobs() {
  try {
    await get("api/jobs", { limit: 1 });
    return true;
  } catch (error) {
    if (error.status === 404) return false;
    throw error;
  }
}

function open(views, links, main, bearer) {
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const found = views.find(([name]) => name === path) ?? views[0];
  current.abort();
  current = new AbortController();
  for (const link of links) {
    if (link.hash === `#/${found?.[0]}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!found) {
    main.replaceChildren(el("p", {}, "This token opens nothing here: it needs the scope jobs or infer."));
    return;
  }
  const { signal } = current;
  const frame = el("div", { class: `view ${found[0]}` });
  const focused = document.activeElement !== document.body; // what holds it may go with the view before
  main.replaceChildren(frame);
  const argument = rest.map(decodeURIComponent).join("/");
  found[3](frame, { argument, signal, bearer }).catch((error) => {
    if (signal.aborted) return;
    frame.append(el("p", { class: "error" }, error.message));
    announce(error.message, true);
  });
  document.title = `${frame.querySelector("h1")?.textContent ?? found[1]} – AutoAlign`;
  if (focused) main.focus({ preventScroll: true });
}
