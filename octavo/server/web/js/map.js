// The map strip: the whole document from left to right, with what the last answer looked at.
// Upper band: mass on HCA blocks, as in a table of contents; ticks: CSA picks; lower band: quoted places, and what is
// shown in the text, with a line at the place gone to; at the right end the window, whose tokens are read as they are.

import { $, number } from "./dom.js";

const [BAND, TICKS, PLACES] = [[6, 14], [24, 22], [50, 8]]; // top and height in CSS pixels
let state = null;

// outline: { tokens, window, files: [{ name, first_token, tokens, chars }] }; onJump(file number, character).
export function show(outline, onJump) {
  state = outline && { outline, onJump, sources: [], mass: null, at: 0, stop: 0, place: 0 };
  redraw();
}

export function attention(sources, mass) {
  if (!state) return;
  Object.assign(state, { sources, mass });
  redraw();
}

// What is shown, and the character that was gone to: arrows go on from there.
export function seen(file, start, end, char) {
  if (!state) return;
  [state.at, state.stop, state.place] = [start, end, char].map((each) => share(file, each));
  told(file, char);
}

// Where a character lies, 0 to 1 of the document's tokens (characters of a text count as equally long).
function share(file, char) {
  const one = state.outline.files[file];
  if (!one) return 0;
  return (one.first_token + one.tokens * Math.min(1, char / Math.max(1, one.chars))) / Math.max(1, state.outline.tokens);
}

function place(at) {
  const token = at * state.outline.tokens;
  const { files } = state.outline;
  let file = files.findIndex((one) => token < one.first_token + one.tokens);
  if (file < 0) file = files.length - 1;
  const one = files[file];
  const inside = Math.min(1, Math.max(0, (token - one.first_token) / Math.max(1, one.tokens)));
  return [file, Math.min(one.chars - 1, Math.floor(inside * one.chars))];
}

// The largest value that falls on each pixel: bars that overlap would add up to more than any of them.
function columns(list, width) {
  const at = (x) => (x * list.length) / width;
  return Array.from({ length: Math.floor(width) }, (_, x) =>
    Math.max(...list.slice(Math.floor(at(x)), Math.max(Math.floor(at(x)) + 1, Math.ceil(at(x + 1))))));
}

function redraw() {
  const canvas = $("map");
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!state || !width) return;
  const scale = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const paint = canvas.getContext("2d");
  paint.scale(scale, scale);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [accent, line, wash] = ["--accent", "--line", "--wash"].map(colour);
  const [ink, quiet] = ["--ink", "--quiet"].map(colour);
  const bar = (from, to, [top, tall], fill, alpha = 1) => {
    paint.globalAlpha = alpha;
    paint.fillStyle = fill;
    paint.fillRect(from * width, top, Math.max(2, (to - from) * width), tall);
    paint.globalAlpha = 1;
  };
  const { outline, mass, sources } = state;
  bar(state.at, state.stop, [0, height], wash);
  bar(0, 1, BAND, line, 0.35);
  for (const one of outline.files.slice(1)) bar(one.first_token / outline.tokens, 0, [0, height], line);
  const open = Math.min(1, outline.window / Math.max(1, outline.tokens));
  bar(1 - open, 1, PLACES, quiet);
  if (mass) {
    const most = (list) => Math.max(...list, 1e-12);
    const [hca, csa] = [most(mass.hca), most(mass.csa)];
    columns(mass.hca, width).forEach((value, x) => {
      paint.globalAlpha = value / hca;
      paint.fillStyle = accent;
      paint.fillRect(x, BAND[0], 1, BAND[1]);
    });
    paint.globalAlpha = 1;
    mass.csa.forEach((value, i) => {
      const tall = (TICKS[1] * value) / csa;
      if (tall >= 1) bar(i / mass.csa.length, 0, [TICKS[0] + TICKS[1] - tall, tall], accent);
    });
  }
  for (const one of sources) {
    const file = outline.files.findIndex((each) => each.name === one.file);
    bar(share(file, one.start), share(file, one.end), PLACES, accent);
  }
  paint.fillStyle = ink;
  paint.fillRect(Math.min(width - 1, state.place * width), 0, 1, height);
  const places = "Bottom: quoted places; grey at the end, the window, read as it is. Shaded: the text below.";
  $("map-legend").textContent = mass
    ? `Top: table of contents, blocks by attention (HCA). Ticks: index, entries picked (CSA). ${places}`
    : places;
}

function jump(at) {
  if (!state) return;
  state.place = Math.min(0.999999, Math.max(0, at)); // at once: a second press goes on from here, not from what is loaded
  told(...place(state.place));
  state.onJump(...place(state.place));
}

function told(file, char) {
  const canvas = $("map");
  canvas.setAttribute("aria-valuenow", String(Math.round(100 * state.place)));
  canvas.setAttribute("aria-valuetext", `character ${number(char)} of ${state.outline.files[file]?.name ?? ""}`);
  redraw();
}

export function begin() {
  const canvas = $("map");
  canvas.addEventListener("click", (event) => jump(event.offsetX / canvas.clientWidth));
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 0.01, ArrowLeft: -0.01, ArrowUp: 0.01, ArrowDown: -0.01, PageUp: 0.1, PageDown: -0.1 };
    const to = { Home: 0, End: 1 }[event.key] ?? (event.key in steps && state ? state.place + steps[event.key] : undefined);
    if (to === undefined) return;
    event.preventDefault();
    jump(to);
  });
  new ResizeObserver(redraw).observe(canvas);
  document.addEventListener("theme", redraw);
}
