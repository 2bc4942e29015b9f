/** Pictures to work on: those the server has, and files of this machine. */

import { pictureAddress } from "./api.js";
import { altOf } from "./results.js";
import { whitePng } from "./white.js";

// What the server takes; other files the browser can open are turned into PNG here.
const TAKEN = ["image/png", "image/jpeg", "image/webp"];
const MOST_BYTES = 20_000_000;
const MOST_PIXELS = 16_777_216;
const MOST_SIDE = 8192;

// A card may show a file as what was there before, long after another one was opened:
// its memory is freed once nothing knows the picture any more.
const addresses = new FinalizationRegistry((address) => URL.revokeObjectURL(address));

/**
 * Give a picture of the server's to work on.
 *
 * A picture has `address`, `width`, `height`, `label`, and `source()`: the fields of a
 * request that say which it is; `record` is what the server knows of it.
 */
export function fromRecord(record) {
  const { width, height, id } = record;
  return { record, address: pictureAddress(record), width, height, label: altOf(record), source: async () => ({ image_id: id }) };
}

/**
 * Give a file of this machine to work on.
 *
 * A photograph that lies on its side is turned by browser and server alike. What is
 * too large for the server is made smaller; `isShrunk` says so.
 *
 * @throws {Error} If the browser cannot open it.
 */
export async function fromFile(file) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const scale = Math.min(1, MOST_SIDE / width, MOST_SIDE / height, Math.sqrt(MOST_PIXELS / (width * height)));
  const isFine = scale === 1 && TAKEN.includes(file.type) && file.size <= MOST_BYTES;
  const sized = { width: Math.floor(width * scale), height: Math.floor(height * scale) };
  // A photograph stays one; what may have holes keeps them.
  const type = file.type === "image/jpeg" || file.size > MOST_BYTES ? "image/jpeg" : "image/png";
  const blob = isFine ? file : await drawn(sized, type, (pen) => pen.drawImage(bitmap, 0, 0, sized.width, sized.height));
  bitmap.close();
  const address = URL.createObjectURL(blob);
  const picture = { address, ...sized, label: file.name || "A pasted picture", isShrunk: scale < 1, source: async () => ({ image_base64: await encoded(blob) }) };
  addresses.register(picture, address);
  return picture;
}

let blank = { size: "", address: null };

/**
 * Give an all-white picture of a size, as a `data:` address.
 *
 * A price depends on how large a picture is and not on what it shows, so this is what
 * a plan is asked with instead of megabytes of it.
 */
export async function standIn({ width, height }) {
  const size = `${width}x${height}`;
  if (blank.size !== size) blank = { size, address: await encoded(await whitePng(width, height)) };
  return blank.address;
}

/** Draw on a sheet of a size, and give it as a file's content. */
export async function drawn({ width, height }, type, draw) {
  const sheet = new OffscreenCanvas(width, height);
  draw(sheet.getContext("2d"));
  return await sheet.convertToBlob({ type, quality: 0.92 });
}

/** Give a file's content as a `data:` address. */
export function encoded(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
