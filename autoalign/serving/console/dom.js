// Elements, made without HTML text: whatever comes from the API is a text node.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element: el("a", {href: "#/", onclick: run}, "text", another). */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Say something to screen readers, and show it at the foot of the window for some seconds. */
export function announce(text, isError = false) {
  const status = document.getElementById("status");
  status.textContent = text;
  status.className = isError ? "shown error" : "shown";
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => (status.className = ""), isError ? 12000 : 5000);
}

/** A button whose click runs `action`; while that runs it is disabled, and what goes wrong is announced. */
export function button(text, action, attributes) {
  const made = el("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", async () => {
    const focused = document.activeElement === made; // a disabled button loses it
    made.disabled = true;
    try {
      await action();
    } catch (error) {
      announce(error.message, true);
    }
    made.disabled = false;
    if (focused && document.activeElement === document.body) made.focus();
  });
  return made;
}

/** A table in a frame that scrolls sideways; cells are texts or elements. */
export function table(caption, heads, rows, attributes) {
  const head = el("tr", {}, heads.map((text) => el("th", { scope: "col" }, text)));
  const cellOf = (cell, index) => (index ? el("td", { "data-head": heads[index] }, cell) : el("th", { scope: "row" }, cell));
  const body = rows.map((cells) => el("tr", {}, cells.map(cellOf)));
  const name = el("caption", { class: "unseen" }, caption);
  const made = el("table", attributes, name, el("thead", {}, head), el("tbody", {}, body));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, made);
}

/** A label over a control. */
export function labelled(text, control, attributes) {
  return el("label", { class: "field", ...attributes }, el("span", {}, text), control);
}

/** Seconds since 1970 as local date and time. */
export function when(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "medium" }) : "—";
}
