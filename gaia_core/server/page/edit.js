/** The view that works on one picture: repaint, extend, enlarge, cut out, describe. */

import { campaign } from "./campaign.js";
import { announce, debounced, h, money, on, tell, toast } from "./dom.js";
import { MaskBoard } from "./mask.js";
import { ExtensionBoard } from "./outpaint.js";
import { fromFile, fromRecord, standIn } from "./pictures.js";
import { planPanel } from "./plan.js";
import { work } from "./work.js";

const TOOLS = {
  inpaint: { name: "Repaint", title: "Repainting", done: "Repainted", needsWords: true },
  outpaint: { name: "Extend", title: "Extending", done: "Extended", needsWords: true },
  upscale: { name: "Enlarge", title: "Enlarging", done: "Enlarged" },
  "remove-background": { name: "Cut out", title: "Removing the background", done: "Without its background" },
  describe: { name: "Describe", title: "Looking at it", done: "Described" },
};
const FACTORS = [2, 4, 8];

/** Mounts this view; main.js calls it once. */
export function mount(section) {
  new Edit(section).start();
}

class Edit {
  constructor(section) {
    this.section = section;
    this.picture = null;
    this.tool = "inpaint";
    this.planned = "";
    this.plan = planPanel();
    this.replan = debounced(450, () => this.ask());
    this.file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "Picture to work on" });
    this.maskStage = h("div", { class: "stage" });
    this.frameStage = h("div", { class: "stage" });
    this.plainStage = h("div", { class: "stage" });
    this.mask = new MaskBoard(this.maskStage, () => this.replan());
    this.extension = new ExtensionBoard(this.frameStage, () => this.replan());
    this.prompt = h("textarea", { id: "edit-prompt", rows: 3, maxlength: 8000 });
    this.question = h("input", { id: "edit-question", type: "text", maxlength: 2000, placeholder: "What do you see?" });
    this.factor = this.factors();
    this.button = h("button", { class: "primary" }, h("span", {}, "Go"), this.plan.price);
    this.bench = h("div", { class: "edit-bench" });
    this.form = this.assemble();
    this.empty = this.welcome();
    section.append(h("h1", { id: "edit-title" }, "Work on a picture"), this.empty, this.form, this.file, this.bench);
  }

  start() {
    this.file.addEventListener("change", () => this.take(this.file.files[0]));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.go();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && this.isHere && this.picture) this.form.requestSubmit();
    });
    this.prompt.addEventListener("input", () => this.replan());
    on("gaia:edit", (image) => this.open(fromRecord(image)));
    on("gaia:campaign", () => this.replan());
    // What was spent may leave less of a budget for the next one.
    for (const event of ["gaia:made", "gaia:paid"]) on(event, () => this.replan((this.planned = "")));
    addEventListener("hashchange", () => this.replan());
    this.listenForFiles();
    this.choose(this.tool);
    this.form.hidden = true;
  }

  // -- parts -----------------------------------------------------------------------------

  welcome() {
    return h(
      "div",
      { class: "empty drop" },
      h("h2", {}, "No picture yet"),
      h("p", {}, "Choose one of yours with its Edit button, drop a file here, or paste one."),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: "primary", onclick: () => this.file.click() }, "Choose a file"),
        h("a", { class: "button", href: "#gallery" }, "Open the gallery"),
      ),
    );
  }

  factors() {
    return h(
      "fieldset",
      { class: "field" },
      h("legend", {}, "How much larger?"),
      h(
        "div",
        { class: "segments" },
        FACTORS.map((factor) =>
          h("label", {}, h("input", { type: "radio", name: "edit-factor", value: factor, checked: factor === 2, onchange: () => this.replan() }), `${factor}×`),
        ),
      ),
    );
  }

  assemble() {
    const tools = Object.entries(TOOLS).map(([id, { name }]) =>
      h("label", {}, h("input", { type: "radio", name: "edit-tool", value: id, checked: id === this.tool, onchange: () => this.choose(id) }), name),
    );
    this.own = h("button", { type: "button", class: "small", onclick: () => this.useOwnWords() }, "Use the words it was made with");
    this.words = h("div", { class: "field" }, h("label", { for: "edit-prompt" }), this.prompt, h("p", { class: "buttons" }, this.own));
    this.asking = h("div", { class: "field" }, h("label", { for: "edit-question" }, "What do you want to know? (optional)"), this.question);
    this.title = h("h2", { tabindex: "-1" }, "");
    this.missing = h("p", { class: "hint missing", id: "edit-missing" });
    return h(
      "form",
      { class: "edit-form", "aria-labelledby": "edit-title" },
      h(
        "div",
        { class: "edit-stage" },
        h(
          "header",
          { class: "edit-head" },
          this.title,
          h("button", { type: "button", class: "small", onclick: () => this.file.click() }, "Another file"),
        ),
        this.maskStage,
        this.frameStage,
        this.plainStage,
      ),
      h(
        "div",
        { class: "edit-tools" },
        h("fieldset", { class: "field" }, h("legend", {}, "What should be done?"), h("div", { class: "segments" }, tools)),
        this.mask.tools,
        this.extension.tools,
        this.words,
        this.factor,
        this.asking,
        this.plan.element,
        this.missing,
        this.button,
      ),
    );
  }

  // -- choosing --------------------------------------------------------------------------

  choose(tool) {
    this.tool = tool;
    const parts = {
      inpaint: [this.maskStage, this.mask.tools, this.words],
      outpaint: [this.frameStage, this.extension.tools, this.words],
      upscale: [this.plainStage, this.factor],
      "remove-background": [this.plainStage],
      describe: [this.plainStage, this.asking],
    };
    for (const part of Object.values(parts).flat()) part.hidden = !parts[tool].includes(part);
    this.words.querySelector("label").textContent =
      tool === "inpaint" ? "What should be there instead?" : "What is there beyond the picture?";
    this.prompt.required = Boolean(TOOLS[tool].needsWords);
    this.button.firstElementChild.textContent = TOOLS[tool].name;
    this.replan();
  }

  open(picture) {
    this.picture = picture;
    this.planned = "";
    this.empty.hidden = true;
    this.form.hidden = false;
    this.own.hidden = !picture.record?.prompt;
    this.title.textContent = picture.label;
    this.plainStage.replaceChildren(h("img", { class: "plain checks", src: picture.address, alt: picture.label }));
    this.mask.show(picture);
    this.extension.show(picture);
    announce("The picture is on the table");
    // The view may be about to be shown; what is hidden takes no focus.
    if (this.section.hidden) addEventListener("hashchange", () => this.arrive(), { once: true });
    else this.arrive();
    this.replan();
  }

  // Also from a result far down the page, which is then worked on further.
  arrive() {
    this.title.focus({ preventScroll: true });
    this.form.scrollIntoView({ block: "start" });
  }

  useOwnWords() {
    this.prompt.value = this.picture.record.prompt;
    this.prompt.focus();
    this.replan();
  }

  async take(file) {
    if (!file) return;
    this.file.value = "";
    try {
      const picture = await fromFile(file);
      this.open(picture);
      if (picture.isShrunk) toast(`It was too large, and was made ${picture.width} × ${picture.height}.`);
    } catch {
      toast("This file holds no picture that can be opened.");
    }
  }

  get isHere() {
    return !this.section.hidden && !document.querySelector("dialog[open]");
  }

  listenForFiles() {
    document.addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
      if (!file || !this.isHere) return;
      event.preventDefault();
      this.take(file);
    });
    // Anywhere on the page: a file dropped beside its place would replace the page.
    document.addEventListener("dragover", (event) => {
      if (!this.isHere || !event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      this.section.classList.add("over");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) this.section.classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
      this.section.classList.remove("over");
      if (!this.isHere || event.dataTransfer.files.length === 0) return;
      event.preventDefault();
      this.take(event.dataTransfer.files[0]);
    });
  }

  // -- asking and doing ------------------------------------------------------------------

  /** Say what is still to be done before anything can be sent; empty if nothing is. */
  get lack() {
    if (this.tool === "inpaint" && this.mask.isEmpty) return "Paint over what should change.";
    if (this.tool === "outpaint" && this.extension.isEmpty) return "Say how far it should go on, on any side.";
    return "";
  }

  /** The fields of the request beside its pictures. */
  fields() {
    const campaign_id = campaign();
    if (this.tool === "upscale") return { campaign_id, upscale_factor: Number(this.factor.querySelector(":checked").value) };
    if (this.tool === "remove-background") return { campaign_id };
    if (this.tool === "describe") return { campaign_id, question: this.question.value.trim() || undefined };
    const prompt = this.prompt.value.trim();
    if (this.tool === "outpaint") return { campaign_id, prompt, outpaint: this.extension.value() };
    return { campaign_id, prompt };
  }

  async ask() {
    if (!this.picture || this.section.hidden) return;
    const { picture, tool, lack } = this;
    this.plan.element.hidden = this.plan.price.hidden = lack !== "";
    this.missing.textContent = lack;
    this.missing.hidden = lack === "";
    this.button.disabled = lack !== "";
    if (lack) return;
    const fields = { ...this.fields(), ...(TOOLS[tool].needsWords && { prompt: this.fields().prompt || "a picture" }) };
    const wanted = JSON.stringify([tool, picture.record?.id, picture.width, picture.height, fields]);
    if (wanted === this.planned) return;
    this.planned = wanted;
    const body = { ...fields, ...(picture.record ? await picture.source() : { image_base64: await standIn(picture) }) };
    if (tool === "inpaint") body.mask = { image_base64: await standIn(picture) };
    const plan = await this.plan.ask(body, tool);
    if (!plan && this.planned === wanted) this.planned = "";
  }

  async go() {
    const { tool, picture, lack } = this;
    if (!picture || lack) return;
    const { title, done } = TOOLS[tool];
    const fields = this.fields();
    const factor = fields.upscale_factor ? ` ${fields.upscale_factor}×` : "";
    const [source, mask] = await Promise.all([picture.source(), tool === "inpaint" && this.mask.toAddress()]);
    await work(`api/images/${tool}`, { ...fields, ...source, ...(mask && { mask: { image_base64: mask } }) }, {
      title: title + factor,
      done: done + factor,
      into: this.bench,
      source: picture.record ?? picture,
      isCompared: tool !== "outpaint",
      ...(tool === "describe" && { card: described }),
    });
  }
}

function described(answer) {
  const use = () => tell("gaia:reuse", { prompt: answer.description });
  announce(answer.description);
  return h(
    "article",
    { class: "answer", tabindex: "-1", "aria-label": "What it shows" },
    h("h3", {}, "What it shows"),
    h("p", { class: "answer-line" }, h("span", {}, [answer.service, answer.model].join(" · ")), h("span", { class: answer.cost_usd === 0 ? "tag free" : "tag" }, money(answer.cost_usd))),
    h("blockquote", { class: "description" }, answer.description),
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: use }, "Use as prompt")),
  );
}
