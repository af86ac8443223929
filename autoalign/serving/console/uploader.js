// A button that uploads a file.
import { send } from "./api.js";
import { announce, button, el } from "./dom.js";

/** `done(file)` gets OpenAI's file object; `what` is told to screen readers. */
export function uploader(done, what) {
  const input = el("input", { type: "file", class: "unseen", tabindex: "-1", "aria-label": `File for ${what}`, accept: ".jsonl,.json,.csv,.txt" });
  const open = button("Upload a file", () => input.click(), { "aria-label": `Upload a file for ${what}` });
  input.addEventListener("change", async () => {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    open.disabled = true;
    announce(`Uploading ${file.name}`);
    try {
      const form = new FormData();
      form.append("purpose", file.name.toLowerCase().endsWith(".jsonl") ? "fine-tune" : "user_data");
      form.append("file", file);
      const answer = await send("v1/files", { method: "POST", body: form });
      done(await answer.json());
      announce(`${file.name} is uploaded`);
    } catch (error) {
      announce(error.message, true);
    }
    open.disabled = false;
  });
  return el("span", {}, input, open);
}
