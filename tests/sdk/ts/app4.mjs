// The scenario app on version 4 of the TypeScript SDK.

import * as sdk from "inngest4";
import { serve } from "inngest4/express";
import { start } from "./server.mjs";

start(sdk, serve, 4);
