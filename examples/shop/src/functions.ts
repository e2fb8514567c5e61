import { Inngest, NonRetriableError } from "inngest";

// In a cluster the Secret `shop-inngest-env` says where Innkeeper is and which keys to use; on a laptop INNGEST_DEV does.
export const inngest = new Inngest({ id: "shop" });

type Order = { id: string; customer: string; cents: number; email: string };

/** Takes an order through payment, shipping and the receipt. Each step runs once and survives a restart of everything. */
const processOrder = inngest.createFunction(
  {
    id: "process-order",
    triggers: [{ event: "shop/order.placed" }],
    cancelOn: [{ event: "shop/order.cancelled", if: "async.data.id == event.data.id" }],
    concurrency: [{ limit: 20 }],
  },
  async ({ event, step }) => {
    const order = event.data as Order;
    if (order.cents <= 0) throw new NonRetriableError(`order ${order.id} has no amount`);

    const payment = await step.run("charge-card", async () => ({ charge: `ch_${order.id}`, cents: order.cents }));
    await step.sendEvent("tell-warehouse", { name: "shop/parcel.requested", data: { id: order.id } });
    const parcel = await step.waitForEvent("wait-for-parcel", {
      event: "shop/parcel.sent",
      timeout: "7d",
      if: "async.data.id == event.data.id",
    });
    if (parcel === null) {
      await step.run("refund", async () => ({ refunded: payment.charge }));
      return { order: order.id, status: "refunded" };
    }
    const receipt = await step.run("send-receipt", async () => `receipt for ${payment.charge} sent to ${order.email}`);
    return { order: order.id, status: "sent", receipt };
  },
);

/** The warehouse: here it packs at once. */
const packParcel = inngest.createFunction(
  { id: "warehouse/pack parcel", triggers: [{ event: "shop/parcel.requested" }] },
  async ({ event, step }) => {
    const parcel = await step.run("pack", async () => ({ id: event.data.id as string, weight: 1200 }));
    await step.sleep("until-the-van-comes", "1s");
    await step.sendEvent("sent", { name: "shop/parcel.sent", data: parcel });
    return parcel;
  },
);

/** Every night at half past two in Paris, whatever the summer time does. */
const nightlyReport = inngest.createFunction(
  { id: "nightly-report", triggers: [{ cron: "TZ=Europe/Paris 30 2 * * *" }] },
  async ({ step }) => step.run("write", async () => ({ written: true })),
);

export const functions = [processOrder, packParcel, nightlyReport];
