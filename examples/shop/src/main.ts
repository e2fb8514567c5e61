import express from "express";
import { serve } from "inngest/express";
import { functions, inngest } from "./functions.js";

const port = Number(process.env.PORT ?? 3000);
const app = express();
app.use(express.json({ limit: "8mb" }));
app.get("/healthz", (_request, response) => void response.send("ok"));
app.use("/api/inngest", serve({ client: inngest, functions }));

// Whoever places an order is answered when the event is on disk; the rest happens by itself.
app.post("/orders", async (request, response) => {
  const { ids } = await inngest.send({ name: "shop/order.placed", data: request.body });
  response.status(202).json({ event: ids[0] });
});

app.listen(port, process.env.HOST ?? "0.0.0.0", () => console.log(`shop listens on ${port}`));
