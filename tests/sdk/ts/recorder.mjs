// What really ran, kept in memory and told over HTTP: the judge's evidence against memoised appearances.

export const effects = [];
export const calls = [];

/** Notes that a body ran; the returned function answers how many times it had run in this run before. */
export function recorder(fn, ctx) {
  return (step, extra = {}) => {
    const before = effects.filter((e) => e.run_id === ctx.runId && e.step === step).length;
    effects.push({ fn, run_id: ctx.runId, step, attempt: ctx.attempt, at_ms: Date.now(), ...extra });
    return before;
  };
}

const gates = new Map();
const open = new Set();

const gateOf = (token, n) => {
  const name = `${token}/${n}`;
  if (!gates.has(name)) {
    let pass;
    const passed = new Promise((resolve) => (pass = resolve));
    gates.set(name, { token, pass, passed });
  }
  return gates.get(name);
};

/** Where an event says `gated`, waits until the test opens the gate of its `token` and `n`. */
export async function gate(data) {
  if (data.gated && !open.has(data.token)) await gateOf(data.token, data.n).passed;
}

/** Lets pass who waits, or comes later, at one gate of a token; `*`: at every gate of it. */
export function openGate(token, n) {
  if (n !== "*") return gateOf(token, n).pass();
  open.add(token);
  for (const each of gates.values()) if (each.token === token) each.pass();
}

/** Express middleware that notes each request of the server to the SDK's endpoint, and how it ended. */
export function callLog(req, res, next) {
  if (req.method === "POST" && req.path.startsWith("/api/")) {
    const call = {
      run_id: req.get("x-run-id") ?? "",
      step_id: req.query.stepId ?? "",
      fn: req.query.fnId ?? "",
      generation: req.get("x-inngest-generation-id") ?? "",
      version: req.get("x-inngest-req-version") ?? "",
      signed: req.get("x-inngest-signature") !== undefined,
      at_ms: Date.now(),
      beside: 0,
    };
    call.beside = calls.filter((other) => other.fn === call.fn && !other.ended).length;
    calls.push(call);
    res.on("close", () => (call.ended = res.writableFinished ? "answered" : "aborted"));
  }
  next();
}
