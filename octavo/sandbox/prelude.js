// What surrounds a program in its context. A function that runs the source and gives a function that, called after the
// microtasks, gives the report as JSON. Nothing of it is visible to the program but console. Everything that is used
// after the program has run was taken before, since a program may replace all built-ins.
((source, outputRoom, resultRoom) => {
  "use strict";
  const { stringify } = JSON, { apply } = Reflect;
  const run = eval, text = String, then = Promise.prototype.then, { toWellFormed: wellFormed, slice } = String.prototype;
  const find = RegExp.prototype.exec, OutOfRange = RangeError, Proto = Object.getPrototypeOf;
  const promise = Promise.prototype, syntax = SyntaxError.prototype;
  const frame = /(?:^|[\s(])program\.js:(\d+):\d+/;
  const report = { __proto__: null, status: "ok", output: "", result: null, error: null, line: null, asserted: 0,
    failed: 0, early: false };
  let room = outputRoom, value, settled = true, overflowed = false;

  // JSON has no word for these; one key that begins with $ stands for each.
  const tagged = (key, item) => {
    switch (typeof item) {
      case "undefined": return { __proto__: null, $: "undefined" };
      case "function": return { __proto__: null, $: "function" };
      case "symbol": return { __proto__: null, $: "symbol" };
      case "bigint": return { __proto__: null, $: "bigint", value: text(item) };
      case "number": return item - item === 0 ? item : { __proto__: null, $: text(item) };
      default: return item;
    }
  };
  const shown = (item) => {
    if (typeof item === "string") return item;
    if (typeof item === "object" && item !== null) {
      try {
        const json = stringify(item);
        if (typeof json === "string") return json;
      } catch (error) {
        // A cycle: the plain form says at least what it is.
      }
    }
    return text(item);
  };
  const put = (items) => {
    let line = "";
    for (let i = 0; i < items.length; i++) line += (i ? " " : "") + shown(items[i]);
    line = apply(wellFormed, line, []) + "\n";
    if (line.length > room) {
      overflowed = true;
      throw new OutOfRange("the program wrote more than its output limit");
    }
    room -= line.length;
    report.output += line;
  };
  const log = (...items) => put(items);
  const nothing = () => {};
  const count = (condition) => {
    report.asserted++;
    if (!condition) report.failed++;
  };
  const methods = { log, info: log, warn: log, error: log, debug: log, assert: count };
  for (const name of ["dir", "table", "group", "groupEnd", "time", "timeEnd", "trace", "clear", "count"]) {
    methods[name] = nothing;
  }

  const fail = (thrown) => {
    report.status = "error";
    let stack = "";
    try {
      if (typeof thrown === "object" && thrown !== null && typeof thrown.message === "string") {
        report.error = text(thrown.name) + ": " + thrown.message;
        stack = typeof thrown.stack === "string" ? thrown.stack : "";
        report.early = Proto(thrown) === syntax;
      } else {
        report.error = "thrown: " + shown(thrown);
      }
      const place = apply(find, frame, [stack]);
      report.line = place === null ? null : +place[1];
      report.early &&= place === null;
    } catch (again) {
      report.error = "thrown: a value that cannot be shown";
    }
    report.error = apply(wellFormed, report.error, []);
    if (report.error.length > 2000) report.error = apply(slice, report.error, [0, 2000]);
  };
  const keep = (settledValue) => {
    settled = true;
    value = settledValue;
  };
  const refuse = (reason) => {
    settled = true;
    fail(reason);
  };

  for (const name of ["setTimeout", "clearTimeout", "__timer_manager", "SharedArrayBuffer", "Atomics", "WebAssembly"]) {
    if (!Reflect.deleteProperty(globalThis, name)) globalThis[name] = undefined;
  }
  Object.defineProperty(globalThis, "console", { value: Object.freeze(methods), writable: false, configurable: false });
  Object.freeze(JSON);
  Object.defineProperty(globalThis, "JSON", { writable: false, configurable: false });
  try {
    value = run(source + "\n//# sourceURL=program.js");
    if (typeof value === "object" && value !== null && Proto(value) === promise) {
      settled = false;
      apply(then, value, [keep, refuse]);
    }
  } catch (error) {
    fail(error);
  }
  return () => {
    if (report.status === "ok" && !settled) {
      report.status = "error";
      report.error = "the promise that the program ended with never settles";
    }
    if (report.status === "ok") {
      try {
        report.result = stringify(value, tagged);
        if (report.result.length > resultRoom) overflowed = true;
      } catch (error) {
        fail(error);
      }
    }
    if (overflowed) {
      report.status = "output";
      report.result = null;
    }
    return stringify(report);
  };
})
