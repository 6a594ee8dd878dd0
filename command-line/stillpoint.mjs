#!/usr/bin/env node
/** What `npx stillpoint` runs: a Node that is too old gets a sentence instead of a syntax error. */
import { nodeIsNewEnough } from "../require-node.mjs";

if (nodeIsNewEnough) await import("./stillpoint.ts");
