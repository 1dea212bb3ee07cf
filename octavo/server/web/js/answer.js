// Draws an answer: plain text, code blocks (JavaScript ones can be run), quoted places. Text only, never markup.

import { make, number } from "./dom.js";
import { run } from "./run.js";

const FENCE = /```([A-Za-z0-9+-]*)[^\S\n]*\n([\s\S]*?)(?:```|$)/g;
const RUNS = new Set(["js", "javascript"]);
const LEAST = 3; // an answer shorter than this marks nothing in a quotation

// Pieces of a text in order: { text } or { code, language }.
export function pieces(text) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(FENCE)) {
    if (match.index > at) found.push({ text: text.slice(at, match.index) });
    found.push({ code: match[2], language: match[1].toLowerCase() });
    at = match.index + match[0].length;
  }
  if (at < text.length) found.push({ text: text.slice(at) });
  // A block ends its line itself.
  return found.map((one, i) => (one.text && i > 0 ? { text: one.text.replace(/^\n/, "") } : one));
}

export function draw(box, text) {
  box.replaceChildren(...pieces(text).map((one) => (one.code === undefined ? one.text : block(one))));
}

function block({ code, language }) {
  const row = make("div", { className: "row" }, make("span", { className: "quiet" }, language || "code"));
  const box = make("div", { className: "code" }, row, make("pre", {}, code));
  if (RUNS.has(language)) row.append(...runner(code, box));
  return box;
}

function runner(code, box) {
  const start = make("button", { type: "button" }, "Run");
  const stop = make("button", { type: "button", disabled: true }, "Stop");
  let ending = null;
  stop.addEventListener("click", () => ending?.abort());
  start.addEventListener("click", async () => {
    box.querySelector(".ran")?.remove();
    const out = make("div", { className: "ran", role: "log", tabIndex: 0, "aria-label": "Output of the program" });
    box.append(out);
    ending = new AbortController();
    [start.disabled, stop.disabled] = [true, false];
    await run(code, { say: (line) => out.append(`${line}\n`), stopped: ending.signal });
    [start.disabled, stop.disabled] = [false, true];
    if (!out.textContent) out.append("(no output)\n");
  });
  return [start, stop];
}

// The places of an answer as buttons that `open` them, best first.
export function sources(list, answer, open) {
  return make("ul", { className: "sources", "aria-label": "Where the answer came from" }, ...list.map((one) => {
    const where = `${one.file}, characters ${number(one.start)} to ${number(one.end)}, ${Math.round(100 * one.weight)} % of the attention`;
    const quote = make("q", {}, ...marked(one.text, answer));
    const button = make("button", { type: "button" }, quote, make("span", { className: "quiet" }, where));
    button.addEventListener("click", () => open(one));
    return make("li", {}, button);
  }));
}

// The quotation with the answer marked where it stands in it word for word.
function marked(text, answer) {
  const said = answer.trim().replace(/[.]$/, "");
  const at = said.length < LEAST ? -1 : text.toLowerCase().indexOf(said.toLowerCase());
  if (at < 0) return [text];
  return [text.slice(0, at), make("mark", {}, text.slice(at, at + said.length)), text.slice(at + said.length)];
}
