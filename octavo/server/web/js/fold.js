// The fold of a place: for the entries around it, which tokens their pooling gates kept, as strips of bars.

import { documentPath, json } from "./api.js";
import { $, guarded, make, number } from "./dom.js";

const TALL = 48; // pixels of the largest bar
let asked = 0;

export function clear() {
  asked += 1;
  $("fold").replaceChildren();
}

const say = (text) => $("fold").replaceChildren(make("p", { className: "quiet", role: "status" }, text));

export const show = guarded(async (name, file, char) => {
  const mine = (asked += 1);
  say("reading this place again");
  let found;
  try {
    found = await json(documentPath(name, `/fold?at=${char}&file=${file}`));
  } catch (error) {
    if (mine === asked) say(error.message);
    return;
  }
  if (mine !== asked) return;
  const layers = [...new Set(found.entries.map((one) => one.layer))];
  if (!layers.length) {
    say("No entry is complete here yet.");
    return;
  }
  const pick = make("select", { id: "fold-layer" });
  pick.append(...layers.map((layer) => {
    const { ratio } = found.entries.find((one) => one.layer === layer);
    return make("option", { value: layer }, `layer ${layer}, ${ratio} tokens an entry`);
  }));
  const strips = make("div", { className: "fold" });
  const draw = () => {
    const kept = found.entries.filter((one) => one.layer === Number(pick.value));
    strips.replaceChildren(...kept.map((one) => entry(one, found.token)));
  };
  pick.addEventListener("change", draw);
  const title = make("label", { htmlFor: "fold-layer" }, `What was kept around character ${number(char)}`);
  $("fold").replaceChildren(make("div", { className: "row" }, title, pick), strips);
  draw();
});

function entry(one, token) {
  const most = Math.max(...one.tokens.map((each) => each.share));
  const top = new Set([...one.tokens].sort((a, b) => b.share - a.share).slice(0, one.tokens.length > 8 ? 6 : 2));
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  const strip = make("div", { className: "strip" }, ...one.tokens.map((each) => {
    const bar = make("i");
    bar.style.height = `${Math.max(1, (TALL * each.share) / most)}px`;
    const text = each.text.replaceAll("\n", "↵") || "·";
    const word = make("span", {}, text);
    const cell = make("div", { className: top.has(each) ? "kept top" : "kept", title: percent(each.share) }, bar, word);
    cell.append(make("span", {}, top.has(each) ? percent(each.share) : " ")); // a blank keeps the words on one line
    if (each.token === token) word.style.textDecoration = "underline";
    return cell;
  }));
  // Bars and fragments of words make no sense read aloud one by one.
  const kept = [...top].map((each) => `${each.text.trim() || "a blank"} ${percent(each.share)}`).join(", ");
  strip.setAttribute("role", "img");
  strip.setAttribute("aria-label", `Of ${one.tokens.length} tokens, most of: ${kept}`);
  return make("section", { className: "entry" }, make("h3", {}, `Entry ${number(one.entry)}`), strip);
}
