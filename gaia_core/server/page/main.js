/** Puts the page together: the views, the theme, the campaign and the API key. */

import { key, onKeyNeeded } from "./api.js";
import { mount as mountEdit } from "./edit.js";
import { mount as mountGallery } from "./gallery.js";
import { mount as mountMake } from "./make.js";
import { mount as mountSpend } from "./spend.js";
import { mountCampaign } from "./campaign.js";
import { announce, kept, on } from "./dom.js";
import { askForKey } from "./keydialog.js";

const VIEWS = { make: "Make", edit: "Edit", gallery: "Gallery" };
const THEMES = ["system", "light", "dark"];

/** Show one of the views; the address keeps it, so that Back and a reload work. */
export function show(view) {
  if (location.hash !== `#${view}`) location.hash = view;
}

function route() {
  const view = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "make";
  for (const name of Object.keys(VIEWS)) {
    document.getElementById(name).hidden = name !== view;
    const link = document.querySelector(`.views a[href="#${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[view]} · Gaia images`;
}

function mountTheme() {
  const button = document.getElementById("theme-button");
  const apply = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.setAttribute("aria-label", `Theme: ${theme}`);
    button.title = `Theme: ${theme}`;
  };
  apply(kept.get("theme", "system"));
  button.addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(kept.get("theme", "system")) + 1) % THEMES.length];
    kept.set("theme", theme === "system" ? "" : theme);
    apply(theme);
    announce(`Theme: ${theme}`);
  });
}

function mountKey() {
  onKeyNeeded(() => askForKey({ isRefused: Boolean(key.get()) }));
  document.getElementById("key-button").addEventListener("click", async () => {
    if (await askForKey()) location.reload();
  });
}

mountTheme();
mountKey();
mountCampaign();
mountMake(document.getElementById("make"));
mountEdit(document.getElementById("edit"));
mountGallery(document.getElementById("gallery"));
mountSpend(document.getElementById("spend"));
addEventListener("hashchange", route);
on("gaia:edit", () => show("edit"));
on("gaia:show", show);
on("gaia:reuse", () => show("make"));
route();
