/** A brush over a picture: what is painted is the region to repaint. */

import { announce, h } from "./dom.js";
import { drawn, encoded } from "./pictures.js";

const SMALLEST = 4;
const LARGEST = 400;
const STEP = 1.25;
// Only on screen; what is sent is white on black.
const PAINT = "#e5408f";
// However large the picture is, no more than this is painted while somebody looks.
const MOST_SHOWN = 1600;

/**
 * A picture with a mask over it, of the picture's real size.
 *
 * What was done is kept as a list of strokes, boxes, and turns inside out, so that
 * every one of them can be taken back. It is painted in the picture's own size only
 * when it is sent; on screen it is as large as a screen.
 */
export class MaskBoard {
  /**
   * @param {HTMLElement} stage Where the picture is shown.
   * @param {() => void} onChange Called when the mask is another one.
   */
  constructor(stage, onChange) {
    this.onChange = onChange;
    this.done = [];
    this.undone = [];
    this.filled = false;
    this.stroke = null;
    this.isErasing = false;
    this.size = 60;
    this.full = { width: 1, height: 1 };
    this.picture = h("img", { alt: "", draggable: "false" });
    this.canvas = h("canvas", {
      class: "mask",
      tabindex: "0",
      role: "img",
      "aria-label": "The region to repaint. Paint with the pointer, or use the fields for a box.",
      "aria-keyshortcuts": "[ ] E Control+Z Control+Y",
    });
    this.cursor = h("span", { class: "brush", hidden: true });
    stage.append(h("div", { class: "board checks" }, this.picture, this.canvas, this.cursor));
    this.tools = this.makeTools();
    this.listen();
  }

  /** Show another picture; its mask is empty. */
  show({ address, width, height, label }) {
    this.picture.src = address;
    this.picture.alt = label;
    this.full = { width, height };
    const scale = Math.min(1, MOST_SHOWN / Math.max(width, height));
    this.canvas.width = Math.max(1, Math.round(width * scale));
    this.canvas.height = Math.max(1, Math.round(height * scale));
    this.size = Math.round(Math.max(SMALLEST, Math.min(width, height) / 10));
    this.slider.max = Math.max(LARGEST, Math.round(Math.min(width, height) / 2));
    for (const [name, value] of Object.entries({ left: 0, top: 0, width, height })) {
      this.box[name].max = name === "width" || name === "left" ? width : height;
      this.box[name].value = value;
    }
    this.done = [];
    this.undone = [];
    this.filled = false;
    this.stroke = null;
    this.resize(this.size);
    this.changed();
  }

  /** Whether anything is painted. */
  get isEmpty() {
    // Looked at only where strokes cannot tell: after something was taken away.
    this.filled ??= this.hasPaint();
    return !this.filled;
  }

  hasPaint() {
    const { width, height } = this.canvas;
    const { data } = this.pen().getImageData(0, 0, width, height);
    for (let place = 3; place < data.length; place += 4) if (data[place]) return true;
    return false;
  }

