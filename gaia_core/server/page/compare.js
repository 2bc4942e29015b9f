import { h } from "./dom.js";

/**
 * Show two pictures of the same thing.
 *
 * @param {{before: string, after: string, label: string}} pictures Their addresses.
 * @returns {HTMLElement}
 */
export function compare({ after, label }) {
  return h("img", { src: after, alt: label });
}
