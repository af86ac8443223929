// A log that follows its job.
import { Refused, send, texts } from "./api.js";
import { el } from "./dom.js";

const MOST = 400_000; // characters kept in the page
const AGAIN = 2000; // milliseconds

/** A box that fills with the log of the job at `path`; it stays at the end unless one scrolls up. */
export function logBox(path, signal) {
  const box = el("pre", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log" });
  const follow = el("input", { type: "checkbox", checked: true });
  const note = el("span", { class: "hint" }, "");
  box.addEventListener("scroll", () => {
    follow.checked = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
  });
  follow.addEventListener("change", () => { if (follow.checked) box.scrollTop = box.scrollHeight; });
  const add = (piece) => {
    box.append(piece);
    if (box.textContent.length > MOST) {
      box.textContent = box.textContent.slice(-MOST / 2);
      note.textContent = "earlier lines left out";
    }
    if (follow.checked) box.scrollTop = box.scrollHeight;
  };
  read(path, signal, add, note);
  return el("section", { "aria-label": "Log of the job" },
    el("div", { class: "row" }, el("h2", {}, "Log"), el("label", { class: "check" }, follow, "Follow"), note), box);
}

/** Read to the job's end; a connection that breaks is taken up where it broke. */
async function read(path, signal, add, note) {
  let offset = 0;
  while (!signal.aborted) {
    try {
      const answer = await send(`${path}/logs?follow=true&offset=${offset}`, { signal });
      for await (const piece of texts(answer)) {
        offset += new TextEncoder().encode(piece).length;
        add(piece);
      }
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status < 500 && error.status !== 429) {
        note.textContent = error.message;
        return;
      }
      note.textContent = "connecting again";
      await new Promise((resolve) => setTimeout(resolve, Math.max(AGAIN, (error.wait ?? 0) * 1000)));
      note.textContent = "";
    }
  }
}
