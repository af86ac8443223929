// The public API, with the user's token in the Authorization header and nowhere else.

const KEY = "autoalign.token";
const REASON = "autoalign.reason"; // read by the page that asks for a token
const LONGEST = 30; // seconds between two looks, where the server says nothing else

/** What the API says when it refuses; `param` names the field, `wait` is in seconds. */
export class Refused extends Error {
  constructor(status, error, wait = 0) {
    super(error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.param = error?.param ?? null;
    this.wait = wait;
  }
}

/** The answer to a request, which is not read yet. */
export async function send(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  if (answer.status === 401 && token) askAgain();
  throw new Refused(answer.status, body?.error, Number(answer.headers.get("Retry-After")) || 0);
}

/** GET, as JSON. */
export async function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return (await send(text ? `${path}?${text}` : path)).json();
}

/** POST JSON, and get JSON. */
export async function post(path, body = undefined) {
  const json = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await send(path, { method: "POST", ...json })).json();
}

/** Pieces of a text as they come; `signal` ends it. */
export async function* texts(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What a streamed chat says, piece by piece. */
export async function* chat(body, signal) {
  const headers = { "Content-Type": "application/json" };
  const answer = await send("v1/chat/completions", {
    method: "POST", headers, signal, body: JSON.stringify({ ...body, stream: true }),
  });
  let rest = "";
  for await (const piece of texts(answer)) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refused(500, event.error);
      yield event.choices?.[0]?.delta?.content ?? "";
    }
  }
}

/** Forget the token, and show the page that asks for one. */
export function logOut() {
  sessionStorage.removeItem(KEY);
  location.replace(location.pathname);
}

/** The token is taken no more: another one opens the same view. */
function askAgain() {
  sessionStorage.removeItem(KEY);
  sessionStorage.setItem(REASON, "The token is not valid any more; log in with another one to go on.");
  location.reload();
}

/** Whether this tab has a token; without, tokens are off. */
export const hasToken = () => sessionStorage.getItem(KEY) !== null;

/**
 * Run `look` now and every `seconds` while the tab is seen, until `signal` ends it. A look that fails is tried
 * again, later each time and not before the server wants it; its error goes to `onError` once.
 */
export async function poll(seconds, signal, look, onError) {
  let [failures, said] = [0, null];
  while (!signal.aborted) {
    let wait = seconds;
    if (!document.hidden) {
      try {
        if ((await look()) === "over") return;
        [failures, said] = [0, null];
      } catch (error) {
        if (signal.aborted) return;
        wait = Math.max(error.wait ?? 0, Math.min(seconds * 2 ** ++failures, LONGEST));
        if (error.message !== said) onError(error);
        said = error.message;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, wait * 1000));
  }
}
