// A form for each kind of job, made from the kind's config class.
import { get, post } from "./api.js";
import { announce, button, el, labelled } from "./dom.js";
import { field } from "./field.js";
import { modelNames } from "./names.js";
import { uploader } from "./uploader.js";

// Keys that are asked for often, and so are not folded away; the others are found below.
const OFTEN = new Set(["num_train_epochs", "max_steps", "learning_rate", "per_device_train_batch_size", "model_max_length",
  "conv_template_name", "lora_rank", "beta", "loss_type", "run_name", "template", "max_new_tokens", "temperature", "top_p",
  "num_samples", "scorer", "method", "benchmarks", "datasets", "limit", "backend"]);

let chosen = null; // the kind that was just picked: its view goes on where the focus was

/** Shows `#/new` and `#/new/KIND`. */
export async function formView(frame, { argument, signal }) {
  const heading = el("h1", {}, "New job");
  frame.append(heading);
  const kinds = (await get("api/kinds")).data;
  const names = kinds.map((each) => each.name);
  const kind = kinds.find((each) => each.name === (argument || "sft")) ?? kinds[0];
  const choice = el("select", {}, names.map((name) => new Option(name, name, false, name === kind.name)));
  choice.addEventListener("change", () => {
    chosen = choice.value;
    location.hash = `#/new/${choice.value}`;
  });
  const [models, files] = await Promise.all([modelNames(true), get("v1/files", { limit: 100 })]);
  if (signal.aborted) return;
  frame.append(labelled("Kind of job", choice), el("p", {}, kind.summary), formOf(kind, models, files.data));
  if (chosen === kind.name) choice.focus();
  chosen = null;
}

function formOf(kind, models, files) {
  const { properties, required = [] } = kind.config;
  const hidden = new Set([...kind.closed, ...kind.outputs.filter((key) => required.includes(key))]);
  const keys = Object.keys(properties).filter((key) => !hidden.has(key));
  const fields = new Map(keys.map((key) => [key, field(key, properties[key], required.includes(key))]));
  for (const key of kind.models) if (fields.has(key)) offerModels(fields.get(key), models);
  for (const key of kind.files) if (fields.has(key)) offerFiles(fields.get(key), files);
  const isFirst = (key) => required.includes(key);
  const isOften = (key) => !isFirst(key) && (OFTEN.has(key) || kind.models.includes(key) || kind.files.includes(key));
  const elements = (test) => keys.filter(test).map((key) => fields.get(key).element);
  const rest = elements((key) => !isFirst(key) && !isOften(key));
  const form = el("form", { novalidate: true, "aria-label": `New ${kind.name} job` },
    elements(isFirst), elements(isOften), advanced(rest), el("p", {}, el("button", { class: "primary" }, `Start the ${kind.name} job`)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(kind.name, fields, form.querySelector("button.primary"));
  });
  return form;
}

function advanced(elements) {
  const search = el("input", { type: "search" });
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase().replaceAll(" ", "_");
    for (const each of elements) each.hidden = !each.dataset.key.includes(wanted);
  });
  return el("details", { class: "advanced" }, el("summary", {}, `${elements.length} more options`),
    labelled("Find an option", search), elements);
}

/** The config that was written; null where a field can't be read. The first of those gets the focus. */
function taken(fields) {
  const config = {};
  const wrong = [];
  for (const each of fields.values()) {
    each.fail("");
    try {
      const value = each.read();
      if (value !== undefined) config[each.key] = value;
    } catch (error) {
      wrong.unshift([each, error.message]);
    }
  }
  for (const [each, message] of wrong) each.fail(message);
  if (wrong.length) announce(wrong.at(-1)[1], true);
  return wrong.length ? null : config;
}

async function submit(kind, fields, send) {
  const config = taken(fields);
  if (!config) return;
  send.disabled = true;
  try {
    const job = await post("api/jobs", { kind, config });
    announce(`Job ${job.id} is queued`);
    location.hash = `#/job/${job.id}`;
  } catch (error) {
    fields.get(error.param?.replace(/^config\./, "").split(".")[0])?.fail(error.message);
    announce(error.message, true);
  }
  send.disabled = false;
}

function offerModels(each, names) {
  if (names.length) each.element.append(picker(`Pick a model for ${each.key}`, "a model that is here …", names.map((name) => [name, name]), each.add));
}

function offerFiles(each, files) {
  const options = files.map((file) => [file.id, `${file.filename} (${file.id})`]);
  const row = el("div", { class: "row" },
    options.length > 0 && picker(`Pick a file for ${each.key}`, "a file of yours …", options, each.add),
    uploader((file) => each.add(file.id), each.key));
  each.element.append(row);
}

function picker(name, hint, options, add) {
  const choice = el("select", { "aria-label": name }, new Option(hint, ""));
  for (const [value, text] of options) choice.add(new Option(text, value));
  return el("div", { class: "row" }, choice, button("Use it", () => { if (choice.value) add(choice.value); }, { "aria-label": `${name}: use it` }));
}
