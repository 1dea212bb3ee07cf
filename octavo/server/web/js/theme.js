// Light, dark, or as the system has it; the choice stays in this browser.

import { $ } from "./dom.js";

const ORDER = ["system", "light", "dark"];
const KEY = "octavo-theme";

function show(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  document.dispatchEvent(new Event("theme"));
}

export function begin() {
  let theme = localStorage.getItem(KEY);
  if (!ORDER.includes(theme)) theme = "system";
  show(theme);
  $("theme").addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    localStorage.setItem(KEY, theme);
    show(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(theme));
}
