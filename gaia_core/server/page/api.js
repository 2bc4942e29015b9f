/**
 * Talks to the server the page came from.
 *
 * Everything is asked relative to where the page lies, so that it also works where a
 * host serves it below a prefix.
 */

import { eventsIn } from "./events.js";
import { ProblemError, unreachable } from "./problems.js";

export { ProblemError };

const ROOT = new URL("../", import.meta.url);
const KEY = "gaia.key";

/** Give the address of something on the server: `address("api/usage")`. */
export function address(path) {
  return new URL(path, ROOT);
}

/**
 * Give the address of a picture by its record; whoever has it can open it.
 *
 * The record's own address may carry another host, so only its signature is taken.
 */
export function pictureAddress(record, { download = false } = {}) {
  // A file from this machine is not on the server; it is its own address.
  if (record.id === undefined) return record.address;
  const url = address(`api/images/${encodeURIComponent(record.id)}`);
  url.search = new URL(record.url ?? "", ROOT).search;
  if (download) url.searchParams.set("download", "1");
  return url.href;
}

/** The API key of this tab; it is forgotten with the tab. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set(value) {
    isDeclined = false;
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  },
};

let askForKey = async () => false;
let asking = null;
let isDeclined = false;

/** Say how a person is asked for a key: gives true when there is a new one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** Give a number that names one request; asked again under it, nothing is paid twice. */
export function newIdempotencyKey() {
  // randomUUID is not there on plain http from another machine.
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Ask the server.
 *
 * @param {string} path Where, as "api/images/generate".
 * @param {object} [body] What is sent as JSON; without it the method is GET.
 * @param {object} [options]
 * @param {(now: {fraction: number, preview?: string}) => void} [options.onProgress]
 *   Told how far it is; the answer then comes as server-sent events.
 * @param {AbortSignal} [options.signal] Calls it off.
 * @param {string} [options.method] Another method.
 * @param {string} [options.idempotencyKey] Names the request; a new one by default.
 * @returns {Promise<object>} The answer.
 * @throws {ProblemError} With words for a person, and what to do next.
 */
export async function call(path, body, options = {}) {
  const request = { ...options, idempotencyKey: options.idempotencyKey ?? newIdempotencyKey() };
  for (;;) {
    try {
      return await send(path, body, request);
    } catch (error) {
      // Who has closed the question once is asked again only when they make something.
      const isAsked = error.status === 401 && (!isDeclined || request.onProgress);
      if (!isAsked || !(await hasNewKey())) throw error;
    }
  }
}

// However many requests are refused at the same time, the question is put once.
async function hasNewKey() {
  asking ??= askForKey().finally(() => (asking = null));
  const isNew = await asking;
  isDeclined = !isNew;
  return isNew;
}

async function send(path, body, { onProgress, signal, method, idempotencyKey }) {
  const isPost = body !== undefined;
  const headers = new Headers({ Accept: onProgress ? "text/event-stream" : "application/json" });
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  if (isPost) {
    headers.set("Content-Type", "application/json");
    if (!path.endsWith("/plan")) headers.set("Idempotency-Key", idempotencyKey);
  }
  try {
    const response = await fetch(address(path), {
      method: method ?? (isPost ? "POST" : "GET"),
      headers,
      body: isPost ? JSON.stringify(body) : undefined,
      signal,
    });
    return await answerOf(response, onProgress);
  } catch (error) {
    if (error instanceof ProblemError || error.name === "AbortError") throw error;
    throw unreachable();
  }
}

async function answerOf(response, onProgress) {
  const type = response.headers.get("Content-Type") ?? "";
  if (response.ok && type.startsWith("text/event-stream")) {
    return await resultOf(response, onProgress);
  }
  const answer = parse(await response.text());
  if (!response.ok) throw new ProblemError(response.status, answer ?? {});
  return answer;
}

async function resultOf(response, onProgress) {
  let last = null;
  // Read to the end: an answer that is hung up on looks like a client that left.
  for await (const { type, data } of eventsIn(response.body)) {
    const content = parse(data) ?? {};
    if (type === "progress") onProgress(content);
    else if (type === "result" || type === "error") last = { type, content };
  }
  if (last === null) throw unreachable();
  if (last.type === "error") throw new ProblemError(last.content.status ?? 500, last.content);
  return last.content;
}

/**
 * Read JSON; seeds stay exact: they have more digits than a number here can hold.
 */
export function parse(text) {
  try {
    return JSON.parse(text, (name, value, context) =>
      name === "seed" && typeof value === "number" && !Number.isSafeInteger(value)
        ? (context?.source ?? value)
        : value,
    );
  } catch {
    return null;
  }
}
