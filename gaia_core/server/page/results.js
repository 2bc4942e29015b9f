/** What was made: the pictures, what they cost, and what can be done with them next. */

import { pictureAddress } from "./api.js";
import { campaign } from "./campaign.js";
import { compare } from "./compare.js";
import { h, money, seconds, tell } from "./dom.js";
import { agreed } from "./plan.js";
import { openPicture } from "./viewer.js";
import { work } from "./work.js";

const FACTORS = [2, 4, 8];

/**
 * Show an answer with pictures.
 *
 * @param {object} answer The server's answer.
 * @param {object} how
 * @param {string} how.title What was asked for, in words.
 * @param {string} [how.done] What was done, where that sounds better afterwards.
 * @param {object} [how.settings] What was sent, where it can be sent again.
 * @param {object} [how.source] The record of the picture it was made from.
 * @param {boolean} [how.isCompared] Whether it is shown against its source.
 * @returns {HTMLElement}
 */
export function answerCard(answer, { title, done = title, source, isCompared = false, settings }) {
  return h(
    "article",
    { class: "answer", tabindex: "-1", "aria-label": done },
    h(
      "header",
      {},
      h("h3", {}, done),
      settings && h("button", { type: "button", class: "small", onclick: () => tell("gaia:reuse", settings) }, "Use these settings"),
    ),
    h("p", { class: "answer-line" }, bylineOf(answer)),
    answer.warnings?.length > 0 &&
      h("ul", { class: "notice warn" }, answer.warnings.map((warning) => h("li", {}, warning))),
    h(
      "ul",
      { class: "pictures" },
      answer.images.map((image) => h("li", {}, pictureCard(image, { source, isCompared }))),
    ),
  );
}

function bylineOf(answer) {
  const others = (answer.attempts ?? []).filter((one) => one.outcome !== "ok" && one.provider !== answer.provider);
  const failed = [...new Set(others.map((one) => one.provider))];
  const time = answer.is_reused ? "kept from before" : seconds(answer.generation_time);
  return [
    h("span", {}, [answer.service, answer.model, time].join(" · ")),
    h("span", { class: answer.cost_usd === 0 ? "tag free" : "tag" }, answer.cost_usd === null ? "price not known yet" : money(answer.cost_usd)),
    failed.length > 0 && h("span", { class: "tag warn" }, `after ${failed.join(", ")} failed`),
  ];
}

/**
 * Show one picture with everything that can be done with it.
 *
 * @param {object} image Its record.
 * @param {object} [how]
 * @param {object} [how.source] The record of the picture it was made from.
 * @param {boolean} [how.isCompared] Whether it is shown against its source.
 * @returns {HTMLElement}
 */
export function pictureCard(image, { source, isCompared = false } = {}) {
  return h(
    "figure",
    { class: "picture" },
    isCompared && source
      ? compare({ before: pictureAddress(source), after: pictureAddress(image), label: altOf(image) })
      : h(
          "button",
          { type: "button", class: "picture-open", "aria-label": `Open large: ${altOf(image)}`, onclick: () => openPicture(image) },
          h("img", {
            src: pictureAddress(image),
            alt: "",
            width: image.width,
            height: image.height,
            loading: "lazy",
            decoding: "async",
          }),
        ),
    h("figcaption", {}, factsOf(image)),
    actionsOf(image),
  );
}

/** Put a picture in words for whoever does not see it. */
export function altOf(image) {
  const words = image.prompt ?? "a picture without words";
  return words.length > 120 ? `${words.slice(0, 119)}…` : words;
}

function factsOf(image) {
  return [
    h("span", {}, `${image.width} × ${image.height}`),
    hasSeed(image) && h("span", {}, `seed ${image.seed}`),
  ];
}

/** Make the rows of what can be done with a picture. */
export function actionsOf(image) {
  const button = (text, onclick, label) =>
    h("button", { type: "button", class: "small", onclick, "aria-label": label }, text);
  return h(
    "div",
    { class: "actions" },
    h(
      "div",
      { class: "action-row" },
      button("Edit", () => tell("gaia:edit", image)),
      button("Remove background", () => removeBackground(image)),
      h("a", { class: "button small", href: pictureAddress(image, { download: true }), download: "" }, "Download"),
    ),
    h(
      "div",
      { class: "action-row" },
      h(
        "div",
        { class: "enlarge", role: "group", "aria-label": "Enlarge" },
        h("span", { "aria-hidden": "true" }, "Enlarge"),
        FACTORS.map((factor) => button(`${factor}×`, () => enlarge(image, factor), `Enlarge ${factor} times`)),
      ),
      hasSeed(image) && button("Use seed", () => tell("gaia:reuse", { seed: image.seed }), `Use seed ${image.seed}`),
      image.prompt && button("Use words", () => tell("gaia:reuse", { prompt: image.prompt })),
    ),
  );
}

function hasSeed(image) {
  return image.seed !== null && image.seed !== undefined;
}

/** The element that answers are put on top of. */
export function bench() {
  return document.getElementById("bench");
}

/** Enlarge a picture, once the price is agreed; the result lands on the bench. */
export function enlarge(image, factor) {
  return worked("upscale", image, { upscale_factor: factor }, { title: `Enlarging ${factor}×`, done: `Enlarged ${factor}×`, button: `Enlarge ${factor}×` });
}

/** Cut a picture's subject out, once the price is agreed. */
export function removeBackground(image) {
  return worked("remove-background", image, {}, { title: "Removing the background", done: "Without its background", button: "Remove background" });
}

async function worked(operation, image, fields, { title, done, button }) {
  const body = { image_id: image.id, campaign_id: image.campaign_id ?? campaign(), ...fields };
  if (!(await agreed(operation, body, { title: button, button }))) return null;
  tell("gaia:show", "make");
  return await work(`api/images/${operation}`, body, { title, done, into: bench(), source: image, isCompared: true });
}
