// Serves the scenario functions of one major: `APP_ID=… PORT=… SELF_URL=… INNGEST_BASE_URL=… node app4.mjs`.

import express from "express";
import { AI_KEY, build } from "./functions.mjs";
import { callLog, calls, effects, openGate } from "./recorder.mjs";

/**
 * @param sdk the module `inngest` of one major
 * @param serve its Express adapter
 * @param major 4 or 3
 */
export function start(sdk, serve, major) {
  const { client, functions, streamClient, streamed, changingClient, changing } = build(sdk, major);
  const app = express();
  app.use(callLog);
  app.use(express.json({ limit: "32mb" }));

  app.get("/_health", (_req, res) => res.json({ sdk: major }));
  app.get("/_effects", (_req, res) => res.json(effects));
  app.get("/_calls", (_req, res) => res.json(calls));
  app.post("/_send", async (req, res) => res.json(await client.send(req.body)));

  app.post("/_open", (req, res) => {
    openGate(req.body.token, req.body.n);
    res.json({ ok: true });
  });

  // The functions of the app that changes are served anew, in another way.
  let changed = null;
  app.post("/_changing", (req, res) => {
    changed = serve({ client: changingClient, functions: changing(req.body) });
    res.json({ ok: true });
  });
  app.use("/api/changing", (req, res, next) => (changed === null ? next() : changed(req, res, next)));

  app.all("/_echo", (req, res) => {
    effects.push({ fn: "_echo", run_id: "", step: "echo", token: req.body?.token ?? null });
    res.status(Number(req.query.status ?? 200)).json({
      method: req.method,
      query: req.query,
      body: req.body ?? null,
      mine: req.get("x-mine") ?? null,
    });
  });

  // A model provider that repeats the last message; the model `fail` is out of capacity.
  app.post("/v1/chat/completions", (req, res) => {
    const text = req.body.messages.at(-1).content;
    effects.push({ fn: "_provider", run_id: "", step: "completions", token: text });
    if (req.body.model === "fail") return res.status(429).json({ error: "no capacity" });
    return res.json({
      choices: [{ index: 0, message: { role: "assistant", content: `echo: ${text}` } }],
      auth_ok: req.get("authorization") === `Bearer ${AI_KEY}`,
    });
  });

  app.use("/api/inngest", serve({ client, functions }));
  app.use(
    "/api/stream",
    serve({ client: streamClient, functions: streamed, streaming: major === 4 ? true : "force" }),
  );
  app.listen(Number(process.env.PORT), "127.0.0.1");
}
