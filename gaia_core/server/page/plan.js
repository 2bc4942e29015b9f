/** The plan before paying: who will make it, for how much, and why nobody else. */

import { call } from "./api.js";
import { dialog, h, money } from "./dom.js";
import { problemWords } from "./work.js";

const ANYTHING = "a picture";
const MOST_NAMES = 3;

/**
 * Make the panel of a plan.
 *
 * `ask(body, operation)` asks for another one; `price` is an element with the price
 * alone, for a button.
 */
export function planPanel() {
  const panel = new Panel();
  return { element: panel.element, price: panel.price, ask: (body, operation) => panel.ask(body, operation) };
}

/**
 * Have a price agreed: what is free needs no asking.
 *
 * @param {string} operation "upscale", "remove-background", …
 * @param {object} body What would be sent.
 * @param {{title: string, button: string}} words What the dialog and its button say.
 * @returns {Promise<boolean>} Whether to go on.
 */
export async function agreed(operation, body, { title, button }) {
  const panel = new Panel();
  const plan = await panel.ask(body, operation);
  if (plan?.candidates[0]?.price_usd === 0) return true;
  return await new Promise((resolve) => {
    let isAgreed = false;
    const go = h(
      "button",
      { type: "button", class: "primary", disabled: !plan?.candidates.length, onclick: () => ((isAgreed = true), box.close()) },
      button,
      panel.price,
    );
    const box = dialog(title, h("div", { class: "agree" }, panel.element, h("p", { class: "buttons" }, go)), { onclose: () => resolve(isAgreed) });
    go.focus();
  });
}

class Panel {
  constructor() {
    this.summary = h("div", { class: "plan-summary", role: "status" }, h("p", { class: "hint" }, "Asking who can make it…"));
    this.rest = h("div", { class: "plan-rest" });
    this.price = h("span", { class: "price" });
    this.element = h("section", { class: "plan", "aria-label": "Plan and price" }, this.summary, this.rest);
    this.latest = 0;
  }

  async ask(body, operation = "generate") {
    const turn = ++this.latest;
    const isDrawn = operation === "generate";
    this.element.setAttribute("aria-busy", "true");
    try {
      const plan = await call("api/images/plan", { operation, ...body, ...(isDrawn && { prompt: body.prompt || ANYTHING }) });
      if (turn === this.latest) this.show(plan);
      return plan;
    } catch (error) {
      if (turn === this.latest) this.fail(error);
      return null;
    } finally {
      if (turn === this.latest) this.element.removeAttribute("aria-busy");
    }
  }

  show(plan) {
    const [first, ...others] = plan.candidates;
    this.element.classList.toggle("stuck", !first);
    this.price.textContent = first ? money(first.price_usd) : "";
    this.say(first ? headlineOf(first) : [h("p", { class: "plan-nobody" }, "Nobody can make this as it stands.")]);
    this.rest.replaceChildren(
      ...[
        first?.ignored_fields?.length > 0 && h("p", { class: "hint" }, `It does not heed: ${listOf(first.ignored_fields)}.`),
        others.length > 0 && thenList(others),
        plan.rejections.length > 0 && whyNot(plan.rejections, !first),
      ].filter(Boolean),
    );
  }

  // The region is read out whenever it changes: only what is new is put in.
  say(content) {
    const next = h("div", {}, content);
    if (next.textContent !== this.summary.textContent) this.summary.replaceChildren(...next.childNodes);
  }

  fail(error) {
    this.price.textContent = "";
    this.element.classList.add("stuck");
    this.summary.replaceChildren(problemWords(error));
    this.rest.replaceChildren();
  }
}

function headlineOf(first) {
  return [
    h(
      "p",
      { class: "plan-who" },
      h("b", {}, first.service),
      ` makes it with ${first.model_name ?? first.model} `,
      first.quality === "draft" && h("span", { class: "tag draft" }, "draft"),
    ),
    h("p", { class: first.price_usd === 0 ? "plan-price free" : "plan-price" }, money(first.price_usd)),
  ];
}

function thenList(others) {
  const [next] = others;
  return h(
    "details",
    {},
    h("summary", {}, `If that fails: ${next.service}, ${money(next.price_usd)}${others.length > 1 ? ` and ${others.length - 1} more` : ""}`),
    h("ol", { class: "plan-list" }, others.map((one) => h("li", {}, h("b", {}, `${one.service} · ${one.model_name ?? one.model}`), ` ${money(one.price_usd)}`))),
  );
}

function whyNot(rejections, open) {
  // Who was never meant for this is counted; who could be, once something is done
  // about it, is named, those with the same reason together.
  const meant = rejections.filter(({ reason }) => !/^(cannot do|makes) /.test(reason));
  const rest = rejections.length - meant.length;
  const names = new Map();
  for (const { name, reason } of meant) names.set(reason, [...(names.get(reason) ?? []), name]);
  return h(
    "details",
    { open },
    h("summary", {}, `Why nobody else (${rejections.length})`),
    h(
      "ul",
      { class: "plan-list" },
      [...names].map(([reason, who]) => h("li", {}, h("b", {}, together(who)), ` ${reason}`)),
      rest > 0 && h("li", {}, restWords(rest, rejections.length, open)),
    ),
  );
}

function restWords(rest, all, isNobody) {
  if (isNobody && rest === all) return "No provider on this server does this kind of work.";
  return rest === 1 ? "One other does something else." : `${rest} others do something else.`;
}

function together(names) {
  if (names.length <= MOST_NAMES) return names.join(", ");
  return `${names.slice(0, MOST_NAMES - 1).join(", ")} and ${names.length - MOST_NAMES + 1} more`;
}

function listOf(fields) {
  return fields.map((field) => field.replaceAll("_", " ")).join(", ");
}
