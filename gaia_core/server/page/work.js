/** Runs one request where a person can watch it: progress, preview, answer or problem. */

import { call, newIdempotencyKey } from "./api.js";
import { announce, h, seconds, tell } from "./dom.js";
import { answerCard } from "./results.js";

/**
 * Ask the server for something that takes a while, and show how it goes.
 *
 * While it runs there is a card with a bar, a preview and a way to call it off; then
 * the card shows the pictures, or what went wrong and what to do next. The rest of
 * the page hears `gaia:made` with the answer.
 *
 * @param {string} path Where, as "api/images/upscale".
 * @param {object} body What is sent.
 * @param {object} how
 * @param {string} how.title What it is called while it runs: "Enlarging 4×".
 * @param {string} [how.done] What it is called afterwards: "Enlarged 4×".
 * @param {object} [how.settings] What the form holds, where it can take it over again.
 * @param {(answer: object) => Element} [how.card] Shows an answer that is no pictures.
 * @param {Element} how.into The element the card is put on top of.
 * @param {object} [how.source] The record of the picture it starts from, if any.
 * @param {boolean} [how.isCompared] Whether the answer is shown against the source.
 * @returns {Promise<object|null>} The answer; null where there is none.
 */
export async function work(path, body, how) {
  const card = h("article", { class: "job", "aria-label": how.title, tabindex: "-1" });
  how.into.prepend(card);
  // Below a form as tall as the window, the card would come up out of sight.
  card.scrollIntoView({ block: matchMedia("(max-width: 62rem)").matches ? "start" : "nearest" });
  return await attempt(card, path, body, { ...how, idempotencyKey: newIdempotencyKey() });
}

async function attempt(card, path, body, how) {
  const calling = new AbortController();
  const view = running(card, how.title, () => calling.abort());
  announce(`${how.title}: started`);
  try {
    const answer = await call(path, body, {
      onProgress: view.show,
      signal: calling.signal,
      idempotencyKey: how.idempotencyKey,
    });
    replace(card, (how.card ?? answerCard)(answer, how));
    announce(`${how.title}: done`);
    tell("gaia:made", answer);
    return answer;
  } catch (error) {
    failed(card, error, how.title, {
      again: () => attempt(card, path, body, {
        ...how,
        // What may have been made is asked for again under its own name; what is
        // known to have failed is asked for as something new.
        idempotencyKey: error.isOpen || error.name === "AbortError" ? how.idempotencyKey : newIdempotencyKey(),
      }),
    });
    return null;
  } finally {
    view.stop();
  }
}

// Whoever was at the card by keyboard stays where it was.
function replace(card, next) {
  const hadFocus = card.contains(document.activeElement);
  card.replaceWith(next);
  if (hadFocus) next.focus();
}

function running(card, title, cancel) {
  const started = performance.now();
  const clock = h("span", { class: "clock" });
  const bar = h("progress", { max: "1", "aria-label": title });
  const preview = h("div", { class: "preview" });
  const tick = () => (clock.textContent = seconds((performance.now() - started) / 1000));
  const timer = setInterval(tick, 1000);
  tick();
  card.className = "job running";
  card.replaceChildren(
    preview,
    h(
      "div",
      { class: "job-text" },
      h("h3", {}, title),
      bar,
      h("p", { class: "job-line" }, clock, h("button", { type: "button", onclick: cancel }, "Cancel")),
    ),
  );
  return {
    stop: () => clearInterval(timer),
    show({ fraction, preview: picture }) {
      if (fraction !== undefined) bar.value = fraction;
      if (picture) preview.replaceChildren(h("img", { src: picture, alt: "What it looks like so far" }));
    },
  };
}

function failed(card, error, title, { again }) {
  const isCancelled = error.name === "AbortError";
  card.className = isCancelled ? "job cancelled" : "job failed";
  card.replaceChildren(
    h(
      "div",
      { class: "job-text" },
      h("h3", {}, isCancelled ? "Called off" : "It did not work"),
      h("p", { class: "hint job-title" }, title),
      isCancelled ? cancelledWords() : problemWords(error),
      h(
        "p",
        { class: "buttons" },
        (isCancelled || error.isWorthRepeating) &&
          h("button", { type: "button", onclick: again }, isCancelled ? "Make it after all" : "Try again"),
        h("button", { type: "button", onclick: () => card.remove() }, "Dismiss"),
      ),
    ),
  );
  announce(isCancelled ? `${title}: called off` : `${title}: ${error.message} ${error.next ?? ""}`);
}

function cancelledWords() {
  return h(
    "p",
    {},
    "What was not sent yet costs nothing. What a provider had begun may still be made and charged; it will then be in the gallery.",
  );
}

/** Put a problem in words: what happened, which field, whether it cost, what to do. */
export function problemWords(error) {
  return h(
    "div",
    { class: "problem" },
    h("p", { class: "problem-what" }, error.message, error.money && ` ${error.money}`),
    error.details?.length > 0 &&
      h("ul", {}, error.details.map(({ field, message }) => h("li", {}, h("b", {}, field), ` ${message}`))),
    h("p", { class: "problem-next" }, error.next ?? "Reload the page and try again."),
    error.operationId && h("p", { class: "hint" }, `Operation ${error.operationId}`),
  );
}
