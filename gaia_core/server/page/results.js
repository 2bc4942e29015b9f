import { h } from "./dom.js";
/** Show an answer. */
export function answerCard(answer) {
  return h("article", { class: "answer" }, answer.service);
}
