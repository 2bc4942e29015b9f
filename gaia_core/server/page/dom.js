/** Small things that every part of the page is built with. */

/**
 * Make an element. Words go in as text, never as markup.
 *
 * `h("button", {type: "button", class: "quiet", onclick: go, "aria-label": "Go"}, "→")`
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Say something to whoever does not see the page. */
export function announce(text) {
  const status = document.getElementById("status");
  // The same words twice are said twice only if the region was empty in between.
  status.textContent = "";
  setTimeout(() => (status.textContent = text), 50);
}

/** Show a short note at the edge of the page for a while, and say it. */
export function toast(text) {
  const note = h("p", { class: "toast" }, text);
  document.getElementById("toasts").append(note);
  announce(text);
  setTimeout(() => note.remove(), 6000);
}

/** Tell the other parts of the page: `tell("gaia:made", answer)`. */
export function tell(name, detail) {
  document.dispatchEvent(new CustomEvent(name, { detail }));
}

/** Listen to the other parts of the page. */
export function on(name, listener) {
  document.addEventListener(name, (event) => listener(event.detail));
}

/** Call something once nobody has asked for it for a while. */
export function debounced(milliseconds, action) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), milliseconds);
  };
}

/** Write an amount of money as people read it, never too little: "free", "$0.0038". */
export function money(usd) {
  if (usd === null || usd === undefined) return "price unknown";
  if (Number(usd) === 0) return "free";
  // To the hundredth of a cent; what a float adds in its last digits is no price.
  const parts = Math.ceil(Number((usd * 10_000).toFixed(6)));
  return `$${(parts / 10_000).toFixed(4).replace(/0{1,2}$/, "")}`;
}

/** Write how long something took. */
export function seconds(value) {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 90) return `${Math.round(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

/** Keep a choice of this browser's; what cannot be kept is forgotten with the page. */
export const kept = {
  get(name, otherwise = "") {
    try {
      return localStorage.getItem(`gaia.${name}`) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      if (value) localStorage.setItem(`gaia.${name}`, value);
      else localStorage.removeItem(`gaia.${name}`);
    } catch {
      // A private window may refuse.
    }
  },
};

let dialogs = 0;

/**
 * Open a dialog; Esc, its button and a click beside it close it.
 *
 * Its size is "middle", "wide", or left out for a small one.
 *
 * @returns {HTMLDialogElement} It is gone from the page once it is closed.
 */
export function dialog(title, content, { onclose = () => {}, size } = {}) {
  const id = `dialog-${++dialogs}`;
  const box = h(
    "dialog",
    { "aria-labelledby": id, class: size },
    h(
      "header",
      {},
      h("h2", { id }, title),
      h(
        "button",
        { type: "button", class: "quiet icon", "aria-label": "Close", onclick: () => box.close() },
        "✕",
      ),
    ),
    content,
  );
  box.addEventListener("close", () => {
    box.remove();
    onclose();
  });
  box.addEventListener("click", (event) => {
    if (event.target === box) box.close();
  });
  document.body.append(box);
  box.showModal();
  return box;
}
