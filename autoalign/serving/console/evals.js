// Evaluations beside each other: a row a benchmark, a column a model.
import { get } from "./api.js";
import { el, table, when } from "./dom.js";

/** Shows `#/evals`. */
export async function evalsView(frame, { signal }) {
  frame.append(el("h1", {}, "Evaluations"));
  const jobs = (await get("api/jobs", { kind: "eval", state: "succeeded", limit: 50 })).data;
  const found = (await Promise.all(jobs.map(read))).flat();
  if (signal.aborted) return;
  if (!found.length) {
    frame.append(el("p", {}, "No evaluation has succeeded yet. ", el("a", { href: "#/new/eval" }, "Start one"), "."));
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

async function read(job) {
  const { artefacts } = await get(`api/jobs/${encodeURIComponent(job.id)}`);
  const files = artefacts.filter((each) => /(^|\/)results\.json$/.test(each.name));
  return Promise.all(files.map(async ({ name }) => {
    const page = await get("api/rows", { source: `${job.id}/${name}` });
    return { job, name: name.split("/").at(-2) ?? job.id, folder: name.replace(/results\.json$/, ""), results: JSON.parse(page.data[0].text) };
  }));
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
