/** Asks for an API key; it is kept in this tab only. */

import { key } from "./api.js";
import { dialog, h } from "./dom.js";

/**
 * Ask for a key.
 *
 * @param {{isRefused?: boolean}} [why] Whether the one there was refused.
 * @returns {Promise<boolean>} Whether there is another one now.
 */
export function askForKey({ isRefused = false } = {}) {
  return new Promise((resolve) => {
    let isChanged = false;
    const field = h("input", {
      id: "key-field",
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      value: isRefused ? "" : key.get(),
      "aria-describedby": "key-help",
    });
    const use = (value) => {
      isChanged = true;
      key.set(value.trim());
      box.close();
    };
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          use(field.value);
        },
      },
      h(
        "p",
        { class: isRefused ? "notice bad" : "notice" },
        isRefused
          ? "The server refuses this key: it is unknown, has expired or was taken back."
          : "This server asks who you are.",
      ),
      h("label", { for: "key-field" }, "API key"),
      field,
      h(
        "p",
        { id: "key-help", class: "hint" },
        "Whoever runs the server makes one with “gaia keys create”. It stays in this tab and is forgotten when you close it.",
      ),
      h(
        "p",
        { class: "buttons" },
        h("button", { class: "primary" }, "Use this key"),
        key.get() && h("button", { type: "button", onclick: () => use("") }, "Forget it"),
      ),
    );
    const box = dialog("API key", form, { onclose: () => resolve(isChanged) });
    field.focus();
  });
}
