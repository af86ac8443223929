// A chat with two models side by side: one question, two answers as they are made.
import { chat } from "./api.js";
import { button, el, labelled } from "./dom.js";
import { chats, modelNames } from "./names.js";

/** Shows `#/chat` and `#/chat/MODEL`, with that model beside the first one. */
export async function chatView(frame, { argument, signal, bearer }) {
  const text = el("textarea", { rows: 2, required: true, placeholder: "Enter sends, Shift+Enter is a new line" });
  const temperature = el("input", { type: "number", min: 0, max: 2, step: 0.1, placeholder: "default" });
  const length = el("input", { type: "number", min: 1, step: 1, placeholder: "default" });
  const sendIt = el("button", { class: "primary", disabled: true }, "Send");
  const stop = button("Stop", () => running?.abort(), { disabled: true });
  const sides = [side("Model A"), side("Model B")];
  let running = null;
  signal.addEventListener("abort", () => running?.abort());
  const clear = button("New chat", () => { running?.abort(); sides.forEach((each) => each.clear()); text.focus(); });
  const form = el("form", { class: "ask" },
    labelled("Message to both", text, { class: "field grow" }),
    el("div", { class: "row" }, sendIt, stop, clear,
      el("details", {}, el("summary", {}, "Options"),
        el("div", { class: "row" }, labelled("Temperature", temperature), labelled("Tokens at most", length)))));
  frame.append(el("h1", {}, "Chat"), el("div", { class: "sides" }, sides.map((each) => each.element)), form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const content = text.value.trim();
    if (!content || sendIt.disabled) return;
    text.value = "";
    running = new AbortController();
    [sendIt.disabled, stop.disabled] = [true, false];
    const options = { ...(temperature.value && { temperature: Number(temperature.value) }), ...(length.value && { max_tokens: Number(length.value) }) };
    await Promise.all(sides.map((each) => each.ask(content, options, running.signal)));
    running = null;
    [sendIt.disabled, stop.disabled] = [false, true];
    text.focus();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  const models = await modelNames(bearer.may("jobs"), chats);
  const second = argument || models[1] || "";
  sides[0].offer(models, models.find((id) => id !== second) ?? "");
  sides[1].offer(models.includes(second) || !second ? models : [...models, second], second);
  sendIt.disabled = false;
}

/** One conversation with one model. "no model" leaves the side out. */
function side(name) {
  const choice = el("select", {});
  const log = el("div", { class: "talk", role: "log", "aria-live": "polite", "aria-label": `Conversation with ${name}`, tabindex: "0" });
  let messages = [];
  const clear = () => { messages = []; log.replaceChildren(); };
  choice.addEventListener("change", clear);
  const ask = async (content, options, signal) => {
    if (!choice.value) return;
    const mine = messages;
    const asked = [...mine, { role: "user", content }];
    say(log, "user", "You", content);
    const box = say(log, "other", choice.value, "");
    log.setAttribute("aria-busy", "true");
    let answer = "";
    try {
      for await (const piece of chat({ model: choice.value, messages: asked, ...options }, signal)) {
        box.textContent = answer += piece;
        log.scrollTop = log.scrollHeight;
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        box.classList.add("error");
        box.textContent = error.message;
        return;
      }
    } finally {
      log.setAttribute("aria-busy", "false");
    }
    // Another chat has begun where `clear` has run; this answer is none of its own.
    if (messages === mine) messages = [...asked, { role: "assistant", content: answer }];
  };
  const offer = (models, chosen) => {
    choice.replaceChildren(new Option("no model", ""), ...models.map((id) => new Option(id)));
    choice.value = chosen;
  };
  return { element: el("section", { class: "side", "aria-label": name }, labelled(name, choice), log), ask, clear, offer };
}

function say(log, kind, who, text) {
  const box = el("div", { class: "text" }, text);
  log.append(el("div", { class: `turn ${kind}` }, el("strong", {}, who), box));
  log.scrollTop = log.scrollHeight;
  return box;
}
