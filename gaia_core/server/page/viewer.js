/** One picture, as large as the window allows, with what is known of it. */

import { call, pictureAddress } from "./api.js";
import { dialog, h, money } from "./dom.js";
import { actionsOf, altOf } from "./results.js";

const KINDS = {
  "text-to-image": "made from words",
  "image-to-image": "made from a picture",
  inpainting: "repainted",
  outpainting: "extended",
  upscaling: "enlarged",
  "background-removal": "cut out",
};

/** Open a picture large. */
export function openPicture(image) {
  const actions = actionsOf(image);
  const facts = factList(image);
  addPrice(facts, image);
  const box = dialog(
    "Picture",
    h(
      "div",
      { class: "viewer" },
      h(
        "a",
        { class: "viewer-picture checks", href: pictureAddress(image), target: "_blank", rel: "noreferrer", "aria-label": "Open in its full size in a new tab" },
        h("img", { src: pictureAddress(image), alt: altOf(image), width: image.width, height: image.height }),
      ),
      h("div", { class: "viewer-side" }, image.prompt && h("p", { class: "viewer-prompt" }, image.prompt), facts, actions),
    ),
    { size: "wide" },
  );
  // Whatever is chosen here happens on the page below.
  actions.addEventListener("click", (event) => {
    if (event.target.closest("button")) box.close();
  });
}

/** List what is known of a picture. */
export function factList(image) {
  const facts = [
    ["Kind", KINDS[image.capability] ?? image.capability],
    ["Size", `${image.width} × ${image.height}`],
    ["Seed", image.seed],
    ["Made by", image.provider],
    ["Model", image.model],
    ["Campaign", image.campaign_id],
    ["Made", image.created_at && new Date(image.created_at).toLocaleString()],
    ["Operation", image.operation_id],
  ];
  return h(
    "dl",
    { class: "facts" },
    facts
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]),
  );
}

// A picture's record has no price: its operation has, and may have made several.
async function addPrice(facts, image) {
  try {
    const { cost_usd: cost, images } = await call(`api/operations/${image.operation_id}`);
    const what = images.length > 1 ? `${money(cost)} for ${images.length} pictures` : money(cost);
    if (cost !== null) facts.append(h("dt", {}, "Cost"), h("dd", {}, what));
  } catch {
    // The picture is what was asked for; its price is an extra.
  }
}
