// The scenario app on version 3 of the TypeScript SDK.

import * as sdk from "inngest3";
import { serve } from "inngest3/express";
import { start } from "./server.mjs";

start(sdk, serve, 3);
