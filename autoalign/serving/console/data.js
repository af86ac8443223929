// Uploaded files: upload, look inside, delete.
import { get, send } from "./api.js";
import { announce, button, el, labelled, table, when } from "./dom.js";
import { size } from "./job.js";
import { uploader } from "./uploader.js";

/** Shows `#/data`. */
export async function dataView(frame, { signal }) {
  const place = el("div", {});
  const name = el("input", { type: "text", placeholder: "job-…/answers.jsonl", required: true });
  const open = el("form", { class: "row" }, labelled("Look into a job's file, or one below a root", name, { class: "field grow" }), el("button", {}, "Open"));
  open.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = address(name.value.trim());
  });
  const show = async () => {
    const page = await get("v1/files", { limit: 100 });
    if (signal.aborted) return;
    const rows = page.data.map((file) => [
      el("a", { href: address(file.id) }, file.filename), file.id, file.purpose, size(file.bytes), when(file.created_at),
      button("Delete", () => remove(file, show), { class: "danger", "aria-label": `Delete ${file.filename}` }),
    ]);
    place.replaceChildren(rows.length
      ? table("Uploaded files", ["Name", "Id", "Purpose", "Size", "Uploaded", ""], rows, { class: "cards" })
      : el("p", {}, "No files yet. Training takes .jsonl files of conversations or of preference pairs."));
  };
  const added = () => show().catch((error) => announce(error.message, true));
  frame.append(el("div", { class: "row" }, el("h1", {}, "Data"), uploader(added, "jobs")), place, open);
  await show();
}

const address = (source) => `#/rows/${source.split("/").map(encodeURIComponent).join("/")}`;

async function remove(file, show) {
  if (!confirm(`Delete ${file.filename}?`)) return;
  await send(`v1/files/${encodeURIComponent(file.id)}`, { method: "DELETE" });
  announce(`${file.filename} is deleted`);
  await show();
}
