/** What an author of an extension imports, as one file: `stillpoint-kit.mjs`. Its types are `stillpoint-kit.d.mts`. */
export { checkHandler } from "./harness/check-handler.ts";
export { openHandlerHost } from "./harness/handler-host.ts";
export { runHandler } from "./run-handler.ts";
