/** Has a prompt worked out by a provider that can; the person's own words come back. */

import { call } from "./api.js";
import { campaign } from "./campaign.js";
import { announce, h, money, on, tell } from "./dom.js";
import { problemWords } from "./work.js";

/** Make the buttons that belong to a prompt; they show only where somebody can do it. */
export function enhancer(prompt) {
  const go = h("button", { type: "button", class: "quiet small", hidden: true }, "Work it out");
  const back = h("button", { type: "button", class: "quiet small", hidden: true }, "Put my words back");
  const trouble = h("div", { class: "trouble", hidden: true });
  let before = "";

  const put = (words) => {
    prompt.value = words;
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
  };
  go.addEventListener("click", async () => {
    if (!prompt.reportValidity()) return;
    before = prompt.value;
    trouble.hidden = true;
    go.disabled = true;
    go.textContent = "Working it out…";
    try {
      const answer = await call("api/images/enhance-prompt", { prompt: before.trim(), campaign_id: campaign() });
      put(answer.prompt);
      back.hidden = false;
      announce(`${answer.service} worked it out, ${money(answer.cost_usd)}.`);
      tell("gaia:paid", answer);
    } catch (error) {
      trouble.replaceChildren(problemWords(error));
      trouble.hidden = false;
      announce(`${error.message} ${error.next ?? ""}`);
    } finally {
      go.disabled = false;
      go.textContent = "Work it out";
    }
  });
  back.addEventListener("click", () => {
    put(before);
    back.hidden = true;
    prompt.focus();
  });
  on("gaia:models", ({ models }) => {
    go.hidden = !models.some((one) => !one.unavailable && one.capabilities.includes("prompt-enhancement"));
  });
  return h("div", { class: "enhance" }, back, go, trouble);
}
