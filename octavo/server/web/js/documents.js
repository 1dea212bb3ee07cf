// The list of documents, and reading new ones: files chosen, dropped or pasted, with progress.

import { documentPath, events, json } from "./api.js";
import { $, bytes, guarded, make, number, problem, seconds } from "./dom.js";
import * as memory from "./memory.js";

// Tells "chosen" with the document's information, or null, as detail.
export const changed = new EventTarget();
const AGAIN_MS = 1000;
let list = [];
let chosen = null;
let again = 0;

export const refresh = guarded(async () => {
  list = (await json("/v1/documents")).data;
  memory.documents(list);
  if (chosen !== null && !list.some((one) => one.name === chosen)) choose(null);
  draw();
  clearTimeout(again); // a reading that another page began, or that is being stopped, ends unseen otherwise
  if (list.some((one) => one.state === "reading")) again = setTimeout(refresh, AGAIN_MS);
});

function choose(name) {
  chosen = name;
  draw();
  changed.dispatchEvent(new CustomEvent("chosen", { detail: list.find((one) => one.name === name) ?? null }));
}

const remove = guarded(async (name) => {
  if (!confirm(`Forget ${name}? Its cache is deleted.`)) return;
  await json(documentPath(name), { method: "DELETE" });
  await refresh();
});

function draw() {
  $("documents").replaceChildren(...list.map(item));
}

function item(one) {
  const failed = one.state === "failed";
  const said = failed ? one.error : `${number(one.done || one.tokens)} tokens, ${bytes(one.bytes ?? 0)}`;
  const label = one.state === "ready" || failed ? said : `${one.state}: ${said}`;
  const pressed = String(one.name === chosen);
  const button = make(
    "button",
    { type: "button", className: "choose", "aria-pressed": pressed, disabled: failed || one.state === "reading" },
    make("span", {}, one.name),
    make("span", { className: "quiet" }, label),
  );
  button.addEventListener("click", () => choose(one.name === chosen ? null : one.name));
  const away = make("button", { type: "button", className: "remove", "aria-label": `Forget ${one.name}` }, "×");
  away.addEventListener("click", () => remove(one.name));
  return make("li", {}, button, away);
}

function progressOf(name, stop) {
  const bar = make("progress", { max: 1, value: 0, "aria-label": `Reading ${name}` });
  const line = make("p", { className: "quiet" }, "sending");
  const ours = make("i");
  const theirs = make("i", { className: "large" });
  const [small, large] = [make("span"), make("span")];
  const sizes = make("div", { className: "sizes" }, small, ours, large, theirs);
  sizes.hidden = true;
  const end = make("button", { type: "button", onclick: stop }, "Stop reading");
  const box = make("div", { className: "reading" }, make("strong", {}, name), bar, line, sizes, end);
  const show = (event) => {
    if (!event.total) return;
    bar.max = event.total;
    bar.value = event.done;
    const rate = `${number(event.tokens_per_second ?? 0)} tokens/s, ${seconds(event.seconds_left)} left`;
    line.textContent = `${number(event.done)} of ${number(event.total)} tokens, ${rate}`;
    if (!event.uncompressed_bytes) return;
    sizes.hidden = false;
    small.textContent = `folded ${bytes(event.cache_bytes)}`;
    large.textContent = `unfolded ${bytes(event.uncompressed_bytes)}`;
    const most = Math.max(event.uncompressed_bytes, event.cache_bytes);
    ours.style.width = `${(100 * event.cache_bytes) / most}%`;
    theirs.style.width = `${(100 * event.uncompressed_bytes) / most}%`;
  };
  return { box, show };
}

// Whether the document was read to its end.
const read = guarded(async (wanted, files) => {
  problem(null);
  const name = free(wanted);
  const form = new FormData();
  form.append("name", name);
  for (const file of files) form.append("file", file, file.name);
  const stop = new AbortController();
  const { box, show } = progressOf(name, () => stop.abort());
  $("readings").append(box);
  let ready = false;
  try {
    const told = events("/v1/documents?stream=true", { method: "POST", body: form, signal: stop.signal });
    for await (const event of told) {
      show(event);
      ready = event.state === "ready";
    }
  } finally {
    box.remove();
    await refresh();
  }
  if (ready) choose(name);
  memory.refresh();
  return ready;
});

// The name, or the first of name-2, name-3, … that no document has.
function free(name) {
  const taken = new Set(list.map((one) => one.name));
  let made = name;
  for (let n = 2; taken.has(made); n += 1) made = `${name.slice(0, 95)}-${n}`;
  return made;
}

// A name that the server takes, from a file's.
function nameOf(file) {
  const stem = file.replace(/\.[^.]*$/, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  return stem.slice(0, 100) || "document";
}

export function begin() {
  const drop = $("drop");
  const take = (files) => files.length && read(nameOf(files[0].name), [...files]);
  $("file").addEventListener("change", () => {
    take([...$("file").files]);
    $("file").value = "";
  });
  // Anywhere: a file dropped beside the field would replace the page, and the conversation with it.
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    take([...event.dataTransfer.files]);
  });
  $("paste-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const [name, text] = [$("paste-name").value, $("paste").value];
    const ready = await read(name, [new File([text], `${name}.txt`, { type: "text/plain" })]);
    if (ready && $("paste").value === text) $("paste").value = "";
  });
}
