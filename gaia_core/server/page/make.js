import { h } from "./dom.js";
/** Mounts this view; main.js calls it once. */
export function mount(section) {
  section.append(h("h1", { id: "make-title" }, "Make"));
}
