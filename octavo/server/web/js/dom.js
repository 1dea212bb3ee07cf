// Small helpers: elements from names and text (never from markup), numbers for people, the line for problems.

export const $ = (id) => document.getElementById(id);

// An element with attributes and children; strings become text.
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function bytes(count) {
  let rest = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (rest < 999.5) return `${Number(rest.toPrecision(3))} ${unit}`;
    rest /= 1000;
  }
  return `${Number(rest.toPrecision(3))} TB`;
}

export function seconds(count) {
  if (count === null || count === undefined) return "…";
  if (count < 90) return `${Math.ceil(count)} s`;
  return count < 5400 ? `${Math.round(count / 60)} min` : `${(count / 3600).toFixed(1)} h`;
}

export const number = (count) => Math.round(count).toLocaleString("en");

export function problem(error) {
  if (error?.name === "AbortError") return;
  $("problem").hidden = !error;
  $("problem").textContent = error ? String(error.message ?? error) : "";
}

// Runs an asynchronous action; what goes wrong is shown.
export const guarded = (action) => async (...given) => {
  try {
    return await action(...given);
  } catch (error) {
    problem(error);
    return undefined;
  }
};
