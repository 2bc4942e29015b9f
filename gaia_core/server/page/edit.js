/** Mounts this part of the page; main.js calls it once. */
export function mount(_element) {}
