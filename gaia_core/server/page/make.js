/** The view that makes pictures: what to draw, how, by whom, for how much. */

import { bench } from "./results.js";
import { campaign } from "./campaign.js";
import { debounced, h, kept, on, toast } from "./dom.js";
import { enhancer } from "./enhance.js";
import { advancedField, countField, seedField, sizeField, styleField } from "./fields.js";
import { modelPicker } from "./models.js";
import { planPanel } from "./plan.js";
import { work } from "./work.js";

const IDEAS = [
  "a red dragon asleep on a hoard of gold",
  "map of a goblin cave with an underground river",
  "a potion of healing in a glass flask",
  "a dwarven war hammer with glowing runes",
];
const MOST = 8000;
const DRAFT = "gaia.draft";

/** Mounts this view; main.js calls it once. */
export function mount(section) {
  const make = new Make();
  section.append(
    make.form,
    h(
      "div",
      { class: "bench-column" },
      h("h2", { class: "bench-title" }, "On the table"),
      h("div", { id: "bench" }),
      emptyBench((idea) => make.take({ prompt: idea })),
    ),
  );
  make.start();
}

class Make {
  constructor() {
    this.prompt = h("textarea", {
      id: "prompt",
      name: "prompt",
      required: true,
      maxlength: MOST,
      rows: 4,
      placeholder: "A lighthouse on a cliff in a storm, a green light in its lamp room",
      "aria-describedby": "prompt-hint",
    });
    this.negative = h("textarea", { id: "negative", name: "negative_prompt", rows: 1, maxlength: MOST, class: "short" });
    this.style = styleField();
    this.size = sizeField();
    this.count = countField();
    this.seed = seedField();
    this.advanced = advancedField();
    this.model = modelPicker();
    this.plan = planPanel();
    this.button = h(
      "button",
      { class: "primary make-button", "aria-keyshortcuts": "Control+Enter" },
      h("span", {}, "Make"),
      this.plan.price,
    );
    this.form = this.assemble();
    this.replan = debounced(350, () => this.plan.ask(this.body()));
  }

  assemble() {
    return h(
      "form",
      { class: "make-form", autocomplete: "off", "aria-labelledby": "make-title" },
      h("h1", { id: "make-title" }, "Make a picture"),
      h(
        "div",
        { class: "field" },
        h("label", { for: "prompt" }, "What should it show?"),
        this.prompt,
        h(
          "div",
          { class: "prompt-line" },
          h("p", { id: "prompt-hint", class: "hint" }, h("kbd", {}, "Ctrl"), " + ", h("kbd", {}, "Enter"), " makes it"),
          enhancer(this.prompt),
        ),
      ),
      this.style.element,
      this.size.element,
      h("div", { class: "pair" }, this.count.element, this.seed.element),
      this.model.element,
      h(
        "details",
        { class: "advanced" },
        h("summary", {}, "More settings"),
        h(
          "div",
          { class: "advanced-body" },
          h("div", { class: "field" }, h("label", { for: "negative" }, "What should it not show?"), this.negative),
          this.advanced.element,
        ),
      ),
      h("div", { class: "till" }, this.plan.element, this.button),
    );
  }

  start() {
    this.form.addEventListener("input", () => this.replan());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.make();
    });
    // A field that is wrong and folded away could not be shown to be wrong.
    this.form.addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), true);
    document.addEventListener("keydown", (event) => {
      const isAsked = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      const isHere = !this.form.parentElement.hidden && !document.querySelector("dialog[open]");
      if (isAsked && isHere) this.form.requestSubmit();
    });
    on("gaia:reuse", (settings) => this.take(settings));
    on("gaia:campaign", () => this.replan());
    this.keepDraft();
    this.model.load();
    this.plan.ask(this.body());
  }

  // A reload, or the way to another page and back, loses no words.
  keepDraft() {
    this.prompt.value ||= sessionStorage.getItem(DRAFT) ?? "";
    this.form.addEventListener("input", () => sessionStorage.setItem(DRAFT, this.prompt.value));
  }

  /** What is sent: only what was said, so that the server's defaults hold. */
  body() {
    const said = {
      prompt: this.prompt.value.trim(),
      negative_prompt: this.negative.value.trim(),
      campaign_id: campaign(),
      ...this.style.value(),
      ...this.size.value(),
      ...this.count.value(),
      ...this.seed.value(),
      ...this.model.value(),
      ...this.advanced.value(),
    };
    return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined && value !== ""));
  }

  make() {
    const body = this.body();
    kept.set("style", body.style ?? "none");
    kept.set("size", `${body.width}x${body.height}`);
    return work("api/images/generate", body, { title: body.prompt, into: bench(), settings: { ...body, style: body.style ?? "" } });
  }

  /** Take settings over, for example those of a picture. */
  take(settings) {
    if (settings.prompt !== undefined) this.prompt.value = settings.prompt;
    if (settings.negative_prompt !== undefined) this.negative.value = settings.negative_prompt;
    for (const part of [this.style, this.size, this.count, this.seed, this.model, this.advanced]) {
      part.take?.(settings);
    }
    this.prompt.focus();
    if (settings.seed !== undefined) toast(`Seed ${settings.seed} is set.`);
    this.replan();
  }
}

function emptyBench(use) {
  return h(
    "div",
    { class: "empty" },
    h("h3", {}, "Nothing made yet"),
    h("p", {}, "Say what your players should see. The plan below the form tells who will draw it and for how much, before anything is paid."),
    h(
      "ul",
      { class: "ideas", "aria-label": "Ideas" },
      IDEAS.map((idea) => h("li", {}, h("button", { type: "button", class: "quiet", onclick: () => use(idea) }, idea))),
    ),
  );
}
