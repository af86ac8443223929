// Which models there are for a token.
import { get } from "./api.js";

/** Everybody's models, and those of one's own jobs, which only their owner sees. */
export async function modelNames(hasJobs) {
  const everybodys = (await get("v1/models")).data.map((model) => model.id);
  const own = hasJobs ? (await get("api/models", { limit: 100 })).data : [];
  return [...new Set([...everybodys, ...own.flatMap((model) => [...model.served_as, model.id])])];
}
