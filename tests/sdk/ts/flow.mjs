// Functions with every option of flow control, on the TypeScript SDK; ids, events and outputs as in ../py/flow.py.
//
// Events carry `token` (the test's own), `n` (which of its events), `key`, and `gated`: whether the body stays in its
// request until the test opens the gate of `token` and `n`.

import { gate } from "./recorder.mjs";

const APP = process.env.APP_ID;
const KEY = "event.data.key";
const TOKEN = "event.data.token";
const SAME = "event.data.token == async.data.token && event.data.n == async.data.n";

/** What a test finds a recorded body by. */
const marks = ({ event, events }) => ({
  token: event.data.token ?? null,
  n: event.data.n ?? null,
  ns: events.map((each) => each.data.n ?? null),
});

/** One request, which lasts as long as the test wants. */
const gated = async (ctx, _step, rec) => {
  rec("enter", marks(ctx));
  await gate(ctx.event.data);
  rec("leave", marks(ctx));
  return ctx.event.data.n ?? null;
};

/** Waits for an event, without a request. */
const waits = async (ctx, step, rec) => {
  await step.run("before", () => {
    rec("before", marks(ctx));
  });
  await step.waitForEvent("wake", { event: `${APP}/flow-wake`, if: SAME, timeout: "1m" });
  return step.run("after", () => {
    rec("after", marks(ctx));
    return ctx.event.data.n;
  });
};

/** A failure handler. */
const noted = async ({ event }, _step, rec) => {
  rec("handler", { token: event.data.event.data.token });
  return "noted";
};

/**
 * Declares the functions.
 *
 * @param define declares one, see functions.mjs
 * @param tools what functions.mjs has made: `{handlerOf, on, caught}`
 */
