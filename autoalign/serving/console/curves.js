// A job's figures as charts: losses, rewards, and any other figure by choice.
import { chart } from "./chart.js";
import { el, labelled } from "./dom.js";

const isLoss = (name) => /(^|[_/])loss$/.test(name);
const isReward = (name) => /reward|margin|accuracy/.test(name) && !isLoss(name);

/** `element` to put somewhere, and `show(rows)` for lines of metrics.jsonl. */
export function curves() {
  const choice = el("select", {});
  const picked = el("div", {});
  const other = el("div", { class: "panel", hidden: true }, labelled("Other figure", choice, { class: "field inline" }), picked);
  const losses = el("div", { class: "panel" });
  const rewards = el("div", { class: "panel", hidden: true });
  let rows = [];
  let drawn = -1;
  const pick = () => picked.replaceChildren(chart(choice.value, series(rows, [choice.value])));
  choice.addEventListener("change", pick);
  const show = (given) => {
    rows = given;
    if (drawn === rows.length) return;
    drawn = rows.length;
    const names = numbers(rows);
    losses.replaceChildren(chart("Loss", series(rows, names.filter(isLoss))));
    const ofRewards = names.filter(isReward);
    rewards.hidden = !ofRewards.length;
    rewards.replaceChildren(chart("Rewards", series(rows, ofRewards)));
    const others = names.filter((name) => !isLoss(name) && !isReward(name));
    other.hidden = !others.length;
    if (others.length && others.length !== choice.options.length) {
      const before = choice.value;
      choice.replaceChildren(...others.map((name) => new Option(name)));
      choice.value = [before, "tokens_per_second"].find((name) => others.includes(name)) ?? others[0];
    }
    if (others.length) pick();
  };
  show([]);
  return { element: el("section", { class: "panels", "aria-label": "Curves" }, losses, rewards, other), show };
}

function numbers(rows) {
  const names = new Set();
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) if (typeof value === "number" && name !== "step") names.add(name);
  }
  return [...names];
}

function series(rows, names) {
  const points = (name) => rows
    .filter((row) => typeof row[name] === "number")
    .map((row, index) => [row.step ?? index + 1, row[name]]);
  return names.map((name) => ({ name, points: points(name) }));
}
