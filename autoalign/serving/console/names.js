// Which models there are for a token.
import { get } from "./api.js";

/** Whether what a kind of job makes can chat: a reward model has no head for words. */
export const chats = (kind) => kind !== "rm";

/** Everybody's models, and those of one's own jobs, which only their owner sees; of a `wanted` kind of job. */
export async function modelNames(hasJobs, wanted = () => true) {
  const everybodys = (await get("v1/models")).data.map((model) => model.id);
  const own = hasJobs ? (await get("api/models", { limit: 100 })).data : [];
  const named = (models) => models.flatMap((model) => [...model.served_as, model.id]);
  const left = new Set(named(own.filter((model) => !wanted(model.kind))));
  return [...new Set([...everybodys, ...named(own)])].filter((name) => !left.has(name));
}
