/** A white PNG of any size in a few kilobytes; a canvas would write hundreds of them. */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const GREY = 0;
const BITS = 1;

/** Write a white picture as a PNG, one bit for each pixel. */
export async function whitePng(width, height) {
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, width);
  head.setUint32(4, height);
  head.setUint8(8, BITS);
  head.setUint8(9, GREY);
  // Each row begins with the number of its filter: none.
  const row = Math.ceil(width / 8) + 1;
  const rows = new Uint8Array(row * height).fill(0xff);
  for (let place = 0; place < rows.length; place += row) rows[place] = 0;
  const parts = [chunk("IHDR", new Uint8Array(head.buffer)), chunk("IDAT", await deflated(rows)), chunk("IEND", new Uint8Array())];
  return new Blob([new Uint8Array(SIGNATURE), ...parts], { type: "image/png" });
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, checksum(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

// The checksum of PNG: CRC-32, its polynomial written from the lowest bit up.
function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return ~sum >>> 0;
}
