/** Who makes it: every model of every provider, its price, and why it cannot work. */

import { call } from "./api.js";
import { dialog, h, money, tell } from "./dom.js";
import { problemWords } from "./work.js";

const ANYBODY = { provider: undefined, model: undefined };

/** Make the field that says who makes it, and opens the list. */
export function modelPicker() {
  const picker = new Picker();
  return {
    element: picker.element,
    load: () => picker.load(),
    value: () => ({ ...picker.chosen }),
    take: (settings) => settings.prompt && settings.n && picker.choose({ provider: settings.provider, model: settings.model }),
  };
}

class Picker {
  constructor() {
    this.chosen = ANYBODY;
    this.models = [];
    this.providers = [];
    this.name = h("span", { class: "picker-name" }, "Whoever is best placed");
    this.note = h("span", { class: "picker-note" }, "the plan says who");
    this.trouble = h("div", {});
    this.button = h(
      "button",
      { type: "button", id: "model-button", class: "picker", "aria-haspopup": "dialog", "aria-labelledby": "model-label model-button", onclick: () => this.open() },
      this.name,
      this.note,
    );
    this.element = h("div", { class: "field" }, h("span", { class: "label", id: "model-label" }, "Who makes it?"), this.button, this.trouble);
  }

  async load() {
    try {
      const answer = await call("api/images/models");
      this.models = answer.models;
      this.providers = answer.providers ?? [];
      this.trouble.replaceChildren();
      tell("gaia:models", answer);
    } catch (error) {
      this.trouble.replaceChildren(
        problemWords(error),
        h("button", { type: "button", class: "small", onclick: () => this.load() }, "Load the models again"),
      );
    }
  }

  choose(who) {
    this.chosen = who;
    const model = this.models.find((one) => one.provider === who.provider && one.id === who.model);
    const provider = this.providers.find((one) => one.name === who.provider);
    this.name.textContent = model?.name ?? who.model ?? provider?.service ?? "Whoever is best placed";
    this.note.textContent = model ? `${model.service} · ${priceOf(model)}` : who.provider ? "its own choice of model" : "the plan says who";
    this.button.dispatchEvent(new Event("input", { bubbles: true }));
  }

  open() {
    const list = h("div", { class: "model-list" });
    const search = h("input", { type: "search", "aria-label": "Search models", placeholder: "Search models and providers" });
    const show = () => list.replaceChildren(...this.groups(search.value.trim().toLowerCase()));
    search.addEventListener("input", show);
    show();
    const box = dialog("Who makes it?", h("div", { class: "model-dialog" }, search, list), { size: "middle", onclose: () => this.button.focus() });
    list.addEventListener("change", () => this.choose(this.read(list)));
    // A click or Enter on a choice is all it takes; arrow keys only look around.
    list.addEventListener("click", (event) => event.target.closest("label") && event.detail > 0 && box.close());
    list.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.target.matches("input")) return;
      // Otherwise the same key would press the button that has the focus next.
      event.preventDefault();
      box.close();
    });
    (list.querySelector("input:checked") ?? search).focus();
  }

  read(list) {
    const [provider, model] = JSON.parse(list.querySelector("input:checked").value);
    return { provider: provider ?? undefined, model: model ?? undefined };
  }

  groups(words) {
    const isMeant = (one) => `${one.name} ${one.id} ${one.service} ${one.creator ?? ""}`.toLowerCase().includes(words);
    const drawing = this.models.filter((one) => one.capabilities.includes("text-to-image") && isMeant(one));
    const all = [...this.providers.map((one) => one.name), ...drawing.map((one) => one.provider)];
    const isOff = (name) => Boolean(this.providers.find((one) => one.name === name)?.unavailable);
    const names = [...new Set(all)].sort((one, other) => isOff(one) - isOff(other));
    const groups = names.map((name) => this.group(name, drawing.filter((one) => one.provider === name), words));
    const found = groups.filter(Boolean);
    return [
      !words && choice({ who: ANYBODY, name: "Whoever is best placed", note: "In the server's order; the plan says who.", isChosen: !this.chosen.provider }),
      ...found,
      found.length === 0 && h("p", { class: "hint" }, "No model is called that."),
    ].filter(Boolean);
  }

  group(name, models, words) {
    const provider = this.providers.find((one) => one.name === name);
    if (models.length === 0 && (words || !provider?.unavailable)) return null;
    const title = provider?.service ?? name;
    const isOff = Boolean(provider?.unavailable);
    const choices = models.map((one) =>
      choice({
        who: { provider: one.provider, model: one.id },
        name: one.name,
        note: one.id,
        tags: tagsOf(one),
        reason: isOff ? "" : one.unavailable,
        isOff: isOff || Boolean(one.unavailable),
        isChosen: this.chosen.provider === one.provider && this.chosen.model === one.id,
      }),
    );
    const count = `${models.length} ${models.length === 1 ? "model" : "models"}`;
    return h(
      "fieldset",
      { class: isOff ? "provider off" : "provider" },
      h("legend", {}, title, isOff && h("span", { class: "tag warn" }, "not available")),
      isOff && h("p", { class: "reason" }, provider.unavailable),
      isOff && models.length > 0
        ? h("details", { open: Boolean(words) }, h("summary", {}, count), h("div", { class: "provider" }, choices))
        : choices,
    );
  }
}

function choice({ who, name, note, tags = [], reason, isOff = false, isChosen }) {
  return h(
    "label",
    { class: isOff ? "choice off" : "choice" },
    h("input", { type: "radio", name: "model-choice", value: JSON.stringify([who.provider ?? null, who.model ?? null]), checked: isChosen, disabled: isOff }),
    h("span", { class: "choice-text" }, h("b", {}, name), h("small", {}, note), reason && h("small", { class: "reason" }, reason)),
    h("span", { class: "choice-tags" }, tags),
  );
}

function tagsOf(model) {
  const isFree = model.estimated_cost === 0;
  return [
    h("span", { class: model.quality === "draft" ? "tag draft" : "tag" }, model.quality.replace("_", " ")),
    h("span", { class: isFree ? "tag free" : "tag" }, priceOf(model)),
  ];
}

function priceOf(model) {
  const price = money(model.estimated_cost);
  return model.estimated_cost ? `about ${price}` : price;
}
