/** The view that works on one picture: repaint, extend, enlarge, cut out, describe. */

import { call, pictureAddress } from "./api.js";
import { campaign } from "./campaign.js";
import { announce, debounced, h, money, on, tell, toast } from "./dom.js";
import { MaskBoard } from "./mask.js";
import { ExtensionBoard } from "./outpaint.js";
import { planPanel } from "./plan.js";
import { altOf } from "./results.js";
import { problemWords, work } from "./work.js";

const TYPES = ["image/png", "image/jpeg", "image/webp"];
const MOST_BYTES = 20_000_000;
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
    this.plan = planPanel();
    this.replan = debounced(450, () => this.ask());
    this.file = h("input", { type: "file", id: "edit-file", accept: TYPES.join(","), class: "file" });
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
    section.append(h("h1", { id: "edit-title" }, "Work on a picture"), this.empty, this.form, this.bench);
  }

  start() {
    this.file.addEventListener("change", () => this.take(this.file.files[0]));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.go();
    });
    this.prompt.addEventListener("input", () => this.replan());
    on("gaia:edit", (image) => this.open(fromRecord(image)));
    on("gaia:campaign", () => this.replan());
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
        h("label", { class: "button primary-look", for: "edit-file" }, "Choose a file"),
        this.file,
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
    this.words = h("div", { class: "field" }, h("label", { for: "edit-prompt" }), this.prompt);
    this.asking = h("div", { class: "field" }, h("label", { for: "edit-question" }, "What do you want to know? (optional)"), this.question);
    this.title = h("h2", {}, "");
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
          h("label", { class: "button small", for: "edit-file" }, "Another file"),
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
    this.empty.hidden = true;
    this.form.hidden = false;
    this.title.textContent = picture.label;
    this.plainStage.replaceChildren(h("img", { class: "plain checks", src: picture.address, alt: picture.label }));
    this.mask.show(picture);
    this.extension.show(picture);
    if (picture.record?.prompt && !this.prompt.value) this.prompt.value = picture.record.prompt;
    announce("The picture is on the table");
    this.replan();
  }

  async take(file) {
    if (!file) return;
    this.file.value = "";
    if (!TYPES.includes(file.type)) return toast("Choose a PNG, JPEG or WebP picture.");
    if (file.size > MOST_BYTES) return toast("Choose a picture of at most 20 MB.");
    try {
      this.open(await fromFile(file));
    } catch {
      toast("This file holds no picture that can be opened.");
    }
  }

  listenForFiles() {
    const isHere = () => !this.section.hidden && !document.querySelector("dialog[open]");
    document.addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files].find((one) => TYPES.includes(one.type));
      if (!file || !isHere()) return;
      event.preventDefault();
      this.take(file);
    });
    this.section.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.section.classList.add("over");
    });
    this.section.addEventListener("dragleave", () => this.section.classList.remove("over"));
    this.section.addEventListener("drop", (event) => {
      event.preventDefault();
      this.section.classList.remove("over");
      this.take(event.dataTransfer.files[0]);
    });
  }

  // -- asking and doing ------------------------------------------------------------------

  /** What is sent; null where something is missing yet. */
  body() {
    const { picture, tool } = this;
    if (!picture) return null;
    const source = picture.record ? { image_id: picture.record.id } : { image_base64: picture.address };
    const common = { ...source, campaign_id: campaign() };
    const prompt = this.prompt.value.trim();
    if (tool === "upscale") return { ...common, upscale_factor: Number(this.factor.querySelector(":checked").value) };
    if (tool === "remove-background") return common;
    if (tool === "describe") return { ...common, question: this.question.value.trim() || undefined };
    if (tool === "outpaint") return this.extension.isEmpty ? null : { ...common, prompt, outpaint: this.extension.value() };
    return this.mask.isEmpty ? null : { ...common, prompt, mask: { image_base64: this.mask.toAddress() } };
  }

  async ask() {
    if (this.section.hidden && !this.picture) return;
    const body = this.body();
    this.plan.element.hidden = !body;
    this.button.disabled = !body;
    if (!body) return;
    const words = TOOLS[this.tool].needsWords ? { prompt: body.prompt || "a picture" } : {};
    await this.plan.ask({ ...body, ...words }, this.tool);
  }

  async go() {
    const body = this.body();
    if (!body) return;
    const { tool, picture } = this;
    const { title, done } = TOOLS[tool];
    if (tool === "describe") return await this.describe(body);
    const factor = body.upscale_factor ? ` ${body.upscale_factor}×` : "";
    await work(`api/images/${tool}`, body, {
      title: title + factor,
      done: done + factor,
      into: this.bench,
      source: picture.record ?? picture,
      isCompared: tool !== "outpaint",
    });
  }

  async describe(body) {
    const card = h("article", { class: "job", tabindex: "-1", "aria-label": "Description" }, h("p", {}, "Looking at it…"));
    this.bench.prepend(card);
    try {
      const answer = await call("api/images/describe", body);
      const use = () => tell("gaia:reuse", { prompt: answer.description });
      card.className = "answer";
      card.replaceChildren(
        h("h3", {}, "What it shows"),
        h("p", { class: "answer-line" }, h("span", {}, answer.service), h("span", {}, answer.model), h("span", { class: "tag" }, money(answer.cost_usd))),
        h("blockquote", { class: "description" }, answer.description),
        h("p", { class: "buttons" }, h("button", { type: "button", onclick: use }, "Use as prompt")),
      );
      announce(answer.description);
      tell("gaia:paid", answer);
    } catch (error) {
      card.className = "job failed";
      card.replaceChildren(problemWords(error));
      announce(`${error.message} ${error.next ?? ""}`);
    }
  }
}

function fromRecord(record) {
  return { record, address: pictureAddress(record), width: record.width, height: record.height, label: altOf(record) };
}

async function fromFile(file) {
  // A phone's photograph may lie on its side: what is shown is what is worked on.
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  bitmap.close();
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return { address, width, height, label: file.name };
}
