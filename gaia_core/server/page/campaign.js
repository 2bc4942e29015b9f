/** The campaign that pictures are kept and paid under; this browser remembers it. */

import { call } from "./api.js";
import { debounced, h, kept, on, tell } from "./dom.js";

/** Give the campaign, or undefined where there is none. */
export function campaign() {
  return kept.get("campaign") || undefined;
}

/** Choose another campaign; the parts of the page hear `gaia:campaign`. */
export function setCampaign(name) {
  kept.set("campaign", name.trim());
  document.getElementById("campaign").value = name.trim();
  tell("gaia:campaign", campaign());
}

/** Bring the field at the top to life. */
export function mountCampaign() {
  const field = document.getElementById("campaign");
  field.value = campaign() ?? "";
  const keep = () => {
    if (field.value.trim() === (campaign() ?? "")) return;
    kept.set("campaign", field.value.trim());
    tell("gaia:campaign", campaign());
  };
  field.addEventListener("input", debounced(500, keep));
  field.addEventListener("change", keep);
  // Ctrl+Enter makes a picture without leaving the field, so no change comes first.
  field.addEventListener("keydown", (event) => event.key === "Enter" && keep());
  field.addEventListener("focus", suggest, { once: true });
  on("gaia:made", () => field.addEventListener("focus", suggest, { once: true }));
}

async function suggest() {
  try {
    const { campaigns } = await call("api/campaigns");
    const names = campaigns.map((one) => one.id ?? one.campaign_id ?? one);
    document
      .getElementById("campaigns")
      .replaceChildren(...names.map((name) => h("option", { value: name })));
  } catch {
    // Suggestions are a help, not a need: the field works without them.
  }
}
