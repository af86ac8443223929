// One key of a job's config as a control, made from its JSON schema.
import { el } from "./dom.js";

/** The parts of a schema that say what the control is. */
function shape(schema) {
  const parts = schema.anyOf ?? [schema];
  const plain = parts.filter((part) => part.type !== "null");
  const array = plain.find((part) => part.type === "array");
  const options = plain.find((part) => part.enum)?.enum ?? (plain.every((part) => "const" in part) && plain.map((part) => part.const));
  const types = plain.map((part) => part.type);
  return { plain, array, options: options || null, types, isJson: types.includes("object") || array?.items?.type === "object" };
}

const isNumber = (type) => type === "integer" || type === "number";

function controlOf(schema, { array, options, types, plain, isJson }) {
  if (options) return el("select", {}, new Option(`default${shownDefault(schema)}`, ""), options.map((each) => new Option(each)));
  if (types.length === 1 && types[0] === "boolean") {
    return el("select", {}, new Option(`default${shownDefault(schema)}`, ""), new Option("yes", "true"), new Option("no", "false"));
  }
  const placeholder = schema.default === null || schema.default === undefined ? "" : asText(schema.default);
  if (array || isJson) return el("textarea", { rows: 2, placeholder });
  if (types.length === 1 && isNumber(types[0])) {
    const { minimum, maximum } = plain[0];
    const step = types[0] === "integer" ? 1 : "any";
    return el("input", { type: "number", step, min: minimum, max: maximum, placeholder });
  }
  return el("input", { type: "text", placeholder });
}

function shownDefault(schema) {
  if (schema.default === null || schema.default === undefined) return "";
  return typeof schema.default === "boolean" ? `: ${schema.default ? "yes" : "no"}` : `: ${asText(schema.default)}`;
}

function asText(value) {
  if (Array.isArray(value)) return value.map(asText).join("\n");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** What was written, as the schema wants it; other than JSON, what can't be read goes as text, for the API to refuse. */
function parsed(text, { array, types, isJson }) {
  if (isJson) return fromJson(text, array);
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  if (array && (lines.length > 1 || types.length === 1)) return lines.map((line) => single(line, [array.items?.type]));
  return single(text.trim(), types);
}

function fromJson(text, array) {
  try {
    return JSON.parse(text);
  } catch (error) {
    const example = '{"name": "text", "number": 20}';
    throw new Error(`JSON is expected, with names and texts in double quotes: ${array ? `[${example}]` : example} (${error.message})`);
  }
}

function single(text, types) {
  if (types.includes("boolean") && (text === "true" || text === "false")) return text === "true";
  if (types.some(isNumber) && text !== "" && Number.isFinite(Number(text))) return Number(text);
  return text;
}

/**
 * A labelled control with its description.
 *
 * `read()` gives its value, undefined where nothing was entered, and throws where that can't be read; `add(text)` appends a line, or sets it;
 * `fail(message)` marks it as wrong ("" as right).
 */
export function field(key, schema, required) {
  const found = shape(schema);
  const control = controlOf(schema, found);
  const id = `field-${key}`;
  const problem = el("span", { class: "error", id: `${id}-problem` });
  const hints = [schema.description, found.isJson ? "as JSON" : found.array && "one a line"].filter(Boolean).join("; ");
  control.id = id;
  control.name = key;
  control.setAttribute("aria-describedby", `${id}-hint ${id}-problem`);
  if (required) control.required = true;
  const element = el("div", { class: "field", "data-key": key },
    el("label", { for: id }, key.replaceAll("_", " "), required && el("span", { class: "hint" }, " (required)")),
    el("span", { class: "hint", id: `${id}-hint` }, hints), control, problem);
  return {
    key,
    element,
    read: () => {
      if (control.validity.badInput) throw new Error("A number is expected.");
      return control.value.trim() === "" ? undefined : parsed(control.value, found);
    },
    add: (text) => {
      control.value = found.array && control.value.trim() ? `${control.value.trimEnd()}\n${text}` : text;
      control.focus();
    },
    fail: (message) => {
      problem.textContent = message;
      control.setAttribute("aria-invalid", message ? "true" : "false");
      if (message) {
        control.closest("details")?.setAttribute("open", "");
        control.focus();
      }
    },
  };
}
