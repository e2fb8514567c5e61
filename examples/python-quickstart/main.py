"""A shop that charges a card, waits a moment and sends a receipt, durably: `uvicorn main:app --port 8000`."""

import datetime
import logging

import fastapi
import inngest
import inngest.fast_api

inngest_client = inngest.Inngest(app_id="shop", is_production=False, logger=logging.getLogger("uvicorn"))


@inngest_client.create_function(
    fn_id="process-order",
    trigger=inngest.TriggerEvent(event="shop/order.placed"),
)
async def process_order(ctx: inngest.Context) -> dict[str, object]:
    """Each step runs once, is retried by itself when it fails, and survives a restart of everything."""
    order = ctx.event.data

    async def charge_card() -> dict[str, object]:
        return {"charge": f"ch_{order['id']}", "cents": order["cents"]}

    async def send_receipt() -> str:
        return f"receipt for {payment['charge']} sent to {order['email']}"

    payment = await ctx.step.run("charge-card", charge_card)
    await ctx.step.sleep("cool-down", datetime.timedelta(seconds=2))
    receipt = await ctx.step.run("send-receipt", send_receipt)
    return {"order": order["id"], "receipt": receipt}


app = fastapi.FastAPI()
inngest.fast_api.serve(app, inngest_client, [process_order])
