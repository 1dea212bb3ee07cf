// Runs a program that the model wrote: in a Worker, in a frame of its own origin, without network, for a limited time.
// The frame's page (sandbox.html) starts the Worker; removing the frame ends both, whatever the program does.

import { make } from "./dom.js";

export const LIMIT_MS = 5000;
export const LIMIT_CHARACTERS = 20000;
const START_MS = 10000;

// Resolves when the program is over; `say` gets its output line by line, `stopped` (AbortSignal) ends it.
export function run(program, { say, stopped }) {
  return new Promise((resolve) => {
    const frame = make("iframe", { hidden: true, title: "Sandbox", src: "/sandbox.html" });
    frame.setAttribute("sandbox", "allow-scripts");
    let [timer, said] = [setTimeout(() => finish("the sandbox did not start"), START_MS), 0];
    const finish = (why) => {
      clearTimeout(timer);
      removeEventListener("message", listen);
      stopped?.removeEventListener("abort", onStop);
      frame.remove();
      if (why) say(why);
      resolve(why);
    };
    const onStop = () => finish("stopped");
    const listen = (event) => {
      if (event.source !== frame.contentWindow) return;
      const { kind, text = "" } = event.data ?? {};
      if (kind === "ready") {
        clearTimeout(timer);
        timer = setTimeout(() => finish(`stopped after ${LIMIT_MS / 1000} seconds`), LIMIT_MS);
        frame.contentWindow.postMessage(program, "*");
      } else if (kind === "line") {
        const line = String(text);
        say(line.slice(0, LIMIT_CHARACTERS - said));
        said += line.length + 1;
        if (said > LIMIT_CHARACTERS) finish(`stopped after ${LIMIT_CHARACTERS} characters of output`);
      } else if (kind === "fail") finish(String(text).slice(0, LIMIT_CHARACTERS));
      else if (kind === "end") finish("");
    };
    addEventListener("message", listen);
    stopped?.addEventListener("abort", onStop);
    document.body.append(frame);
  });
}
