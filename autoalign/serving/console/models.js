// The registry: which models jobs have made, and which names are served from them.
import { get, post } from "./api.js";
import { announce, button, el, labelled, table, when } from "./dom.js";

/** Shows `#/models`. */
export async function modelsView(frame, { signal, bearer }) {
  const name = el("input", { type: "text", value: "default", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,99}" });
  const place = el("div", {});
  const admin = bearer.may("admin");
  const pages = [null];
  const show = async () => {
    const page = await get("api/models", { limit: 20, after: pages.at(-1) });
    if (signal.aborted) return;
    place.replaceChildren(page.data.length ? listed(page.data) : el("p", {}, "No models yet: a training job that succeeds registers its own."),
      el("p", { class: "row" },
        pages.length > 1 && button("Newer", () => { pages.pop(); return show(); }),
        page.has_more && button("Older", () => { pages.push(page.data.at(-1).id); return show(); })));
  };
  const promote = async (model) => {
    const served = await post(`api/models/${encodeURIComponent(model.id)}/promote`, { name: name.value.trim() });
    announce(`${name.value.trim()} is now ${served.id}`);
    await show();
  };
  const rollback = async (served) => {
    const model = await post(`api/models/${encodeURIComponent(served)}/rollback`);
    announce(`${served} is ${model.id} again`);
    await show();
  };
  const listed = (models) => table("Models", ["Model", "Served as", "Parent", "Job", "Made", ...(admin ? ["Change"] : [])], models.map((model) => [
    model.id, model.served_as.length ? model.served_as.map((each) => el("span", { class: "badge succeeded" }, each)) : "—",
    model.parent, el("a", { href: `#/job/${model.job_id}` }, model.job_id), when(model.created_at),
    ...(admin ? [el("span", { class: "row" },
      button("Promote", () => promote(model), { "aria-label": `Promote ${model.id}` }),
      model.served_as.map((each) => button(`Roll back ${each}`, () => rollback(each))))] : []),
  ]), { class: "cards" });
  frame.append(el("h1", {}, "Models"),
    admin ? labelled("Name to promote to", name) : el("p", { class: "hint" }, "Promoting a model takes a token with the scope admin."),
    place);
  await show();
}
