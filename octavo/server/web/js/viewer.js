// The text of the chosen document, piece by piece, with a highlighted place; clicking a place shows its fold.
// Places are code points, as the server counts them, not JavaScript's UTF-16 units.

import { documentPath, json } from "./api.js";
import { $, guarded, make } from "./dom.js";
import * as fold from "./fold.js";
import * as map from "./map.js";

const PIECE = 4000;
const BEFORE = 800; // characters shown in front of a place
const BINS = 512;

let name = null;
let outline = null;
let asked = 0; // of two places wanted at once the later is shown, whichever text comes first
let gone = { file: 0, char: 0 }; // the place gone to, whose text may still be on its way
let part = { file: 0, start: 0, points: [], mark: null };

const points = (text) => Array.from(text);

export const show = guarded(async (info) => {
  name = info?.name ?? null;
  outline = null;
  $("look").hidden = true;
  fold.clear();
  if (!info) return;
  const wanted = name;
  const found = await json(documentPath(wanted, `/map?bins=${BINS}`));
  if (wanted !== name) return;
  outline = found;
  $("look").hidden = false;
  $("part").replaceChildren(...found.files.map((one, i) => make("option", { value: i }, one.name)));
  map.show(found, (file, char) => load(file, char));
  await load(0, 0);
});

async function pieceOf(file, start, end) {
  const found = await json(documentPath(name, `/text?start=${start}&end=${end}&file=${file}`));
  return points(found.text);
}

// Show the text around a character; `mark` is a place [start, end) to highlight.
const load = guarded(async (file, char, mark = null) => {
  if (!outline) return;
  const mine = (asked += 1);
  gone = { file, char };
  const wanted = name;
  const start = Math.max(0, char - BEFORE);
  const end = Math.min(outline.files[file].chars, Math.max(start + PIECE, mark ? mark[1] : 0));
  const text = await pieceOf(file, start, end);
  if (wanted !== name || mine !== asked) return;
  part = { file, start, points: text, mark };
  draw();
  scroll(mark ? mark[0] : char);
});

function draw() {
  const { start, mark, points: text } = part;
  const slice = (from, to) => text.slice(Math.max(0, from - start), Math.max(0, to - start)).join("");
  const end = start + text.length;
  const children = mark
    ? [slice(start, mark[0]), make("mark", {}, slice(mark[0], mark[1])), slice(mark[1], end)]
    : [slice(start, end)];
  $("text").replaceChildren(...children);
  $("part").value = String(part.file);
  $("earlier").disabled = start === 0;
  $("later").disabled = end >= outline.files[part.file].chars;
  map.seen(part.file, start, end, gone.char);
}

function scroll(char) {
  const box = $("text");
  const found = box.querySelector("mark");
  if (found) box.scrollTop = found.offsetTop - box.offsetTop - box.clientHeight / 3;
  else box.scrollTop = char <= part.start ? 0 : (box.scrollHeight * (char - part.start)) / Math.max(1, part.points.length) - 40;
}

const more = guarded(async (earlier) => {
  const { file, start, points: text } = part;
  const [from, to] = earlier
    ? [Math.max(0, start - PIECE), start]
    : [start + text.length, Math.min(outline.files[file].chars, start + text.length + PIECE)];
  if (to <= from) return;
  const found = await pieceOf(file, from, to);
  if (part.file !== file || part.start !== start) return;
  part = { ...part, start: earlier ? from : start, points: earlier ? [...found, ...text] : [...text, ...found] };
  const [top, tall] = [$("text").scrollTop, $("text").scrollHeight];
  draw();
  $("text").scrollTop = earlier ? top + $("text").scrollHeight - tall : top;
});

// Highlight a source of the document `about`, if it is still the chosen one.
export async function open(about, source, { focus = false } = {}) {
  if (about !== name || !outline) return;
  const file = Math.max(0, outline.files.findIndex((one) => one.name === source.file));
  await load(file, source.start, [source.start, source.end]);
  if (focus) $("text").focus();
}

export function attention(about, sources, mass) {
  if (about === name) map.attention(sources, mass);
}

// The character under the pointer: the text before it, counted in code points.
function charAt(event) {
  const range = document.caretRangeFromPoint?.(event.clientX, event.clientY);
  const spot = document.caretPositionFromPoint?.(event.clientX, event.clientY);
  const [node, offset] = range ? [range.startContainer, range.startOffset] : [spot?.offsetNode, spot?.offset];
  if (!node || !$("text").contains(node)) return null;
  const before = document.createRange();
  before.selectNodeContents($("text"));
  before.setEnd(node, offset);
  return part.start + points(before.toString()).length;
}

const unfold = (file, char) => name && fold.show(name, file, Math.min(char, outline.files[file].chars - 1));

export function begin() {
  map.begin();
  $("earlier").addEventListener("click", () => more(true));
  $("later").addEventListener("click", () => more(false));
  $("part").addEventListener("change", () => load(Number($("part").value), 0));
  $("fold-here").addEventListener("click", () => unfold(gone.file, gone.char));
  $("text").addEventListener("click", (event) => {
    if (String(getSelection())) return;
    const char = charAt(event);
    if (char !== null) unfold(part.file, char);
  });
}
