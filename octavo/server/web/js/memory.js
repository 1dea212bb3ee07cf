// The meter of cache pages, from /metrics; hidden where the server shows none.

import { text } from "./api.js";
import { $, bytes, number } from "./dom.js";

const EVERY_MS = 5000;
let held = [];

function value(page, name) {
  const line = page.split("\n").find((one) => one.startsWith(`octavo:${name}{`) || one.startsWith(`octavo:${name} `));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(" ")));
}

export function documents(list) {
  held = list;
}

export async function refresh() {
  try {
    const page = await text("/metrics");
    const used = value(page, "cache_pages_used");
    const total = value(page, "cache_pages");
    if (used === undefined || !total) return;
    $("memory-bar").value = used / total;
    const folded = held.reduce((sum, one) => sum + (one.bytes ?? 0), 0);
    $("memory-text").textContent = `${number(used)} of ${number(total)} pages, documents ${bytes(folded)}`;
    $("memory").hidden = false;
  } catch {
    $("memory").hidden = true;
  }
}

export function begin() {
  refresh();
  setInterval(() => document.hidden || refresh(), EVERY_MS);
}
