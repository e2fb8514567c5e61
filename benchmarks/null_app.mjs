// The null app: answers the SDK protocol with canned operations and does no work of its own, so that what is
// measured is the server. It reads only what it must of a request, by looking for a few keys in the bytes.
//
// Functions (triggered by an event null/NAME whose data holds `mark`, the run's number in the ledger):
//   noop                one request, output at once
//   chain               data.length steps, one request each
//   chain-checkpointed  data.length steps in one request, each reported by POST /v1/checkpoint/{run}/async
//   fan                 data.width parallel steps
//   sleep               one sleep until data.wake_at (ms since the epoch), then ends
//   wait                waits for null/resume with the same data.key, then ends
//   blocked             concurrency 1 and no answer before POST /_release, so that its other runs stay queued

import { createHash } from "node:crypto";
import http from "node:http";

import { Ledger, listen, nowUs } from "./ledger.mjs";

const SERVER = process.env.INNGEST_BASE_URL;
const APP_ID = "bench-null";
const NAMES = ["noop", "chain", "chain-checkpointed", "fan", "sleep", "wait", "blocked"];
const HEADERS = {
  "Content-Type": "application/json",
  "x-inngest-sdk": "inngest-js:v4.24.0",
  "x-inngest-sdk-handled": "true",
  "x-inngest-req-version": "2",
};
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });
const ledger = new Ledger();
const held = [];

// ---- operations ------------------------------------------------------------------------------------------------

const sha1 = (text) => createHash("sha1").update(text).digest("hex");
const stepIds = [];
const stepId = (n) => (stepIds[n] ??= sha1(`s${n}`));
const stepOp = (n, op) => {
  const data = op === "StepRun" ? `,"data":${n}` : "";
  return `{"id":"${stepId(n)}","op":"${op}","name":"s${n}","displayName":"s${n}","opts":{},"userland":{"id":"s${n}"}${data}}`;
};
const COMPLETE = `[{"op":"RunComplete","id":"${sha1("complete")}","data":"done"}]`;
const SLEEP_ID = sha1("sleep");
const WAIT_ID = sha1("wait");

// The number after `key` (such as `"mark":`) in the request's bytes, -1 where it does not occur.
function numberAfter(body, key) {
  let at = body.indexOf(key);
  if (at < 0) return -1;
  at += key.length;
  while (body[at] === 0x20) at += 1;
  let value = 0;
  let digits = 0;
  for (; body[at] >= 0x30 && body[at] <= 0x39; at += 1, digits += 1) value = value * 10 + body[at] - 0x30;
  return digits ? value : -1;
}

// ---- talking to the server -------------------------------------------------------------------------------------

