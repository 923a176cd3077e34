// The server's calls. A server with a key is asked with the one that was given in this tab.

import { byId } from "./dom.js";

const KEPT = "prismhub-key";

/** The server refused or failed: its own line, and the status of HTTP. */
export class ServerError extends Error {
  constructor(status, line, retryAfter = 0) {
    super(line);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** What people are told of a call that failed; what is no fault of the server or of theirs is one of the page. */
export function lineOf(error) {
  if (error.name === "AbortError") return "Stopped.";
  if (error instanceof ServerError) return error.message;
  throw error;
}

/** The answer of a call as JSON. `body` is a FormData, or an object that is sent as JSON. */
export async function call(method, path, { body, signal } = {}) {
  await keyIsThere();
  for (;;) {
    const key = sessionStorage.getItem(KEPT);
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const form = body instanceof FormData;
    if (body && !form) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method, headers, signal, body: body && !form ? JSON.stringify(body) : body });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError(0, "The server does not answer. Is it still running?");
    }
    if (answer.status === 401) {
      await askForKey(key);
      continue;
    }
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) return found;
    throw new ServerError(
      answer.status,
      found.error ?? `The server answered ${answer.status}.`,
      Number(answer.headers.get("Retry-After")),
    );
  }
}

export const get = (path, fields = {}, options = {}) => {
  const asked = new URLSearchParams(
    Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined && value !== null),
  );
  return call("GET", asked.size ? `${path}?${asked}` : path, options);
};

let looked = null;

/** Ask for the key before the first call, where the server says that it wants one. */
function keyIsThere() {
  looked ??= fetch("/healthz")
    .then((answer) => answer.json())
    .then((health) => health.wants_key && !sessionStorage.getItem(KEPT) && askForKey(null))
    .catch(() => {}); // the call itself says what is wrong
  return looked;
}

let asking = null;

/** The form for the key; calls that wait for it share it. `wrong` is a key that did not open. */
function askForKey(wrong) {
  if (wrong && wrong !== sessionStorage.getItem(KEPT)) return Promise.resolve(); // another call got a new one meanwhile
  asking ??= new Promise((resolve) => {
    const [dialog, field] = [byId("key"), byId("key-field")];
    byId("key-told").textContent = wrong ? "This key is not the right one." : "";
    const given = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEPT, field.value.trim());
      field.value = "";
      byId("key-form").removeEventListener("submit", given);
      dialog.removeEventListener("cancel", stay);
      dialog.close();
      asking = null;
      resolve();
    };
    const stay = (event) => event.preventDefault(); // without a key there is nothing to go back to
    byId("key-form").addEventListener("submit", given);
    dialog.addEventListener("cancel", stay);
    dialog.showModal();
    field.focus();
  });
  return asking;
}