  /** Give the mask as a PNG of the picture's size: white is repainted. */
  async toAddress() {
    const { width, height } = this.full;
    const sheet = await drawn(this.full, "image/png", (pen) => {
      for (const step of this.done) drawStep(pen, step, this.full);
      pen.globalCompositeOperation = "source-in";
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, width, height);
      pen.globalCompositeOperation = "destination-over";
      pen.fillStyle = "#000";
      pen.fillRect(0, 0, width, height);
    });
    return await encoded(sheet);
  }

  // -- tools ---------------------------------------------------------------------------

  makeTools() {
    const button = (text, label, onclick) => h("button", { type: "button", class: "small", "aria-label": label, onclick }, text);
    this.slider = h("input", { type: "range", id: "brush-size", min: SMALLEST, max: LARGEST, value: this.size, oninput: () => this.resize(Number(this.slider.value)) });
    this.eraser = h("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => this.erase(!this.isErasing) }, "Erase");
    this.undoButton = button("Undo", "Undo", () => this.undo());
    this.redoButton = button("Redo", "Redo", () => this.redo());
    this.box = Object.fromEntries(
      ["left", "top", "width", "height"].map((name) => [name, h("input", { type: "number", min: name === "left" || name === "top" ? 0 : 1, value: 0, required: true, form: "", name: `box-${name}`, onkeydown: (event) => this.enter(event) })]),
    );
    return h(
      "div",
      { class: "brush-tools" },
      h("div", { class: "field" }, h("label", { for: "brush-size" }, "Brush"), this.slider),
      h(
        "div",
        { class: "buttons" },
        this.eraser,
        this.undoButton,
        this.redoButton,
        button("Turn inside out", "Turn the mask inside out", () => this.add({ kind: "invert" })),
        button("Clear", "Clear the mask", () => this.add({ kind: "clear" })),
      ),
      h("p", { class: "hint keys" }, h("kbd", {}, "["), " ", h("kbd", {}, "]"), " size, ", h("kbd", {}, "E"), " erase, ", h("kbd", {}, "Ctrl"), " + ", h("kbd", {}, "Z"), " undo"),
      h(
        "details",
        { class: "box-tools" },
        h("summary", {}, "Mark a box by numbers"),
        h(
          "div",
          { class: "box-fields" },
          Object.entries(this.box).map(([name, input]) => h("label", {}, h("span", {}, name[0].toUpperCase() + name.slice(1)), input)),
        ),
        h("div", { class: "buttons" }, button("Mark it", "Mark the box", () => this.mark(false)), button("Erase it", "Erase the box", () => this.mark(true))),
      ),
    );
  }

  resize(size) {
    this.size = Math.round(Math.min(Number(this.slider.max), Math.max(SMALLEST, size)));
    this.slider.value = this.size;
    this.slider.setAttribute("aria-valuetext", `${this.size} pixels`);
  }

  erase(isErasing) {
    this.isErasing = isErasing;
    this.eraser.setAttribute("aria-pressed", String(isErasing));
    announce(isErasing ? "Erasing" : "Painting");
  }

  // Enter marks the box; it does not send the form around it.
  enter(event) {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.mark(false);
  }

  mark(isErasing) {
    const wrong = Object.values(this.box).find((field) => !field.checkValidity());
    if (wrong) return wrong.reportValidity();
    const [left, top, width, height] = ["left", "top", "width", "height"].map((name) => Number(this.box[name].value));
    this.add({ kind: "box", isErasing, left, top, width, height });
    announce(isErasing ? "The box is erased" : "The box is marked");
  }

  // -- doing and undoing ---------------------------------------------------------------

  add(step) {
    this.done.push(step);
    this.undone = [];
    this.draw(step);
    this.changed();
    if (step.kind === "clear") announce("The mask is empty");
    if (step.kind === "invert") announce("The mask is turned inside out");
  }

  undo() {
    const step = this.done.pop();
    if (!step) return;
    this.undone.push(step);
    this.redraw();
    announce("Undone");
  }

  redo() {
    const step = this.undone.pop();
    if (!step) return;
    this.done.push(step);
    this.redraw();
    announce("Redone");
  }

  redraw() {
    this.draw({ kind: "clear" });
    // What was before the mask was cleared is not seen.
    const cleared = this.done.findLastIndex(({ kind }) => kind === "clear");
    for (const step of this.done.slice(cleared + 1)) this.draw(step);
    this.changed();
  }

  changed() {
    this.undoButton.disabled = this.done.length === 0;
    this.redoButton.disabled = this.undone.length === 0;
    this.onChange();
  }

  // -- drawing -------------------------------------------------------------------------

  pen() {
    return this.canvas.getContext("2d", { willReadFrequently: true });
  }

  draw(step) {
    const pen = this.pen();
    pen.setTransform(this.canvas.width / this.full.width, 0, 0, this.canvas.height / this.full.height, 0, 0);
    drawStep(pen, step, this.full);
    if (step.kind === "clear") this.filled = false;
    else if (step.kind === "invert" || step.isErasing) this.filled = null;
    else this.filled = true;
  }

  // -- pointer and keys ----------------------------------------------------------------

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.touch(event));
    canvas.addEventListener("pointermove", (event) => {
      this.follow(event);
      if (this.stroke?.pointer === event.pointerId) this.put(event);
    });
    canvas.addEventListener("pointerup", (event) => this.lift(event, true));
    // Two fingers zoom: what the first of them began is taken back.
    canvas.addEventListener("pointercancel", (event) => this.lift(event, false));
    canvas.addEventListener("pointerleave", () => (this.cursor.hidden = true));
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  touch(event) {
    if (this.stroke || (event.button !== 0 && event.button !== 5)) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    // The other end of a pen erases.
    const isErasing = this.isErasing || event.button === 5;
    this.stroke = { kind: "stroke", pointer: event.pointerId, isErasing, size: this.size, points: [] };
    this.put(event);
  }

  put(event) {
    const points = event.getCoalescedEvents?.() ?? [];
    const fresh = (points.length > 0 ? points : [event]).map((one) => this.place(one));
    const { stroke } = this;
    stroke.points.push(...fresh);
    // Only what is new, and the point it goes on from.
    this.draw({ ...stroke, points: stroke.points.slice(-fresh.length - 1) });
  }

  lift({ pointerId }, isDone) {
    const { stroke } = this;
    if (stroke?.pointer !== pointerId) return;
    this.stroke = null;
    if (!isDone) return this.redraw();
    this.done.push(stroke);
    this.undone = [];
    this.changed();
  }

  press(event) {
    const key = event.key.toLowerCase();
    const isControlled = event.ctrlKey || event.metaKey;
    if (isControlled && key === "z" && event.shiftKey) this.redo();
    else if (isControlled && key === "z") this.undo();
    else if (isControlled && key === "y") this.redo();
    else if (isControlled) return;
    else if (key === "[") this.resize(this.size / STEP);
    else if (key === "]") this.resize(this.size * STEP);
    else if (key === "e") this.erase(!this.isErasing);
    else return;
    event.preventDefault();
  }

  place({ clientX, clientY }) {
    const shown = this.canvas.getBoundingClientRect();
    return {
      x: ((clientX - shown.left) * this.full.width) / shown.width,
      y: ((clientY - shown.top) * this.full.height) / shown.height,
    };
  }

  follow({ clientX, clientY }) {
    const shown = this.canvas.getBoundingClientRect();
    const across = (this.size * shown.width) / this.full.width;
    this.cursor.hidden = false;
    Object.assign(this.cursor.style, {
      width: `${across}px`,
      height: `${across}px`,
      left: `${clientX - shown.left}px`,
      top: `${clientY - shown.top}px`,
    });
  }
}

function drawStep(pen, step, { width, height }) {
  pen.globalCompositeOperation = step.isErasing ? "destination-out" : "source-over";
  pen.fillStyle = pen.strokeStyle = PAINT;
  if (step.kind === "clear") pen.clearRect(0, 0, width, height);
  else if (step.kind === "box") pen.fillRect(step.left, step.top, step.width, step.height);
  else if (step.kind === "stroke") drawStroke(pen, step);
  else {
    pen.globalCompositeOperation = "source-out";
    pen.fillRect(0, 0, width, height);
  }
  pen.globalCompositeOperation = "source-over";
}

function drawStroke(pen, { size, points }) {
  const [first, ...rest] = points;
  pen.beginPath();
  pen.arc(first.x, first.y, size / 2, 0, 2 * Math.PI);
  pen.fill();
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = size;
  pen.beginPath();
  pen.moveTo(first.x, first.y);
  for (const { x, y } of rest) pen.lineTo(x, y);
  pen.stroke();
}
