// The same `noop` and `chain` functions written with a published TypeScript SDK, served by Express.
//
//   SDK_MAJOR      4 or 3: npm aliases inngest4, inngest3
//   SDK_MODULES    a folder that holds node_modules with these aliases and express
//   CHECKPOINTING  0 switches checkpointing off (SDK 4; SDK 3 has none)

import { createRequire } from "node:module";
import http from "node:http";
import path from "node:path";

import { Ledger, listen, nowUs } from "./ledger.mjs";

const MAJOR = process.env.SDK_MAJOR ?? "4";
const APP_ID = `bench-ts${MAJOR}`;
const require = createRequire(path.join(path.resolve(process.env.SDK_MODULES), "package.json"));
const { Inngest } = require(`inngest${MAJOR}`);
const { serve } = require(`inngest${MAJOR}/express`);
const express = require("express");

const ledger = new Ledger();

function define(client, name, handler) {
  const trigger = { event: `ts${MAJOR}/${name}` };
  if (MAJOR === "3") return client.createFunction({ id: name }, trigger, handler);
  return client.createFunction({ id: name, triggers: [trigger] }, handler);
}

const options = { id: APP_ID, isDev: true, baseUrl: process.env.INNGEST_BASE_URL };
if (MAJOR !== "3") {
  // The default runtime of 10 s a request would cut long chains at high concurrency; what is measured is the step.
  options.checkpointing = process.env.CHECKPOINTING === "0" ? false : { maxRuntime: "10m" };
}
const client = new Inngest(options);

const noop = define(client, "noop", async ({ event }) => {
  ledger.note("finished", event.data.mark, nowUs());
  return "done";
});

const chain = define(client, "chain", async ({ event, step }) => {
  for (let n = 0; n < event.data.length; n += 1) await step.run(`s${n}`, () => n);
  ledger.note("finished", event.data.mark, nowUs());
  return "done";
});

const app = express();
app.disable("x-powered-by");
app.get("/_stats", (request, response) => {
  response.type("json").send(ledger.stats(new URL(request.url, "http://app").searchParams));
});
app.use((request, _response, next) => {
  request.arrivedUs = nowUs();
  next();
});
app.use(express.json({ limit: "16mb" }));
app.use((request, _response, next) => {
  const mark = request.body?.event?.data?.mark;
  if (request.method === "POST" && mark !== undefined) {
    ledger.requests += 1;
    ledger.note("first", mark, request.arrivedUs);
  }
  next();
});
app.use("/api/inngest", serve({ client, functions: [noop, chain] }));
listen(http.createServer(app));
