/** Reads server-sent events from the body of an answer: EventSource can only GET. */
export class EventReader {
  constructor(body) {
    this.body = body;
  }

  async *[Symbol.asyncIterator]() {
    let waiting = "";
    for await (const chunk of chunksOf(this.body.pipeThrough(new TextDecoderStream()))) {
      waiting += chunk;
      const blocks = waiting.split(/\r\n\r\n|\n\n|\r\r/);
      waiting = blocks.pop();
      yield* blocks.map(eventOf).filter((event) => event.data !== "");
    }
  }
}

// Not every browser can iterate over a stream.
async function* chunksOf(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function eventOf(block) {
  const event = { type: "message", data: [] };
  for (const line of block.split(/\r\n|\n|\r/)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (name === "event") event.type = value;
    if (name === "data") event.data.push(value);
  }
  return { type: event.type, data: event.data.join("\n") };
}
