// A shop that charges a card, waits a moment and sends a receipt, durably: `npm start`.

import express from "express";
import { Inngest } from "inngest";
import { serve } from "inngest/express";

const inngest = new Inngest({ id: "shop-ts", isDev: true });

// Each step runs once, is retried by itself when it fails, and survives a restart of everything.
const processOrder = inngest.createFunction(
  { id: "process-order", triggers: [{ event: "shop/order.placed" }] },
  async ({ event, step }) => {
    const order = event.data;

    const payment = await step.run("charge-card", async () => ({
      charge: `ch_${order.id}`,
      cents: order.cents,
    }));
    await step.sleep("cool-down", "2s");
    const receipt = await step.run(
      "send-receipt",
      async () => `receipt for ${payment.charge} sent to ${order.email}`,
    );
    return { order: order.id, receipt };
  },
);

const app = express();
app.use(express.json({ limit: "8mb" }));
app.use("/api/inngest", serve({ client: inngest, functions: [processOrder] }));
const port = Number(process.env.PORT ?? 3000);
app.listen(port, "127.0.0.1", () => console.log(`shop at http://127.0.0.1:${port}/api/inngest`));
