/** Reads server-sent events from the body of an answer: EventSource can only GET. */
export async function* eventsIn(body) {
  let waiting = "";
  for await (const text of textsIn(body)) {
    const blocks = (waiting + text).split(/\r\n\r\n|\n\n|\r\r/);
    waiting = blocks.pop();
    yield* blocks.map(eventOf).filter(({ data }) => data !== "");
  }
}

// Not every browser can iterate over a stream.
async function* textsIn(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield decoder.decode(value, { stream: true });
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