function post(path, body) {
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
    const request = http.request(SERVER + path, { method: "POST", agent, headers }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ status: response.statusCode, text: Buffer.concat(chunks).toString() }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

function registration(url) {
  const functions = NAMES.map((name) => ({
    id: `${APP_ID}-${name}`,
    name,
    triggers: [{ event: `null/${name}` }],
    ...(name === "blocked" ? { concurrency: [{ limit: 1 }] } : {}),
    steps: {
      step: {
        id: "step",
        name: "step",
        runtime: { type: "http", url: `${url}?fnId=${APP_ID}-${name}&stepId=step` },
        retries: { attempts: 4 },
      },
    },
  }));
  return { url, deployType: "ping", framework: "null", appName: APP_ID, functions, sdk: "js:v4.24.0", v: "0.1" };
}

async function sync(request, body, response) {
  const url = `http://${request.headers.host}/api/inngest`;
  if (request.headers["x-inngest-sync-kind"] === "in_band") {
    const { appName, ...rest } = registration(JSON.parse(body).url ?? url);
    const answer = { ...rest, app_id: appName, sdk_author: "inngest", sdk_language: "js", sdk_version: "4.24.0" };
    response.writeHead(200, { ...HEADERS, "x-inngest-sync-kind": "in_band" }).end(JSON.stringify(answer));
    return;
  }
  const answer = await post("/fn/register", JSON.stringify(registration(url)));
  const ok = answer.status === 200;
  const message = ok ? "Successfully registered" : answer.text;
  response.writeHead(answer.status, HEADERS).end(JSON.stringify({ message, modified: ok }));
}

// Reports every step that is not done yet; false where the server refused one.
async function checkpointAll(body, length) {
  const { ctx } = JSON.parse(body);
  const head = {
    run_id: ctx.run_id,
    fn_id: ctx.fn_id,
    qi_id: ctx.qi_id,
    request_id: ctx.request_id,
    generation_id: ctx.generation_id,
    request_started_at: Date.now(),
  };
  const prefix = JSON.stringify(head).slice(0, -1);
  for (let n = ctx.stack.current; n < length; n += 1) {
    const steps = `,"ts":${Date.now()},"steps":[${stepOp(n, "StepRun")}]}`;
    const { status } = await post(`/v1/checkpoint/${ctx.run_id}/async`, prefix + steps);
    if (status !== 200) return false;
  }
  return true;
}

// ---- calls -----------------------------------------------------------------------------------------------------

function answer(response, status, text) {
  response.writeHead(status, { ...HEADERS, "Content-Length": Buffer.byteLength(text) });
  response.end(text);
}

function finish(response, mark, status, text) {
  ledger.note("finished", mark, nowUs());
  answer(response, status, text);
}

function fan(response, query, body, mark, current) {
  const target = query.get("stepId");
  if (target !== "step") {
    const width = numberAfter(body, '"width":');
    for (let n = 0; n < width; n += 1) {
      if (stepId(n) === target) return answer(response, 206, `[${stepOp(n, "StepRun")}]`);
    }
    return answer(response, 500, JSON.stringify({ name: "Error", message: `no step ${target}` }));
  }
  const width = numberAfter(body, '"width":');
  if (current >= width) return finish(response, mark, 206, COMPLETE);
  const planned = [];
  for (let n = 0; n < width; n += 1) planned.push(stepOp(n, "StepPlanned"));
  return answer(response, 206, `[${planned.join(",")}]`);
}

function sleep(response, body, mark, current, at) {
  if (current > 0) {
    ledger.note("resumed", mark, at);
    return finish(response, mark, 206, COMPLETE);
  }
  // A duration, not a date: dates are rounded to whole seconds on the way. Due is counted from this very moment.
  const ms = Math.max(1, numberAfter(body, '"wake_at":') - Date.now());
  ledger.note("slept", mark, nowUs() + ms * 1000);
  return answer(response, 206, `[{"id":"${SLEEP_ID}","op":"Sleep","name":"${ms}ms","displayName":"sleep","opts":{}}]`);
}

function wait(response, mark, current, at) {
  if (current > 0) {
    ledger.note("resumed", mark, at);
    return finish(response, mark, 206, COMPLETE);
  }
  ledger.note("slept", mark, at);
  const opts = `{"timeout":"24h","if":"event.data.key == async.data.key"}`;
  const op = `{"id":"${WAIT_ID}","op":"WaitForEvent","name":"null/resume","displayName":"wait","opts":${opts}}`;
  return answer(response, 206, `[${op}]`);
}

async function call(response, query, body, at) {
  const name = query.get("fnId").slice(APP_ID.length + 1);
  const mark = numberAfter(body, '"mark":');
  const current = numberAfter(body, '"current":');
  ledger.requests += 1;
  ledger.note("first", mark, at);
  switch (name) {
    case "noop":
      return finish(response, mark, 200, '"done"');
    case "chain":
      if (current >= numberAfter(body, '"length":')) return finish(response, mark, 206, COMPLETE);
      return answer(response, 206, `[${stepOp(current, "StepRun")}]`);
    case "chain-checkpointed":
      if (await checkpointAll(body, numberAfter(body, '"length":'))) return finish(response, mark, 206, COMPLETE);
      return answer(response, 500, '{"name":"Error","message":"a checkpoint was refused"}');
    case "fan":
      return fan(response, query, body, mark, current);
    case "sleep":
      return sleep(response, body, mark, current, at);
    case "wait":
      return wait(response, mark, current, at);
    case "blocked":
      held.push(() => finish(response, mark, 206, COMPLETE));
      return undefined;
    default:
      return answer(response, 500, JSON.stringify({ name: "Error", message: `no function ${name}` }));
  }
}

async function route(request, response, body, at) {
  const split = request.url.indexOf("?");
  const path = split < 0 ? request.url : request.url.slice(0, split);
  const query = new URLSearchParams(split < 0 ? "" : request.url.slice(split + 1));
  if (request.method === "POST" && query.has("fnId")) return call(response, query, body, at);
  if (request.method === "PUT") return sync(request, body, response);
  if (path === "/_stats") return answer(response, 200, ledger.stats(query));
  if (path === "/_release") {
    for (const release of held.splice(0)) release();
    return answer(response, 200, "{}");
  }
  if (request.method === "GET") {
    const probe = { function_count: NAMES.length, has_event_key: false, has_signing_key: false, mode: "dev" };
    return answer(response, 200, JSON.stringify({ ...probe, schema_version: "2024-05-24" }));
  }
  return answer(response, 404, "{}");
}

listen(
  http.createServer((request, response) => {
    const at = nowUs();
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      route(request, response, body, at).catch((error) => {
        process.stderr.write(`${error.stack}\n`);
        if (!response.headersSent) answer(response, 500, JSON.stringify({ name: "Error", message: String(error) }));
      });
    });
  }),
);
