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

/** Express middleware that notes each request of the server to the SDK's endpoint. */
export function callLog(req, _res, next) {
  if (req.method === "POST" && req.path.startsWith("/api/")) {
    calls.push({
      run_id: req.get("x-run-id") ?? "",
      step_id: req.query.stepId ?? "",
      fn: req.query.fnId ?? "",
      generation: req.get("x-inngest-generation-id") ?? "",
      version: req.get("x-inngest-req-version") ?? "",
      signed: req.get("x-inngest-signature") !== undefined,
      at_ms: Date.now(),
    });
  }
  next();
}
