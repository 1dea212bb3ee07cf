// Talking to the server: addresses, the key, errors as text, event streams. Knows nothing of the page.

const KEY = "octavo-key";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
};

// Told whenever the server answers 401.
export const locked = new EventTarget();

async function send(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  const plain = body !== undefined && !(body instanceof FormData);
  if (plain) headers["content-type"] = "application/json";
  const response = await fetch(path, { method, headers, signal, body: plain ? JSON.stringify(body) : body });
  if (response.ok) return response;
  if (response.status === 401) locked.dispatchEvent(new Event("locked"));
  throw new ApiError(await messageOf(response), response.status);
}

async function messageOf(response) {
  try {
    const found = await response.json();
    return found.error?.message ?? `the server answered ${response.status}`;
  } catch {
    return `the server answered ${response.status}`;
  }
}

export async function json(path, options) {
  return (await send(path, options)).json();
}

export async function text(path, options) {
  return (await send(path, options)).text();
}

// The data of each event of a stream, parsed; an event that is an error is thrown.
export async function* events(path, options) {
  const response = await send(path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held += value.replaceAll("\r", "");
      const blocks = held.split("\n\n");
      held = blocks.pop();
      for (const block of blocks) {
        const data = dataOf(block);
        if (data === "[DONE]") return;
        if (data === "") continue;
        const event = JSON.parse(data);
        if (event.error) throw new ApiError(event.error.message ?? String(event.error), 0);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function dataOf(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trimStart()).join("\n");
}

export const documentPath = (name, rest = "") => `/v1/documents/${encodeURIComponent(name)}${rest}`;
