// The conversation: asking, the streamed answer, stopping. With a document chosen each question stands alone.

import { ApiError, events } from "./api.js";
import { draw, sources } from "./answer.js";
import { $, make, problem } from "./dom.js";
import * as memory from "./memory.js";
import * as viewer from "./viewer.js";

let model = "";
let chosen = null;
let history = [];
let going = null;

export function use(name) {
  model = name;
}

export function about(info) {
  chosen = info;
  history = [];
  $("about").textContent = info
    ? `About ${info.name}: each question is asked for itself.`
    : "No document chosen: a plain conversation.";
}

function turn(kind, ...children) {
  const box = make("article", { className: `turn ${kind}`, "aria-label": kind === "asked" ? "You" : "Octavo" }, ...children);
  $("log").append(box);
  box.scrollIntoView({ block: "nearest" });
  return box;
}

// Changes an answer; its end stays in sight if it was.
function following(box, change) {
  const isBelow = () => box.getBoundingClientRect().bottom > innerHeight + 1;
  const was = isBelow();
  change();
  if (!was && isBelow()) box.scrollIntoView({ block: "end" });
}

function body(question) {
  const asked = { role: "user", content: question };
  const made = {
    model,
    messages: chosen ? [asked] : [...history, asked],
    max_tokens: Number($("length").value) || 128,
    temperature: 0,
    stream: true,
  };
  return chosen ? { ...made, document: chosen.name, sources: true, map_bins: 512 } : made;
}

function busy(on) {
  $("send").disabled = on;
  $("stop").disabled = !on;
}

async function ask(question) {
  problem(null);
  turn("asked", make("div", { className: "said" }, question));
  const [thought, said, note] = [make("div", { className: "thought" }), make("div", { className: "said" }), make("p", { className: "quiet" })];
  const box = turn("told", thought, said, note);
  box.setAttribute("aria-busy", "true");
  note.textContent = "reading";
  const about = chosen;
  const sent = body(question);
  going = new AbortController();
  busy(true);
  let [answer, last] = ["", {}];
  try {
    const options = { method: "POST", body: sent, signal: going.signal };
    for await (const event of events("/v1/chat/completions", options)) {
      const choice = event.choices?.[0];
      if (!choice) continue;
      last = { ...last, ...choice };
      const delta = choice.delta ?? {};
      if (delta.reasoning_content) thought.append(delta.reasoning_content);
      if (!delta.content) continue;
      note.textContent = "";
      answer += delta.content;
      following(box, () => draw(said, answer.trimStart()));
    }
    if (!answer.trim()) note.textContent = "no text";
    else note.textContent = last.finish_reason === "length" ? "cut at the length you chose" : "";
    history = about ? [] : [...sent.messages, { role: "assistant", content: answer }];
    show(box, about, last, answer);
  } catch (error) {
    if (error.name === "AbortError") note.textContent = "stopped";
    else {
      note.textContent = error instanceof ApiError ? error.message : `the connection failed: ${error.message}`;
      note.className = "wrong";
    }
  } finally {
    box.removeAttribute("aria-busy");
    going = null;
    busy(false);
    memory.refresh();
  }
}

function show(box, about, last, answer) {
  const found = last.sources ?? [];
  if (!about) return;
  viewer.attention(about.name, found, last.map ?? null);
  if (!found.length) return;
  box.append(sources(found, answer, (one) => viewer.open(about.name, one, { focus: true })));
  viewer.open(about.name, found[0]);
}

export function begin() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const question = $("question").value.trim();
    if (!question || going) return;
    $("question").value = "";
    ask(question);
  });
  $("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("ask").requestSubmit();
  });
  $("stop").addEventListener("click", () => going?.abort());
  document.addEventListener("keydown", (event) => event.key === "Escape" && going?.abort());
  $("clear").addEventListener("click", () => {
    going?.abort();
    history = [];
    $("log").replaceChildren();
    $("question").focus();
  });
}
