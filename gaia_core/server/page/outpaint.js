/** A picture in a larger frame: how far it is extended on each side. */

import { announce, debounced, h } from "./dom.js";

const SIDES = ["left", "right", "top", "bottom"];
const STEP = 64;
const LONGEST = 8192;

/** The frame to extend a picture to, by fields, by handles, by shapes. */
export class ExtensionBoard {
  /**
   * @param {HTMLElement} stage Where the picture is shown.
   * @param {() => void} onChange Called when the frame is another one.
   */
  constructor(stage, onChange) {
    this.onChange = onChange;
    this.say = debounced(600, () => announce(this.result.textContent));
    this.picture = h("img", { alt: "", draggable: "false" });
    this.frame = h("div", { class: "frame" }, this.picture, SIDES.map((side) => this.handle(side)));
    stage.append(h("div", { class: "frame-stage" }, this.frame));
    this.fields = Object.fromEntries(
      SIDES.map((side) => [side, h("input", { type: "number", name: `extend-${side}`, min: 0, max: LONGEST, value: 0, form: "", oninput: () => this.moved(), onkeydown: (event) => this.press(event, side) })]),
    );
    this.result = h("p", { class: "hint" });
    this.tools = h(
      "div",
      { class: "extend-tools" },
      h(
        "div",
        { class: "box-fields" },
        SIDES.map((side) => h("label", {}, h("span", {}, side[0].toUpperCase() + side.slice(1)), this.fields[side])),
      ),
      h(
        "div",
        { class: "buttons" },
        this.shape("Wider, to 16:9", 16 / 9),
        this.shape("Taller, to 2:3", 2 / 3),
        this.shape("To a square", 1),
        h("button", { type: "button", class: "small", onclick: () => this.reset() }, "Reset"),
      ),
      this.result,
    );
  }

  /** Show another picture, in a frame of its own size. */
  show({ address, width, height, label }) {
    this.picture.src = address;
    this.picture.alt = label;
    this.width = width;
    this.height = height;
    this.put({ left: 0, right: 0, top: 0, bottom: 0 });
  }

  reset() {
    this.put({ left: 0, right: 0, top: 0, bottom: 0 });
    this.say();
  }

  /** Pixels to add on each side. */
  value() {
    return Object.fromEntries(SIDES.map((side) => [side, clipped(Number(this.fields[side].value) || 0)]));
  }

  /** Whether nothing is added. */
  get isEmpty() {
    return Object.values(this.value()).every((one) => one === 0);
  }

  put(sides) {
    for (const [side, value] of Object.entries(sides)) this.fields[side].value = clipped(value);
    this.changed();
  }

  // By a person: whoever does not see the frame hears how large it is now.
  moved() {
    this.changed();
    this.say();
  }

  // A pixel by the arrows, as many at once as a handle moves by the keys for pages.
  press(event, side) {
    const steps = { PageUp: STEP, PageDown: -STEP }[event.key];
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) event.preventDefault();
    if (!steps) return;
    event.preventDefault();
    this.put({ [side]: this.value()[side] + steps });
    this.say();
  }

  changed() {
    const { left, right, top, bottom } = this.value();
    const [width, height] = [this.width + left + right, this.height + top + bottom];
    const share = (part, whole) => `${(100 * part) / whole}%`;
    // The picture keeps its place in the frame, whatever size the frame is shown in.
    this.frame.style.aspectRatio = `${width} / ${height}`;
    this.frame.style.setProperty("--tall", String(width / height));
    Object.assign(this.picture.style, {
      left: share(left, width),
      top: share(top, height),
      width: share(this.width, width),
      height: share(this.height, height),
    });
    this.result.textContent = this.isEmpty
      ? `${width} × ${height} now.`
      : `${this.width} × ${this.height} becomes ${width} × ${height}.`;
    this.onChange();
  }

  // Added equally on both sides, in steps that models like.
  shape(text, ratio) {
    const grow = () => {
      const width = Math.max(this.width, Math.round((this.height * ratio) / 8) * 8);
      const height = Math.max(this.height, Math.round(this.width / ratio / 8) * 8);
      const [across, down] = [width - this.width, height - this.height];
      const half = (one) => Math.round(one / 16) * 8;
      this.put({ left: half(across), right: across - half(across), top: half(down), bottom: down - half(down) });
      this.say();
    };
    return h("button", { type: "button", class: "small", onclick: grow }, text);
  }

  // Handles are for pointers; the fields say the same to the keyboard.
  handle(side) {
    const grip = h("span", { class: `grip grip-${side}`, "aria-hidden": "true" });
    let from = null;
    grip.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      grip.setPointerCapture(event.pointerId);
      const { left, right } = this.value();
      const scale = (this.width + left + right) / this.frame.getBoundingClientRect().width;
      from = { x: event.clientX, y: event.clientY, value: Number(this.fields[side].value), scale };
    });
    grip.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [across, down] = [event.clientX - from.x, event.clientY - from.y];
      const moved = { left: -across, right: across, top: -down, bottom: down }[side] * from.scale;
      this.put({ [side]: Math.round((from.value + moved) / STEP) * STEP });
      this.say();
    });
    const lift = () => (from = null);
    grip.addEventListener("pointerup", lift);
    grip.addEventListener("pointercancel", lift);
    return grip;
  }
}

function clipped(value) {
  return Math.min(LONGEST, Math.max(0, Math.round(value)));
}
