// A line chart in SVG, small enough to read and without a library.
import { el, svg } from "./dom.js";

const WIDTH = 420;
const HEIGHT = 220;
const LEFT = 54;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 38;
const MOST = 600; // points drawn of a line

/** A figure of lines over steps. `lines`: [{name, points: [[step, value], ...]}]. */
export function chart(title, lines) {
  const drawn = lines.filter((line) => line.points.length);
  const figure = el("figure", {}, el("figcaption", {}, title));
  if (!drawn.length) {
    figure.append(el("p", { class: "hint" }, "No figures yet."));
    return figure;
  }
  const spread = (index) => bounds(drawn.flatMap((line) => line.points.map((point) => point[index])));
  const [xs, ys] = [spread(0), padded(spread(1))];
  const x = (value) => LEFT + ((value - xs[0]) / (xs[1] - xs[0] || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - ys[0]) / (ys[1] - ys[0])) * (HEIGHT - TOP - BOTTOM);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spoken(title, drawn) },
    ticks(...ys).map((value) => svg("g", { class: "grid" },
      svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, short(value)))),
    ticks(...xs).filter(Number.isInteger).map((value) => svg("text", { x: x(value), y: HEIGHT - 19, "text-anchor": "middle" }, short(value))),
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 5, "text-anchor": "end", class: "axis" }, "step"),
    drawn.map((line, index) => plotted(line, index, x, y)));
  const legend = el("ul", { class: "legend" }, drawn.map((line, index) => el("li", { class: `line${index % 6}` },
    line.name, " ", el("span", {}, short(line.points.at(-1)[1])))));
  figure.append(picture, legend);
  return figure;
}

function plotted(line, index, x, y) {
  const points = thinned(line.points).map((point) => `${x(point[0]).toFixed(1)},${y(point[1]).toFixed(1)}`);
  const [lastX, lastY] = points.at(-1).split(",");
  return svg("g", { class: `line${index % 6}` },
    svg("polyline", { points: points.join(" "), fill: "none" }),
    svg("circle", { cx: lastX, cy: lastY, r: 3.5 }));
}

/** Every n-th point, and the last. */
function thinned(points) {
  const step = Math.ceil(points.length / MOST);
  return points.filter((_, index) => index % step === 0 || index === points.length - 1);
}

function bounds(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function padded([low, high]) {
  const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}

/** Round numbers between two: 1, 2 or 5 times a power of ten apart. */
function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high; index++) found.push(Number((index * step).toPrecision(12)));
  return found;
}

/** A number in a few characters. */
export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

function spoken(title, lines) {
  const each = lines.map(({ name, points }) =>
    `${name}: from ${short(points[0][1])} at step ${points[0][0]} to ${short(points.at(-1)[1])} at step ${points.at(-1)[0]}`);
  return `${title}. ${each.join("; ")}`;
}
