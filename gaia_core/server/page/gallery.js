/** The view of what was made: by campaign, by words, newest first. */

import { call, pictureAddress } from "./api.js";
import { campaign, setCampaign } from "./campaign.js";
import { announce, debounced, h, on } from "./dom.js";
import { altOf } from "./results.js";
import { openPicture } from "./viewer.js";
import { problemWords } from "./work.js";

const PAGE = 30;
// The addresses of pictures open them for a while only, and others may add to them.
const FRESH_MS = 600_000;

/** Mounts this view; main.js calls it once. */
export function mount(section) {
  new Gallery(section).start();
}

class Gallery {
  constructor(section) {
    this.section = section;
    this.turn = 0;
    this.cursor = null;
    this.isStale = true;
    this.loaded = 0;
    this.search = h("input", { type: "search", maxlength: 255, "aria-label": "Search pictures", placeholder: "Search prompts and models" });
    this.campaigns = h("div", { class: "segments", role: "group", "aria-label": "Campaigns" });
    this.grid = h("ul", { class: "gallery-grid", "aria-label": "Pictures" });
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.load() }, "Show more");
    this.note = h("div", { class: "gallery-note" });
    section.append(
      h("header", { class: "gallery-head" }, h("h1", { id: "gallery-title" }, "Gallery"), this.search),
      this.campaigns,
      this.grid,
      this.note,
      h("p", { class: "gallery-more" }, this.more),
    );
  }

  start() {
    this.search.addEventListener("input", debounced(300, () => this.reload()));
    this.grid.addEventListener("keydown", (event) => this.walk(event));
    on("gaia:campaign", () => this.refresh());
    on("gaia:made", () => this.refresh());
    addEventListener("hashchange", () => this.look());
    this.look();
  }

  /** Load what is shown, but only while somebody looks. */
  look() {
    const isShown = location.hash === "#gallery";
    const isOld = performance.now() - this.loaded > FRESH_MS;
    if (isShown && (this.isStale || isOld)) this.reload();
  }

  refresh() {
    this.isStale = true;
    this.look();
  }

  async reload() {
    this.isStale = false;
    this.loaded = performance.now();
    this.cursor = null;
    this.loadCampaigns();
    await this.load({ isNew: true });
  }

  async load({ isNew = false } = {}) {
    const turn = ++this.turn;
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (campaign()) query.set("campaign_id", campaign());
    if (this.search.value.trim()) query.set("search", this.search.value.trim());
    if (this.cursor && !isNew) query.set("cursor", this.cursor);
    this.grid.setAttribute("aria-busy", "true");
    try {
      const { images, next_cursor: next } = await call(`api/images?${query}`);
      if (turn !== this.turn) return;
      this.show(images, next, isNew);
    } catch (error) {
      if (turn === this.turn) this.fail(error, isNew);
    } finally {
      if (turn === this.turn) this.grid.removeAttribute("aria-busy");
    }
  }

  show(images, next, isNew) {
    const cards = images.map((image) => h("li", {}, this.card(image)));
    const known = isNew ? 0 : this.grid.children.length;
    if (isNew) this.grid.replaceChildren(...cards);
    else this.grid.append(...cards);
    this.cursor = next;
    this.more.hidden = !next;
    this.note.replaceChildren(...(this.grid.children.length === 0 ? [this.nothing()] : []));
    const count = this.grid.children.length;
    announce(count === 1 ? "1 picture" : `${count} pictures${next ? ", and more" : ""}`);
    // Whoever asked for more by keyboard goes on with the first of them.
    const isAsking = this.more === document.activeElement || document.activeElement === document.body;
    if (!isNew && cards.length > 0 && isAsking) this.buttons()[known].focus();
  }

  card(image) {
    return h(
      "button",
      { type: "button", class: "gallery-card", "aria-label": `Open: ${altOf(image)}`, onclick: () => openPicture(image) },
      h("img", { src: pictureAddress(image), alt: "", width: image.width, height: image.height, loading: "lazy", decoding: "async" }),
      h("span", { class: "gallery-words" }, altOf(image)),
    );
  }

  nothing() {
    const isSearch = this.search.value.trim() !== "";
    return h(
      "div",
      { class: "empty" },
      h("h2", {}, isSearch ? "Nothing is called that" : campaign() ? "Nothing made for this campaign yet" : "Nothing made yet"),
      h("p", {}, isSearch ? "Search for other words, or in all campaigns." : "What you make is kept here, with its prompt and its seed."),
      h("p", { class: "buttons" }, h("a", { class: "button", href: "#make" }, "Make a picture")),
    );
  }

  // Pictures of another campaign must not stay under the name of this one.
  fail(error, isNew) {
    if (isNew) this.grid.replaceChildren();
    this.more.hidden = true;
    const again = () => (isNew ? this.reload() : this.load());
    this.note.replaceChildren(
      h("div", { class: "empty" }, problemWords(error), h("p", { class: "buttons" }, h("button", { type: "button", onclick: again }, "Try again"))),
    );
    announce(`${error.message} ${error.next}`);
  }

  // -- campaigns -------------------------------------------------------------------------

  async loadCampaigns() {
    try {
      const { campaigns } = await call("api/campaigns");
      const chosen = campaign();
      const isKnown = campaigns.some((one) => one.id === chosen);
      const all = chosen && !isKnown ? [{ id: chosen, images: 0 }, ...campaigns] : campaigns;
      const hadFocus = this.campaigns.contains(document.activeElement);
      this.campaigns.replaceChildren(
        this.choice("", "All", null),
        ...all.map((one) => this.choice(one.id, one.id, one.images)),
      );
      // Whoever goes through them by the arrow keys is not thrown out.
      if (hadFocus) this.campaigns.querySelector(":checked").focus();
    } catch {
      // The pictures say what went wrong.
    }
  }

  choice(id, name, count) {
    return h(
      "label",
      {},
      h("input", { type: "radio", name: "gallery-campaign", value: id, checked: id === (campaign() ?? ""), onchange: () => setCampaign(id) }),
      h("span", { class: "gallery-name" }, name),
      count !== null && h("span", { class: "count" }, String(count)),
    );
  }

  // -- moving by keyboard ----------------------------------------------------------------

  buttons() {
    return [...this.grid.querySelectorAll(".gallery-card")];
  }

  walk(event) {
    const cards = this.buttons();
    const place = cards.indexOf(document.activeElement);
    if (place < 0) return;
    const row = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
    const last = cards.length - 1;
    const goal = { ArrowRight: place + 1, ArrowLeft: place - 1, ArrowDown: place + row, ArrowUp: place - row, Home: 0, End: last }[event.key];
    if (goal === undefined) return;
    event.preventDefault();
    cards[Math.min(last, Math.max(0, goal))].focus();
  }
}
