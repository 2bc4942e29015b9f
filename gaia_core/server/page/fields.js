/**
 * The fields of the form, one function each.
 *
 * Each gives its `element`, a `value()` to send, and `take(settings)` where another
 * picture's settings can be taken over.
 */

import { h, kept } from "./dom.js";

const STYLES = [
  ["", "None"],
  ["fantasy art", "Fantasy art"],
  ["dark fantasy", "Dark fantasy"],
  ["oil painting", "Oil painting"],
  ["watercolour", "Watercolour"],
  ["ink drawing", "Ink"],
  ["comic", "Comic"],
  ["pixel art", "Pixel art"],
  ["photograph", "Photo"],
];
const SIZES = [
  ["Square", 1024, 1024],
  ["Portrait", 832, 1216],
  ["Landscape", 1216, 832],
  ["Banner", 1536, 768],
  ["Token", 512, 512],
];
const SHORTEST = 16;
const LONGEST = 8192;
const MOST_IMAGES = 8;

/** A row of radio buttons; each choice is [value, content]. */
function segments(name, legend, choices, chosen) {
  return h(
    "fieldset",
    { class: "field" },
    h("legend", {}, legend),
    h(
      "div",
      { class: "segments" },
      choices.map(([value, ...content]) =>
        h("label", {}, h("input", { type: "radio", name, value, checked: value === chosen }), content),
      ),
    ),
  );
}

function chosenOf(fieldset) {
  return fieldset.querySelector("input:checked").value;
}

function choose(fieldset, value) {
  const input = [...fieldset.querySelectorAll('input[type="radio"]')].find((one) => one.value === value);
  if (input) input.checked = true;
  return Boolean(input);
}

/** The art style, one of ours or in own words. */
export function styleField() {
  const last = kept.get("style", "fantasy art");
  const other = h("input", { type: "text", maxlength: 255, "aria-label": "Own style", placeholder: "stained glass", hidden: true });
  const element = segments("style", "Style", [...STYLES, ["other", "Other…"]], "");
  element.append(other);
  const showOther = () => (other.hidden = chosenOf(element) !== "other");
  const take = (style) => {
    if (!choose(element, style)) {
      choose(element, "other");
      other.value = style;
    }
    showOther();
  };
  element.addEventListener("change", showOther);
  // Whoever moves by arrow keys only passes by; whoever points at it wants to write.
  element.addEventListener("click", (event) => {
    if (event.target.value === "other" && event.detail > 0) other.focus();
  });
  take(last === "none" ? "" : last);
  return {
    element,
    value: () => ({ style: chosenOf(element) === "other" ? other.value.trim() : chosenOf(element) }),
    take: (settings) => settings.style !== undefined && take(settings.style),
  };
}

/** The size: a shape of ours or two numbers. */
export function sizeField() {
  const side = (name, label) =>
    h("label", { class: "side" }, h("span", {}, label), h("input", { type: "number", name, min: SHORTEST, max: LONGEST, required: true, value: 1024 }));
  const width = side("width", "Width");
  const height = side("height", "Height");
  const [across, down] = [width, height].map((label) => label.querySelector("input"));
  const own = h("div", { class: "own-size" }, width, h("span", { "aria-hidden": "true" }, "×"), height, h("span", { class: "hint" }, "pixels"));
  const choices = SIZES.map(([name, w, tall]) => [`${w}x${tall}`, shape(w, tall), h("span", {}, name), h("small", {}, `${w} × ${tall}`)]);
  const element = segments("size", "Shape", [...choices, ["own", "Custom…"]], "1024x1024");
  element.classList.add("shapes");
  element.append(own);
  const showOwn = () => {
    own.hidden = chosenOf(element) !== "own";
    // What is not shown must not hold the form up.
    across.disabled = down.disabled = own.hidden;
  };
  const take = (size) => {
    if (!choose(element, size)) {
      choose(element, "own");
      [across.value, down.value] = size.split("x");
    }
    showOwn();
  };
  element.addEventListener("change", showOwn);
  take(/^\d+x\d+$/.test(kept.get("size")) ? kept.get("size") : "1024x1024");
  return {
    element,
    value() {
      const [w, tall] = own.hidden ? chosenOf(element).split("x") : [across.value, down.value];
      return { width: Number(w), height: Number(tall) };
    },
    take: (settings) => settings.width && settings.height && take(`${settings.width}x${settings.height}`),
  };
}

