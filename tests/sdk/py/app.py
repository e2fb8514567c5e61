"""The scenario app of the Python SDK: `APP_ID=… PORT=… SELF_URL=… INNGEST_BASE_URL=… python app.py`."""

import os
from typing import Any

import fastapi
import flow
import functions
import inngest
import inngest.fast_api
import uvicorn
from recorder import CALLS, EFFECTS, CallLog, open_gate

app = fastapi.FastAPI()


@app.get("/_health")
async def health() -> dict[str, str]:
    """Whether the process serves."""
    return {"sdk": ".".join(str(part) for part in functions.VERSION)}


@app.get("/_effects")
async def effects() -> list[dict[str, Any]]:
    """What bodies recorded."""
    return EFFECTS


@app.get("/_calls")
async def calls() -> list[dict[str, Any]]:
    """The server's requests."""
    return CALLS


@app.post("/_send")
async def send(request: fastapi.Request) -> dict[str, list[str]]:
    """Send events by the SDK's own client."""
    events = [inngest.Event(**event) for event in await request.json()]
    return {"ids": await functions.client.send(events)}


@app.post("/_open")
async def open_gates(request: fastapi.Request) -> dict[str, bool]:
    """Let bodies go on that wait at a gate."""
    body = await request.json()
    open_gate(body["token"], str(body["n"]))
    return {"ok": True}


@app.post("/_changing")
async def change(request: fastapi.Request) -> dict[str, bool]:
    """Serve the functions of the app that changes in another way."""
    served = fastapi.FastAPI()
    made = flow.changing(await request.json())
    inngest.fast_api.serve(served, flow.changing_client, made, serve_path=CHANGING)
    Switch.changing = served
    return {"ok": True}


@app.post("/v1/chat/completions")
async def completions(request: fastapi.Request) -> fastapi.Response:
    """A model provider that repeats the last message; the model `fail` is out of capacity."""
    body = await request.json()
    text = body["messages"][-1]["content"]
    EFFECTS.append(
        {"fn": "_provider", "run_id": "", "step": "completions", "attempt": 0, "at_ms": 0, "token": text}
    )
    if body["model"] == "fail":
        return fastapi.responses.JSONResponse({"error": "no capacity"}, status_code=429)
    return fastapi.responses.JSONResponse(
        {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": f"echo: {text}"}}],
            "auth_ok": request.headers.get("authorization") == f"Bearer {functions.AI_KEY}",
        }
    )


CHANGING = "/api/changing"


class Switch:
    """ASGI app: the one that changes on its path, the others on theirs."""

    changing: Any = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on."""
        await (self.changing if scope.get("path") == CHANGING else app)(scope, receive, send)


inngest.fast_api.serve(app, functions.client, functions.functions)
if functions.STEP_IN_CONTEXT:
    # Streaming came with 0.5.
    inngest.fast_api.serve(
        app,
        functions.stream_client,
        functions.stream_functions,
        serve_path="/api/stream",
        streaming=inngest.Streaming.FORCE,
    )

if __name__ == "__main__":
    uvicorn.run(CallLog(Switch()), host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
