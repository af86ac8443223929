// Rows of a file: conversations, samples, and preference pairs with chosen beside rejected.
import { get } from "./api.js";
import { button, el } from "./dom.js";

const LIMIT = 10;

/** Shows `#/rows/SOURCE`. */
export async function rowsView(frame, { argument: source, signal }) {
  const place = el("div", { class: "rows" });
  const steps = el("p", { class: "row" });
  const before = [];
  frame.append(el("h1", {}, "Rows"), el("p", { class: "hint" }, source), place, steps);
  const show = async (offset) => {
    const page = await get("api/rows", { source, offset, limit: LIMIT });
    if (signal.aborted) return;
    const first = before.reduce((sum, each) => sum + each.count, 0) + 1;
    place.replaceChildren(...page.data.map((row, index) => shown(row, first + index)));
    if (!page.data.length) place.append(el("p", {}, "The file is empty."));
    const turn = async (to) => { await show(to); frame.querySelector("h1").scrollIntoView(); };
    steps.replaceChildren(
      ...(before.length ? [button("Previous", () => turn(before.pop().offset))] : []),
      ...(page.next === null ? [] : [button("Next", () => { before.push({ offset, count: page.data.length }); return turn(page.next); })]));
  };
  await show(0);
}

function shown(row, number) {
  let value = null;
  try {
    value = row.cut ? null : JSON.parse(row.text);
  } catch {
    // a line of plain text is shown as it is
  }
  const body = value !== null && typeof value === "object" ? record(value) : [el("pre", {}, row.text)];
  return el("article", { class: "panel", "aria-label": `Row ${number}` }, el("h2", {}, `Row ${number}`), body,
    row.cut && el("p", { class: "hint" }, "The row is longer than what is shown."));
}

const isTurn = (each) => typeof each === "object" && each !== null && ("content" in each || "value" in each);

function record(value) {
  if (Array.isArray(value)) return value.map((each) => (isTurn(each) ? conversation([each]) : el("div", { class: "part" }, record(each))));
  if (typeof value !== "object" || value === null) return [said(value)];
  if ("chosen" in value && "rejected" in value) return pair(value);
  if ("preferred_output" in value && "non_preferred_output" in value) {
    const { preferred_output: chosen, non_preferred_output: rejected, input, ...rest } = value;
    return pair({ ...rest, prompt: input?.messages ?? input, chosen, rejected });
  }
  const turns = value.messages ?? value.conversations;
  const rest = Object.entries(value).filter(([name]) => name !== "messages" && name !== "conversations");
  return [Array.isArray(turns) && conversation(turns), facts(rest)];
}

/** What both have in common stands above; the two answers beside each other. */
function pair(value) {
  const { chosen, rejected, conversations, prompt = conversations, ...rest } = value;
  const lists = Array.isArray(chosen) && Array.isArray(rejected);
  let same = 0;
  while (lists && same < Math.min(chosen.length, rejected.length) - 1
    && JSON.stringify(chosen[same]) === JSON.stringify(rejected[same])) same++;
  const answer = (side) => (lists ? conversation(side.slice(same)) : said(side));
  const column = (name, side) => el("section", { class: `side ${name}`, "aria-label": name }, el("h3", {}, name), answer(side));
  return [
    prompt !== undefined && el("div", {}, el("h3", {}, "prompt"), said(prompt)),
    same > 0 && conversation(chosen.slice(0, same)),
    el("div", { class: "sides" }, column("chosen", chosen), column("rejected", rejected)),
    facts(Object.entries(rest)),
  ];
}

function conversation(turns) {
  return el("ol", { class: "turns" }, turns.map((turn) => {
    const role = turn?.role ?? turn?.from ?? "";
    const content = turn?.content ?? turn?.value ?? turn;
    return el("li", { class: `turn ${/user|human/.test(role) ? "user" : "other"}` }, el("strong", {}, role), said(content));
  }));
}

function said(value) {
  if (Array.isArray(value) && value.length && value.every(isTurn)) return conversation(value);
  if (isTurn(value)) return said(value.content ?? value.value);
  return el("div", { class: "text" }, typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

function facts(pairs) {
  if (!pairs.length) return null;
  return el("dl", { class: "facts tall" }, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, said(value)))));
}
