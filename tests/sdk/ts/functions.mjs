// The scenario functions on the TypeScript SDK, 4 and 3; ids, events and outputs as in ../py/functions.py.

import { setTimeout as pause } from "node:timers/promises";
import { changing, declareFlow } from "./flow.mjs";
import { recorder } from "./recorder.mjs";

const APP = process.env.APP_ID;
const SELF = process.env.SELF_URL;
const MIB = 1024 * 1024;
export const AI_KEY = "sk-innkeeper-secret";

/**
 * All functions, by the client that serves them.
 *
 * @param sdk the module `inngest` of one major
 * @param major 4 or 3: `createFunction` takes its triggers inside the options, or as an argument of its own
 */
export function build(sdk, major) {
  const { Inngest, NonRetriableError, RetryAfterError, referenceFunction, openai } = sdk;
  const client = new Inngest({ id: APP });
  const streamClient = new Inngest({ id: `${APP}-stream`, ...(major === 4 ? { checkpointing: false } : {}) });
  const changingClient = new Inngest({ id: `${APP}-changing` });
  const functions = [];

  const on = (event, expression) => ({
    event: `${APP}/${event}`,
    ...(expression === undefined ? {} : { if: expression }),
  });

  const handlerOf = (id, body) => (ctx) => body(ctx, ctx.step, recorder(id, ctx));

  /** Declares a function; by default the event `{app}/{id}` starts it. */
  function define(id, options, body, using = client) {
    const { triggers = [on(id)], ...rest } = options;
    const handler = handlerOf(id, body);
    const fn =
      major === 4
        ? using.createFunction({ id, triggers, ...rest }, handler)
        : using.createFunction({ id, ...rest }, triggers, handler);
    if (using === client) functions.push(fn);
    return fn;
  }

  const named = (rec, name, waitMs = 0) => async () => {
    rec(name);
    await pause(waitMs);
    return name.toUpperCase();
  };

  const caught = (err) => ({ caught: { name: err.name, message: err.message } });

  // --- Results ---

  define("no-step", {}, async ({ event, events }, _step, rec) => {
    rec("body");
    return { hello: event.data.name ?? null, event: event.name, events: events.length };
  });

  define("event-fields", {}, async ({ event }) => ({
    id: event.id,
    name: event.name,
    ts: event.ts,
    data: event.data,
    user: event.user,
    v: event.v,
  }));

  define("echo", {}, async ({ event }, step) => ({
    through_step: await step.run("keep", () => event.data),
    direct: event.data,
  }));

  define("null-values", {}, async (_ctx, step, rec) => {
    const got = await step.run("nothing", () => {
      rec("nothing");
      return null;
    });
    if (got !== null) throw new Error(`null became ${JSON.stringify(got)}`);
    return null;
  });

  define("undefined-values", {}, async (_ctx, step, rec) => {
    await step.run("nothing", () => {
      rec("nothing");
    });
  });

  // --- Steps ---

  define("single-step", {}, async (_ctx, step, rec) =>
    step.run("a", () => {
      rec("a");
      return { v: 1 };
    }),
  );

  const addUp = async (_ctx, step, rec) => {
    const first = await step.run("a", () => {
      rec("a");
      return 20;
    });
    const sum = await step.run("b", () => {
      rec("b");
      return first + 22;
    });
    return { sum };
  };

  define("two-step", {}, addUp);
  // In version 3 there is nothing to turn off.
  define("two-step-no-checkpoint", major === 4 ? { checkpointing: false } : {}, addUp);

  const boom = async () => {
    throw new Error("fn boom");
  };
  const streamed = [
    define("streamed", {}, addUp, streamClient),
    define("streamed-fails", { retries: 0 }, boom, streamClient),
  ];

  define("loop", {}, async (_ctx, step, rec) => {
    const results = [];
    for (let i = 0; i < 3; i++) {
      results.push(
        await step.run("again", () => {
          rec("again", { i });
          return i;
        }),
      );
    }
    return results;
  });

  define("parallel", {}, async (_ctx, step, rec) => {
    const parts = await Promise.all([
      step.run("a", named(rec, "a", 100)),
      step.run("b", named(rec, "b", 100)),
      step.run("c", named(rec, "c", 100)),
    ]);
    return step.run("join", () => {
      rec("join");
      return parts.join("");
    });
  });

  define("parallel-chains", {}, async (_ctx, step, rec) => {
    const chain = async (name) => {
      const first = await step.run(`${name}1`, named(rec, `${name}1`));
      const second = await step.run(`${name}2`, named(rec, `${name}2`));
      return first + second;
    };
    return Promise.all([chain("a"), chain("b")]);
  });

  define("race", {}, async ({ group }, step, rec) => {
    const run = () =>
      Promise.race([
        step.run("fast", named(rec, "fast")),
        step.sleep("slow", "4s").then(() => "SLOW"),
      ]);
    // Version 4 waits for all of a group unless told that it is a race.
    return { winner: major === 4 ? await group.parallel({ mode: "race" }, run) : await run() };
  });

  // --- Time ---

  define("sleep", {}, async (_ctx, step, rec) => {
    await step.run("before", named(rec, "before"));
    await step.sleep("nap", "1s");
    return step.run("after", named(rec, "after"));
  });

  define("sleep-until-past", {}, async (_ctx, step, rec) => {
    await step.sleepUntil("long-ago", "2024-01-01T00:00:00.000Z");
    return step.run("after", named(rec, "after"));
  });

  define("restart", {}, async (_ctx, step, rec) => {
    await step.run("before", named(rec, "before"));
    await step.sleep("nap", "4s");
    return step.run("after", named(rec, "after"));
  });

  define("future", {}, async ({ event }, _step, rec) => {
    rec("body");
    return { ts: event.ts };
  });

  define(
    "cron-mix",
    { triggers: [{ cron: "* * * * *" }, on("cron-mix")] },
    async ({ event }, _step, rec) => {
      rec("body", { event: event.name, data: event.data, ts: event.ts });
      return { event: event.name };
    },
  );

  // --- Waiting for events ---

  /** What a wait brought, in the form that all SDKs report. */
  const awaited = (event) =>
    event === null
      ? { timed_out: true }
      : { name: event.name, data: event.data, has_id: Boolean(event.id), has_ts: event.ts > 0 };

  define("wait-if", {}, async (_ctx, step) =>
    awaited(
      await step.waitForEvent("answer", {
        event: `${APP}/answer`,
        if: "event.data.key == async.data.key && async.data.ok == true",
        timeout: "30s",
      }),
    ),
  );

  define("wait-match", {}, async (_ctx, step) =>
    awaited(
      await step.waitForEvent("answer", { event: `${APP}/answer`, match: "data.key", timeout: "30s" }),
    ),
  );

  define("wait-any", {}, async ({ event }, step) =>
    awaited(await step.waitForEvent("answer", { event: `${APP}/${event.data.listen}`, timeout: "30s" })),
  );

  define("wait-timeout", {}, async (_ctx, step, rec) => {
    const found = await step.waitForEvent("answer", { event: `${APP}/never`, timeout: "1s" });
    await step.run("after", named(rec, "after"));
    return awaited(found);
  });

  define("wait-and-send", {}, async ({ event }, step) => {
    const { key } = event.data;
    const [found] = await Promise.all([
      step.waitForEvent("pong", { event: `${APP}/pong`, match: "data.key", timeout: "10s" }),
      step.sendEvent("ping", { name: `${APP}/pong`, data: { key } }),
    ]);
    return awaited(found);
  });

  // --- Invoking ---

  const callee = define("callee", {}, async ({ event }, _step, rec) => {
    rec("body", { event: event.name, data: event.data });
    return { double: event.data.n * 2 };
  });

  const calleeFails = define("callee-fails", {}, async () => {
    throw new NonRetriableError("callee boom");
  });

  const calleeSlow = define("callee-slow", {}, async ({ event }, step, rec) => {
    await step.sleep("nap", "3s");
    rec("late", { data: event.data });
    return "late";
  });

  define("invoke-ok", {}, async (_ctx, step) => ({
    got: await step.invoke("call", { function: callee, data: { n: 21 } }),
  }));

  define("invoke-fail", {}, async (_ctx, step) => step.invoke("call", { function: calleeFails, data: {} }));

  define("invoke-fail-caught", {}, async (_ctx, step) => {
    try {
      return await step.invoke("call", { function: calleeFails, data: {} });
    } catch (err) {
      return caught(err);
    }
  });

  define("invoke-timeout", {}, async (_ctx, step) => {
    try {
      return await step.invoke("call", { function: calleeSlow, data: {}, timeout: "1s" });
    } catch (err) {
      return caught(err);
    }
  });

  define("invoke-by-id", {}, async (_ctx, step) => ({
    got: await step.invoke("call", {
      function: referenceFunction({ functionId: "callee" }),
      data: { n: 4 },
    }),
  }));

  define("invoke-cross", {}, async ({ event }, step) => ({
    got: await step.invoke("call", {
      function: referenceFunction({ appId: event.data.app, functionId: "callee" }),
      data: { n: 5 },
    }),
  }));

  define("invoke-unknown", {}, async (_ctx, step) => {
    try {
      return await step.invoke("call", {
        function: referenceFunction({ functionId: "nobody" }),
        data: {},
      });
    } catch (err) {
      return caught(err);
    }
  });

  // --- Sending ---

  define("send-event", {}, async ({ runId }, step) => {
    const events = [0, 1].map((i) => ({ name: `${APP}/received`, data: { i, from: runId } }));
    return { ids: (await step.sendEvent("emit", events)).ids };
  });

  define("received", {}, async ({ event }, _step, rec) => {
    rec("body", { data: event.data });
    return event.data;
  });

  // --- Errors ---

  define("flaky-step", { retries: 3 }, async (_ctx, step, rec) => {
    const result = await step.run("flaky", () => {
      const before = rec("flaky");
      if (before < 2) throw new Error(`not yet (${before})`);
      return { tries: before + 1 };
    });
    await step.run("after", named(rec, "after"));
    return result;
  });

  const fail = (rec, name) => () => {
    rec(name);
    throw new Error("step boom");
  };

  define("step-fails", { retries: 1 }, async (_ctx, step, rec) => step.run("bad", fail(rec, "bad")));

  define("step-fails-caught", { retries: 1 }, async (_ctx, step, rec) => {
    try {
      await step.run("bad", fail(rec, "bad"));
    } catch (err) {
      return { undone: await step.run("rollback", named(rec, "rollback")), message: err.message };
    }
    return "not reached";
  });

  define("fn-retry", { retries: 3 }, async ({ attempt }, _step, rec) => {
    if (rec("body") < 2) throw new Error("fn boom");
    return { attempt };
  });

  define("fn-fails", { retries: 1 }, async (_ctx, _step, rec) => {
    rec("body");
    throw new Error("fn boom");
  });

  define("non-retriable-fn", { retries: 3 }, async (_ctx, _step, rec) => {
    rec("body");
    throw new NonRetriableError("final boom");
  });

  const finalStep = (step, rec) =>
    step.run("bad", () => {
      rec("bad");
      throw new NonRetriableError("final boom");
    });

  define("non-retriable-step", { retries: 3 }, async (_ctx, step, rec) => finalStep(step, rec));

  define("non-retriable-step-caught", { retries: 3 }, async (_ctx, step, rec) => {
    try {
      return await finalStep(step, rec);
    } catch (err) {
      return { message: err.message };
    }
  });

  define("retry-after-fn", { retries: 2 }, async (_ctx, _step, rec) => {
    if (rec("body") === 0) throw new RetryAfterError("later", 2000);
    return "done";
  });

  define("retry-after-step", { retries: 2 }, async (_ctx, step, rec) =>
    step.run("limited", () => {
      if (rec("limited") === 0) throw new RetryAfterError("later", 2000);
      return "done";
    }),
  );

  define("attempts", { retries: 2 }, async ({ attempt, maxAttempts }, step, rec) => {
    await step.run("first", () => {
      if (rec("first", { seen: attempt, max: maxAttempts }) < 1) throw new Error("once");
      return "ok";
    });
    return {
      second: await step.run("second", () => {
        rec("second", { seen: attempt, max: maxAttempts });
        return attempt;
      }),
    };
  });

  const noteFailure = async ({ event }, step, rec) =>
    step.run("note", () => {
      rec("handler", { event: event.name, data: event.data, event_id: event.id });
      return "noted";
    });

  define(
    "with-handler",
    { retries: 0, onFailure: handlerOf("with-handler-handler", noteFailure) },
    async (_ctx, step, rec) => {
      await step.run("good", named(rec, "good"));
      return step.run("bad", fail(rec, "bad"));
    },
  );

  define("patient", { retries: 20 }, async (_ctx, _step, rec) => {
    rec("body");
    return "served";
  });

  // --- Cancelling, internal events ---

  define(
    "cancel-on",
    { cancelOn: [{ event: `${APP}/cancel`, if: "event.data.key == async.data.key" }] },
    async (_ctx, step, rec) => {
      await step.run("before", named(rec, "before"));
      await step.sleep("nap", "60s");
      return step.run("after", named(rec, "after"));
    },
  );

  const observed = ["two-step", "fn-fails", "cancel-on", "callee"]
    .map((fn) => `event.data.function_id == '${APP}-${fn}'`)
    .join(" || ");

  define(
    "observe",
    {
      triggers: ["finished", "failed", "cancelled"].map((end) => ({
        event: `inngest/function.${end}`,
        if: observed,
      })),
    },
    async ({ event }, _step, rec) => {
      rec("seen", { event: event.name, data: event.data, event_id: event.id });
      return "seen";
    },
  );

  // --- Triggers ---

  define("wild", { triggers: [on("wild/*")] }, async ({ event }) => ({ event: event.name }));
  define("wild-dot", { triggers: [on("post.*")] }, async ({ event }) => ({ event: event.name }));

  define(
    "trigger-if",
    { triggers: [on("trigger-if", "event.data.total > 100")] },
    async ({ event }) => ({ total: event.data.total }),
  );

  define(
    "two-triggers",
    { triggers: [on("left"), on("right", "event.data.go == true")] },
    async ({ event }) => ({ event: event.name }),
  );

  define("fan-a", { triggers: [on("fan")] }, async () => "a");
  define("fan-b", { triggers: [on("fan")] }, async () => "b");

  // --- Size, limits, options ---

  define("large-state", {}, async (_ctx, step, rec) => {
    const chunks = [];
    for (let i = 0; i < 5; i++) {
      chunks.push(
        await step.run(`chunk-${i}`, () => {
          rec(`chunk-${i}`);
          return String(i).repeat(MIB);
        }),
      );
    }
    await step.sleep("nap", "1s");
    return step.run("count", () => {
      rec("count");
      return {
        length: chunks.reduce((sum, c) => sum + c.length, 0),
        letters: chunks.map((c) => c[0]).join(""),
      };
    });
  });

  define("one-at-a-time", { concurrency: 1 }, async ({ event }, _step, rec) => {
    rec("enter", { batch: event.data.batch });
    await pause(200);
    rec("leave", { batch: event.data.batch });
    return "done";
  });

  define(
    "options-warn",
    {
      throttle: { limit: 100, period: "60s" },
      priority: { run: "event.data.p" },
      idempotency: "event.data.id",
    },
    async () => "ran",
  );

  if (process.env.BAD_CRON) {
    define("bad-cron", { triggers: [{ cron: process.env.BAD_CRON }] }, async () => "never");
  }

  // --- Signals, fetch, AI ---

  define("signal-wait", {}, async ({ event }, step) => {
    const got = await step.waitForSignal("wait", {
      signal: event.data.signal,
      timeout: event.data.timeout ?? "30s",
      onConflict: "fail",
    });
    return got === null ? { timed_out: true } : got;
  });

  define("signal-send", {}, async ({ event }, step) => {
    await step.sendSignal("send", { signal: event.data.signal, data: { from: "step" } });
    return "sent";
  });

  define("fetch", {}, async ({ event }, step) => {
    const reply = await step.fetch(`${SELF}/_echo?status=${event.data.status ?? 200}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-mine": "yes" },
      body: JSON.stringify({ token: event.data.token }),
    });
    return { status: reply.status, type: reply.headers.get("content-type"), seen: await reply.json() };
  });

  define("fetch-parallel", {}, async (_ctx, step) => {
    const replies = await Promise.all(
      ["one", "two"].map((q) => step.fetch(`${SELF}/_echo?q=${q}`, { method: "GET" })),
    );
    return Promise.all(replies.map(async (r) => (await r.json()).query.q));
  });

  define("fetch-unreachable", { retries: 1 }, async (_ctx, step) => {
    try {
      // Port 1 is nobody's.
      await step.fetch("http://127.0.0.1:1/", { method: "GET" });
      return "answered";
    } catch (err) {
      return caught(err);
    }
  });

  const infer = (step, event, model) =>
    step.ai.infer("infer", {
      model: openai({ model, apiKey: AI_KEY, baseUrl: `${SELF}/v1` }),
      body: { messages: [{ role: "user", content: event.data.token }] },
    });

  define("ai-infer", {}, async ({ event }, step) => {
    const reply = await infer(step, event, "good");
    return { text: reply.choices[0].message.content, auth_ok: reply.auth_ok };
  });

  define("ai-fails", { retries: 1 }, async ({ event }, step) => {
    try {
      return await infer(step, event, "fail");
    } catch (err) {
      return caught(err);
    }
  });

  define("ai-wrap", {}, async (_ctx, step, rec) => ({
    got: await step.ai.wrap(
      "wrap",
      async (prompt) => {
        rec("wrapped");
        return { echo: prompt };
      },
      "hello",
    ),
  }));

  // Two steps beside each other, each with arguments of its own, after another one.
  define("arguments", {}, async (_ctx, step, rec) => {
    const add = (name) => (a, b) => {
      rec(name, { a, b });
      return a + b;
    };
    const first = await step.run("first", add("first"), 1, 2);
    const sums = await Promise.all([
      step.run("left", add("left"), first, 10),
      step.run("right", add("right"), first, 100),
    ]);
    return sums.concat(await step.run("last", add("last"), ...sums));
  });

  declareFlow(define, { handlerOf, on, caught });
  const defineChanging = (id, options, body) => define(id, options, body, changingClient);

  return {
    client,
    functions,
    streamClient,
    streamed,
    changingClient,
    changing: (options) => changing(defineChanging, options),
  };
}
