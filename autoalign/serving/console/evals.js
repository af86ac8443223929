// Evaluations beside each other: a row a benchmark, a column a model.
import { get } from "./api.js";
import { el, table, when } from "./dom.js";

// An evaluation with one benchmark that failed ends as failed, with the results of all.
const OVER = ["succeeded", "failed"];

/** Shows `#/evals`. */
export async function evalsView(frame, { signal }) {
  frame.append(el("h1", {}, "Evaluations"));
  const jobs = (await get("api/jobs", { kind: "eval", limit: 50 })).data.filter((job) => OVER.includes(job.state));
  const listed = await each(jobs, (job) => job.id, resultsOf);
  const read = await each(listed.values, (file) => `${file.job.id}/${file.name}`, load);
  if (signal.aborted) return;
  const [found, unread] = [read.values, [...listed.failed, ...read.failed]];
  if (unread.length) frame.append(el("div", { class: "error", role: "alert" }, "Could not be read:", el("ul", {}, unread.map((text) => el("li", {}, text)))));
  if (!found.length) {
    if (!unread.length) frame.append(el("p", {}, "No evaluation has come to an end yet. ", el("a", { href: "#/new/eval" }, "Start one"), "."));
    return;
  }
  const place = el("div", { "aria-live": "polite" });
  const boxes = found.map((each, index) => el("input", { type: "checkbox", value: index, checked: index < 4 }));
  const show = () => place.replaceChildren(compared(found.filter((_, index) => boxes[index].checked)));
  frame.append(
    el("fieldset", {}, el("legend", {}, "Models; the others are compared with the first one"),
      boxes.map((box, index) => el("label", { class: "check" }, box, `${found[index].name} (${when(found[index].job.created_at)})`))),
    place);
  for (const box of boxes) box.addEventListener("change", show);
  show();
}

/** What `ask` answers for each item, in one list; beside it what failed, with its name. */
async function each(items, name, ask) {
  const answers = await Promise.allSettled(items.map(ask));
  return {
    values: answers.flatMap((answer) => answer.value ?? []),
    failed: answers.flatMap(({ reason }, index) => (reason ? [`${name(items[index])}: ${reason.message}`] : [])),
  };
}

async function resultsOf(job) {
  const { artefacts } = await get(`api/jobs/${encodeURIComponent(job.id)}`);
  return artefacts.filter(({ name }) => /(^|\/)results\.json$/.test(name)).map(({ name }) => ({ job, name }));
}

async function load({ job, name }) {
  const results = [];
  for (let offset = 0; offset !== null;) {
    const page = await get("api/rows", { source: `${job.id}/${name}`, offset, limit: 100 });
    results.push(...page.data.map((row) => JSON.parse(row.text)));
    offset = page.next;
  }
  return { job, name: name.split("/").at(-2) ?? job.id, folder: name.replace(/results\.json$/, ""), results };
}

function compared(models) {
  if (!models.length) return el("p", {}, "Choose a model.");
  const key = (result) => `${result.benchmark} ${result.metric}`;
  const keys = [...new Set(models.flatMap((model) => model.results.map(key)))];
  const of = (model, wanted) => model.results.find((result) => key(result) === wanted);
  const rows = keys.map((wanted) => [wanted, ...models.map((model, index) => cell(of(model, wanted), index ? of(models[0], wanted) : null, model))]);
  return el("div", {},
    table("Evaluation results", ["Benchmark", ...models.map((model) => model.name)], rows, { class: "results" }),
    el("p", { class: "hint" }, "Brackets: the 95% interval. Whether a difference is one, the test over the same questions says: ",
      el("code", {}, "autoalign-cli eval compare"), "."));
}

function cell(result, base, model) {
  if (!result) return "—";
  if (result.error || result.value === null) return el("span", { class: "error" }, `failed: ${result.error ?? "no figure"}`);
  const interval = result.low === null ? "" : ` [${result.low.toFixed(1)}, ${result.high.toFixed(1)}]`;
  const source = `${model.job.id}/${model.folder}questions/${result.benchmark}.jsonl`;
  const change = base?.value === undefined || base?.value === null ? null : result.value - base.value;
  return el("span", {},
    el("a", { href: `#/rows/${source.split("/").map(encodeURIComponent).join("/")}`, title: "its questions" }, `${result.value.toFixed(1)}${result.unit}`),
    el("span", { class: "hint" }, `${interval} n=${result.count}`),
    change !== null && el("span", { class: "change" }, ` ${change > 0 ? "+" : ""}${change.toFixed(1)}`));
}
