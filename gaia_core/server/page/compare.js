/** Two pictures of the same thing, one over the other, with a line between to move. */

import { h } from "./dom.js";

/**
 * Show a picture before and after something was done to it.
 *
 * The line is a range input over the whole picture: dragging, tapping and the arrow
 * keys all move it.
 *
 * @param {{before: string, after: string, label: string}} pictures Their addresses.
 * @returns {HTMLElement}
 */
export function compare({ before, after, label }) {
  const range = h("input", {
    type: "range",
    min: 0,
    max: 100,
    value: 50,
    class: "compare-range",
    "aria-label": `Before and after: ${label}`,
  });
  const box = h(
    "div",
    { class: "compare checks" },
    h("img", { class: "compare-after", src: after, alt: `After: ${label}` }),
    h("div", { class: "compare-before checks" }, h("img", { src: before, alt: `Before: ${label}` })),
    h("span", { class: "compare-line", "aria-hidden": "true" }),
    h("span", { class: "compare-word left", "aria-hidden": "true" }, "before"),
    h("span", { class: "compare-word right", "aria-hidden": "true" }, "after"),
    range,
  );
  const move = () => {
    box.style.setProperty("--split", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % before, ${100 - range.value} % after`);
  };
  range.addEventListener("input", move);
  move();
  return box;
}
