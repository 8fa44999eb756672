// @ts-check
// What the page asks the admin API. A token, where one is asked for, is kept for this tab only.

const TOKEN = "sluicegate-token";

/** Something else than success. */
export class Refused extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(text || `the gateway answered ${status}`);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  /** @param {string} value */
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

/** @param {string} path @param {RequestInit} [options] */
async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token.get()) headers.set("authorization", `Bearer ${token.get()}`);
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin", redirect: "error" });
  if (!response.ok) throw new Refused(response.status, (await response.text()).trim().slice(0, 2000));
  return response;
}

/** @param {string} path @param {Record<string, any>} [query] */
export async function get(path, query = {}) {
  return (await ask(`/api/v1/${path}${written(query)}`)).json();
}

/** Gives an order; returns what was done. @param {string} path @returns {Promise<string>} */
export async function order(path) {
  return (await ask(`/api/v1/${path}`, { method: "POST", headers: { "x-sluicegate-request": "page" } })).text();
}

/** @param {Record<string, any>} query */
function written(query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== 0);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}

/** What one may do here: `operator` or `viewer`. A gateway without logins lets everybody do everything. */
export async function whoami() {
  try {
    return await get("whoami");
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return { role: "operator" };
    throw error;
  }
}

/**
 * Follows a view until it is told to stop. `fetch` and not an EventSource, as that cannot send a token.
 * @param {Record<string, any>} query
 * @param {{ event: (event: any) => void, lost: (error: any, seconds: number) => void }} to
 * @returns {() => void}
 */
export function follow(query, to) {
  const stop = new AbortController();
  (async () => {
    let pause = 1;
    while (!stop.signal.aborted) {
      try {
        const response = await ask(`/api/v1/live${written(query)}`, { signal: stop.signal });
        await events(response, (event) => {
          pause = 1;
          if (!stop.signal.aborted) to.event(event);
        });
        throw new Error("the gateway has ended the stream");
      } catch (error) {
        if (stop.signal.aborted) return;
        to.lost(error, pause);
        await new Promise((resolve) => setTimeout(resolve, pause * 1000));
        pause = Math.min(pause * 2, 15);
      }
    }
  })();
  return () => stop.abort();
}

/** Reads server-sent events of one line each. @param {Response} response @param {(event: any) => void} take */
async function events(response, take) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const line = text.slice(0, end);
      text = text.slice(end + 2);
      if (line.startsWith("data: ")) take(JSON.parse(line.slice(6)));
    }
  }
}