export function declareFlow(define, { handlerOf, on, caught }) {
  // --- Concurrency ---

  define("flow-number", { concurrency: 2 }, gated);
  define("flow-key", { concurrency: { limit: 1, key: KEY } }, gated);
  define("flow-two-limits", { concurrency: [{ limit: 1, key: KEY }, { limit: 2 }] }, gated);
  define("flow-env-low", { concurrency: { limit: 1, key: KEY, scope: "env" } }, gated);
  define("flow-env-high", { concurrency: { limit: 2, key: KEY, scope: "env" } }, gated);
  define("flow-account-low", { concurrency: { limit: 1, key: `"openai"`, scope: "account" } }, gated);
  define("flow-account-high", { concurrency: { limit: 2, key: `"openai"`, scope: "account" } }, gated);
  define("flow-waits", { concurrency: 1 }, waits);

  // --- Starts ---

  define("flow-throttle", { throttle: { limit: 2, period: "1s" } }, gated);
  define("flow-throttle-burst", { throttle: { limit: 1, period: "1s", burst: 3 } }, gated);
  define("flow-throttle-key", { throttle: { limit: 1, period: "1s", key: KEY } }, gated);
  define("flow-rate", { rateLimit: { limit: 2, period: "1h" } }, gated);
  define("flow-rate-key", { rateLimit: { limit: 1, period: "1h", key: KEY } }, gated);
  define("flow-rate-soon", { rateLimit: { limit: 1, period: "1s", key: KEY } }, gated);
  define("flow-once", { idempotency: KEY }, gated);
  define("flow-names", { triggers: [on("flow-left"), on("flow-right")] }, gated);
  define("flow-other", { triggers: [on("flow-right")] }, gated);
  define("flow-priority", { concurrency: 1, priority: { run: "event.data.p" } }, gated);

  // --- Gathering ---

  define("flow-debounce", { debounce: { period: "1s", key: KEY } }, gated);
  define("flow-debounce-ceiling", { debounce: { period: "1m", timeout: "1s", key: KEY } }, gated);
  define(
    "flow-batch",
    { batchEvents: { maxSize: 3, timeout: "1m", key: KEY, if: "event.data.alone == false" } },
    gated,
  );
  define("flow-batch-soon", { batchEvents: { maxSize: 10, timeout: "1s", key: KEY } }, gated);

  // --- Cancelling ---

  const cancel = (more) => ({ cancelOn: [{ event: `${APP}/flow-cancel-now`, ...more }] });

  define("flow-cancel", cancel({ if: SAME }), waits);
  define("flow-cancel-match", cancel({ match: "data.token" }), waits);
  define("flow-cancel-late", cancel({ if: SAME, timeout: "1s" }), async (ctx, step, rec) => {
    await step.sleep("nap", "1500ms");
    return waits(ctx, step, rec);
  });
  define(
    "flow-abort",
    { concurrency: { limit: 1, key: TOKEN }, onFailure: handlerOf("flow-abort-handler", noted) },
    gated,
  );
  define("flow-two-steps", {}, async (ctx, step, rec) => {
    await step.run("first", () => gated(ctx, step, rec));
    await step.run("second", () => {
      rec("second", marks(ctx));
    });
    return "done";
  });
  define("flow-bulk", {}, waits);
  const child = define("flow-child", {}, gated);

  define("flow-parent", {}, async ({ event }, step) => {
    try {
      return { got: await step.invoke("call", { function: child, data: event.data }) };
    } catch (err) {
      return caught(err);
    }
  });

  define(
    "flow-observe",
    {
      triggers: [
        { event: "inngest/function.cancelled", if: `event.data.function_id.startsWith('${APP}-flow-')` },
      ],
    },
    async ({ event }, _step, rec) => {
      rec("cancelled", { cancelled: event.data.run_id, event_id: event.id });
      return "seen";
    },
  );

  // --- Combinations ---

  define(
    "flow-mix",
    {
      debounce: { period: "1s", key: KEY },
      throttle: { limit: 1, period: "1s" },
      concurrency: { limit: 1, key: TOKEN },
    },
    gated,
  );
  define(
    "flow-batch-one",
    { batchEvents: { maxSize: 2, timeout: "1m", key: TOKEN }, concurrency: 1 },
    gated,
  );
  define(
    "flow-batch-once",
    { batchEvents: { maxSize: 2, timeout: "1m", key: TOKEN }, idempotency: KEY },
    gated,
  );
  define("flow-debounce-once", { debounce: { period: "1s", key: KEY }, idempotency: KEY }, gated);
  const rated = define("flow-rate-callee", { rateLimit: { limit: 1, period: "1h", key: TOKEN } }, gated);

  define("flow-rate-caller", {}, async ({ event }, step) => {
    const { data } = event;
    const first = await step.invoke("first", { function: rated, data });
    try {
      return { first, second: await step.invoke("second", { function: rated, data }) };
    } catch (err) {
      return { first, ...caught(err) };
    }
  });

  // --- Singletons and timeouts ---

  define("flow-single-skip", { singleton: { mode: "skip", key: KEY } }, gated);
  define(
    "flow-rights",
    { singleton: { mode: "skip", key: KEY }, rateLimit: { limit: 2, period: "1h", key: KEY } },
    gated,
  );
  define("flow-single-cancel", { singleton: { mode: "cancel", key: KEY } }, gated);
  define(
    "flow-single-debounce",
    { singleton: { mode: "skip", key: KEY }, debounce: { period: "1s", key: TOKEN } },
    gated,
  );
  define(
    "flow-start-timeout",
    { concurrency: { limit: 1, key: TOKEN }, timeouts: { start: "1s" } },
    gated,
  );
  define("flow-finish-timeout", { timeouts: { finish: "1s" } }, async (ctx, step, rec) => {
    const got = await gated(ctx, step, rec);
    if (ctx.event.data.nap) await step.sleep("nap", "60s");
    return got;
  });
}

/**
 * The functions of the app `{APP}-changing`, as a test wants them: see `Changing` in ../flow.py.
 *
 * @param define declares one for the client of that app, and returns it
 */
export function changing(define, options) {
  const own = {};
  if (options.concurrency) own.concurrency = options.concurrency;
  if (options.throttle) own.throttle = { limit: options.throttle, period: "1h" };
  const made = [define("flow-standing", {}, gated)];
  if (!options.removed) {
    made.push(define("flow-changing", own, gated), define("flow-leaving", {}, waits));
  }
  if (options.ticks) {
    const token = options.ticks;
    made.push(
      define(
        "flow-ticking",
        { triggers: [{ cron: "* * * * * *" }], singleton: { mode: "skip" } },
        async (_ctx, _step, rec) => {
          rec("enter", { token, n: 0 });
          await gate({ token, n: 0, gated: true });
          return "ticked";
        },
      ),
    );
  }
  return made;
}