function shape(width, height) {
  const scale = 16 / Math.max(width, height);
  const [w, tall] = [width * scale, height * scale];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const places = { x: (20 - w) / 2, y: (20 - tall) / 2, width: w, height: tall, rx: 1.5 };
  for (const [name, value] of Object.entries(places)) box.setAttribute(name, value);
  svg.append(box);
  return svg;
}

/** How many pictures. */
export function countField() {
  const input = h("input", { id: "count", type: "number", name: "n", min: 1, max: MOST_IMAGES, required: true, value: 1 });
  const step = (by) => {
    input.value = Math.min(MOST_IMAGES, Math.max(1, Number(input.value) + by));
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const button = (text, label, by) => h("button", { type: "button", "aria-label": label, onclick: () => step(by) }, text);
  return {
    element: h(
      "div",
      { class: "field" },
      h("label", { for: "count" }, "How many?"),
      h("div", { class: "stepper" }, button("−", "One fewer", -1), input, button("+", "One more", 1)),
    ),
    value: () => ({ n: Number(input.value) }),
    take: (settings) => settings.n && (input.value = settings.n),
  };
}

/** The seed; empty: another one each time. */
export function seedField() {
  const input = h("input", { id: "seed", name: "seed", type: "text", inputmode: "numeric", pattern: "[0-9]{1,19}", title: "A whole number, or nothing", placeholder: "random" });
  const clear = () => {
    input.value = "";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.focus();
  };
  return {
    element: h(
      "div",
      { class: "field" },
      h("label", { for: "seed" }, "Seed"),
      h("div", { class: "with-button" }, input, h("button", { type: "button", "aria-label": "Random seed", title: "Random seed", onclick: clear }, "⚄")),
    ),
    // As text: it may have more digits than a number here can hold.
    value: () => ({ seed: input.value.trim() }),
    take(settings) {
      if (settings.seed !== undefined) input.value = settings.seed ?? "";
    },
  };
}

/** What few people change: steps, guidance, who comes first, the ceiling. */
export function advancedField() {
  const number = (name, label, hint, limits) =>
    h(
      "div",
      { class: "field" },
      h("label", { for: name }, label),
      h("input", { id: name, name, type: "number", inputmode: "decimal", placeholder: "as the model does", "aria-describedby": `${name}-hint`, ...limits }),
      h("p", { id: `${name}-hint`, class: "hint" }, hint),
    );
  const element = h(
    "div",
    { class: "advanced-grid" },
    number("num_inference_steps", "Steps", "More takes longer and may cost more.", { min: 1, max: 500 }),
    number("guidance_scale", "Guidance", "How closely it follows your words.", { min: 0, max: 100, step: "any" }),
    h(
      "div",
      { class: "field" },
      h("label", { for: "policy" }, "Prefer"),
      h(
        "select",
        { id: "policy", name: "policy" },
        h("option", { value: "" }, "as the server does"),
        h("option", { value: "priority" }, "the server's order"),
        h("option", { value: "cheapest" }, "the cheapest"),
        h("option", { value: "fastest" }, "the fastest"),
        h("option", { value: "best" }, "the best"),
      ),
      h("p", { class: "hint" }, "Who is asked first."),
    ),
    number("max_cost_usd", "At most, in US dollars", "Whoever costs more is not asked.", { min: 0, step: "any", placeholder: "no ceiling" }),
  );
  const controls = [...element.querySelectorAll("input, select")];
  return {
    element,
    value: () => Object.fromEntries(controls.map((one) => [one.name, one.value && one.type === "number" ? Number(one.value) : one.value])),
    take(settings) {
      for (const one of controls) if (settings[one.name] !== undefined) one.value = settings[one.name];
    },
  };
}
